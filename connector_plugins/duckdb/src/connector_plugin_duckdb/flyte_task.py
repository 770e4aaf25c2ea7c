"""The task that a workflow author writes for this connector with SDK 2; needs the extra `flyte`."""

import asyncio
import inspect
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

import flyte
from flyte.extend import TaskTemplate
from flyte.models import NativeInterface, SerializationContext
from flyte.types import TypeEngine
from flyteidl.core import literals_pb2, tasks_pb2
from flyteidl.core.types_pb2 import LiteralType
from flyteidl2.core.literals_pb2 import LiteralMap
from flyteidl2.core.tasks_pb2 import Sql

from connector_core.literals import to_python_map
from connector_plugin_duckdb.authoring import Declared, outputs_of


class DuckDBQuery(TaskTemplate[Any, Any, Any]):
    """Runs SQL on DuckDB in the connector host: no container, no image.

        hottest = DuckDBQuery(
            "hottest",
            "SELECT max(temp_max) FROM weather WHERE year(date) = $year",
            inputs={"weather": flyte.io.File, "year": int},
            output=float,
        )

    Inputs are named parameters (`$year`); a `DataFrame`, or a `File` with Parquet, CSV or JSON, is also a table of its
    name. A single value takes a query that gives one row; a `list` takes a column of all rows, `list[dict]` whole rows.

    Args:
        name: the task's name.
        query: one or more SQL statements; the last one gives the result.
        inputs: the inputs' types by name.
        output: the result's type; several columns by name; or `None` for a query without result.
        setup: statements to run before the query.
        database: a database file, in a folder of the host that its operator allows.
        read_only: whether the file is opened for reading only.
        kwargs: whatever else the SDK's tasks take, such as `retries`.
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
        self._declared = Declared.of(query, setup, database, read_only)
        interface = NativeInterface(
            inputs={key: (value, inspect.Parameter.empty) for key, value in (inputs or {}).items()},
            outputs=outputs_of(output),
        )
        super().__init__(task_type="duckdb_query", name=name, interface=interface, **{"image": None, **kwargs})

    def sql(self, sctx: SerializationContext) -> Any:  # noqa: ARG002 - the SDK's signature
        """Return the query for the task template."""
        return Sql(statement=self._declared.query, dialect=Sql.ANSI)

    def custom_config(self, sctx: SerializationContext) -> dict[str, Any]:  # noqa: ARG002 - the same
        """Return what else the connector needs: engines of the 2.x line fail a task without `custom`."""
        return {"read_only": True} | self._declared.to_custom()

    async def execute(self, **kwargs: Any) -> Any:
        """Run the query here, for trying a workflow locally; its SQL reaches only its own inputs, as on a host."""
        kinds = {name: kind for name, (kind, _default) in self.interface.inputs.items()}
        given = await TypeEngine.dict_to_literal_map(kwargs, kinds)
        inputs = to_python_map(literals_pb2.LiteralMap.FromString(given.SerializeToString()))
        found = await asyncio.to_thread(self._declared.run_here, self._template(), inputs, _output_prefix())
        literals = LiteralMap.FromString(found.SerializeToString())
        outputs = await TypeEngine.literal_map_to_kwargs(literals, self.interface.outputs)
        values = tuple(outputs[name] for name in self.interface.outputs)
        return values if len(values) > 1 else next(iter(values), None)

    def _template(self) -> tasks_pb2.TaskTemplate:
        template = tasks_pb2.TaskTemplate(type=self.task_type)
        template.sql.statement = self._declared.query
        template.custom.update(self._declared.to_custom())
        template.interface.SetInParent()
        for name, kind in self.interface.outputs.items():
            literal_type = LiteralType.FromString(TypeEngine.to_literal_type(kind).SerializeToString())
            template.interface.outputs.variables[name].type.CopyFrom(literal_type)
        return template


def _output_prefix() -> str:
    """Return a place for tables, which is made when one is written: the run's, or a temporary one where there is no run."""
    context = flyte.ctx()
    if bool(context):
        return str(context.raw_data_path.get_random_remote_path())
    return str(Path(tempfile.gettempdir()) / f"duckdb-query-{token_hex(8)}")
