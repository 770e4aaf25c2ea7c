"""The task that a workflow author writes for this connector; needs the extra `flytekit`."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from flyteidl.core.tasks_pb2 import TaskTemplate
from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.base_task import PythonTask
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.interface import Interface
from flytekit.core.type_engine import TypeEngine
from flytekit.models.literals import LiteralMap
from flytekit.models.task import Sql
from flytekit.tools.translator import get_serializable

from connector_core import Resource
from connector_core.literals import Directory, File, Schema, StructuredDataset, to_python_map
from connector_plugin_duckdb.config import load_config
from connector_plugin_duckdb.connector import DuckDBConnector

RESULT = "result"
"""The output's name where a task has a single one."""


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
        setup: Sequence[str] = (),
        database: str | None = None,
        read_only: bool = True,
        **kwargs: Any,
    ) -> None:
        interface = Interface(inputs=dict(inputs or {}), outputs=_outputs(output))
        super().__init__(task_type="duckdb_query", name=name, task_config=None, interface=interface, **kwargs)
        self._query = query
        self._custom: dict[str, Any] = {"setup": [setup] if isinstance(setup, str) else list(setup)}
        if database is not None:
            self._custom |= {"database": database, "read_only": read_only}

    @property
    def query(self) -> str:
        """The SQL, as it was written."""
        return self._query

    def get_sql(self, settings: SerializationSettings) -> Sql:  # noqa: ARG002 - flytekit's signature
        """Return the query for the task template."""
        return Sql(statement=self._query, dialect=Sql.Dialect.ANSI)

    def get_custom(self, settings: SerializationSettings) -> dict[str, Any]:  # noqa: ARG002 - the same
        """Return what else the connector needs."""
        return {key: value for key, value in self._custom.items() if value or key == "read_only"}

    def execute(self, **kwargs: Any) -> LiteralMap:
        """Run the query here, for trying a workflow locally; its SQL reaches only its own inputs, as on a host."""
        context = FlyteContextManager.current_context()
        serialisation = context.serialization_settings or SerializationSettings(ImageConfig())
        template = get_serializable(OrderedDict(), serialisation, self).template.to_flyte_idl()
        inputs = to_python_map(TypeEngine.dict_to_literal_map(context, kwargs, self.get_input_types()).to_flyte_idl())
        prefix = context.file_access.get_random_remote_directory()
        places = [
            prefix,
            *_uris(list(inputs.values())),
            *([self._custom["database"]] if "database" in self._custom else []),
        ]
        connector = DuckDBConnector(load_config({"allowed_directories": _folders(places)}))
        # In a thread of its own, since flytekit may call this from within a running event loop.
        with ThreadPoolExecutor(1) as thread:
            resource = thread.submit(asyncio.run, _run(connector, template, inputs, prefix)).result()
        return LiteralMap.from_flyte_idl(resource.outputs)


async def _run(connector: DuckDBConnector, template: TaskTemplate, inputs: Mapping[str, Any], prefix: str) -> Resource:
    try:
        return await connector.do(template, inputs, prefix)
    finally:
        await connector.close()


def _outputs(output: Any) -> dict[str, Any]:
    if isinstance(output, Mapping):
        return dict(output)
    return {} if output is None else {RESULT: output}


def _uris(value: Any) -> list[str]:
    if isinstance(value, File | Directory | StructuredDataset | Schema):
        return [value.uri]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [uri for item in value for uri in _uris(item)] if isinstance(value, list) else []


def _folders(places: Sequence[str]) -> list[str]:
    local = [place.removeprefix("file://") for place in places]
    return sorted({str(Path(one).absolute().parent) for one in local if "://" not in one})
