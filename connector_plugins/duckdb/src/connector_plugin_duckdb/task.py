"""The task that a workflow author writes for this connector with flytekit; needs the extra `flytekit`."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.base_task import PythonTask
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.interface import Interface
from flytekit.core.type_engine import TypeEngine
from flytekit.models.literals import LiteralMap
from flytekit.models.task import Sql
from flytekit.tools.translator import get_serializable

from connector_core.literals import to_python_map
from connector_plugin_duckdb.authoring import RESULT, Declared, outputs_of

__all__ = ["RESULT", "DuckDBQuery"]


class DuckDBQuery(PythonTask[None]):
    """Runs SQL on DuckDB in the connector host: no container, no image.

        hottest = DuckDBQuery(
            "hottest",
            "SELECT max(temp_max) FROM weather WHERE year(date) = $year",
            inputs={"weather": FlyteFile, "year": int},
            output=float,
        )

    Inputs are named parameters (`$year`); a `StructuredDataset`, or a `FlyteFile` with Parquet, CSV or JSON, is also a
    table of its name. A single value takes a query that gives one row; a `list` takes a column of all rows, `list[dict]`
    whole rows.

    The engine waits 10 s for the answer unless its settings say otherwise; the README of connector-plugin-duckdb says how.

    Args:
        name: the task's name.
        query: one or more SQL statements; the last one gives the result.
        inputs: the inputs' types by name.
        output: the result's type; several columns by name; or `None` for a query without result.
        setup: statements to run before the query.
        database: a database file, in a folder of the host that its operator allows.
        read_only: whether the file is opened for reading only.
        kwargs: whatever else flytekit's tasks take, such as `metadata`.
    """

    def __init__(
        self,
        name: str,
        query: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        output: Any = None,
        setup: str | Sequence[str] = (),
        database: str | None = None,
        read_only: bool = True,
        **kwargs: Any,
    ) -> None:
        interface = Interface(inputs=dict(inputs or {}), outputs=outputs_of(output))
        super().__init__(task_type="duckdb_query", name=name, task_config=None, interface=interface, **kwargs)
        self._declared = Declared.of(query, setup, database, read_only)

    @property
    def query(self) -> str:
        """The SQL, as it was written."""
        return self._declared.query

    def get_sql(self, settings: SerializationSettings) -> Sql:  # noqa: ARG002 - flytekit's signature
        """Return the query for the task template."""
        return Sql(statement=self.query, dialect=Sql.Dialect.ANSI)

    def get_custom(self, settings: SerializationSettings) -> dict[str, Any]:  # noqa: ARG002 - the same
        """Return what else the connector needs."""
        return self._declared.to_custom()

    def execute(self, **kwargs: Any) -> LiteralMap:
        """Run the query here, for trying a workflow locally; its SQL reaches only its own inputs, as on a host."""
        context = FlyteContextManager.current_context()
        serialisation = context.serialization_settings or SerializationSettings(ImageConfig())
        template = get_serializable(OrderedDict(), serialisation, self).template.to_flyte_idl()
        inputs = to_python_map(TypeEngine.dict_to_literal_map(context, kwargs, self.get_input_types()).to_flyte_idl())
        prefix = context.file_access.get_random_remote_directory()
        return LiteralMap.from_flyte_idl(self._declared.run_here(template, inputs, prefix))
