"""The common part of both SDKs' task classes: an author's declarations, and a run of them without a host."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core.literals import Directory, File, Schema, StructuredDataset
from connector_plugin_duckdb.config import DuckDBConfig
from connector_plugin_duckdb.connector import DuckDBConnector

RESULT = "result"
"""The output's name where a task has a single one."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A query as its author wrote it."""

    query: str
    setup: tuple[str, ...]
    database: str | None
    read_only: bool

    @classmethod
    def of(cls, query: str, setup: str | Sequence[str], database: str | None, read_only: bool) -> Self:
        """Take the arguments of a task class; a single statement may be a text."""
        return cls(query, (setup,) if isinstance(setup, str) else tuple(setup), database, read_only)

    def to_custom(self) -> dict[str, Any]:
        """Return what the connector reads beside the SQL."""
        custom: dict[str, Any] = {"setup": list(self.setup)} if self.setup else {}
        if self.database is not None:
            custom |= {"database": self.database, "read_only": self.read_only}
        return custom

    def run_here(self, template: TaskTemplate, inputs: Mapping[str, Any], prefix: str) -> LiteralMap:
        """Run the query in this process, for trying a workflow; its SQL reaches only its own inputs, as on a host.

        Raises:
            ConnectorError: as on a host.
        """
        places = [*_uris(list(inputs.values())), prefix]
        if self.database is not None:
            places.append(str(Path(self.database).absolute().parent))
        config = DuckDBConfig().opened([_as_uri(place) for place in places])
        # In a thread of its own, since an SDK may call this from within a running event loop.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, _run(DuckDBConnector(config), template, inputs, prefix)).result()


def outputs_of(output: Any) -> dict[str, Any]:
    """Return the outputs' types by name: of several, of a single one, or of none."""
    if isinstance(output, Mapping):
        return dict(output)
    return {} if output is None else {RESULT: output}


async def _run(
    connector: DuckDBConnector, template: TaskTemplate, inputs: Mapping[str, Any], prefix: str
) -> LiteralMap:
    try:
        outputs = (await connector.do(template, inputs, prefix)).outputs
    finally:
        await connector.close()
    return outputs if isinstance(outputs, LiteralMap) else LiteralMap()


def _uris(value: Any) -> list[str]:
    if isinstance(value, File | Directory | StructuredDataset | Schema):
        return [value.uri]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [uri for item in value for uri in _uris(item)] if isinstance(value, list) else []


def _as_uri(place: str) -> str:
    return place if "://" in place else Path(place).absolute().as_uri()
