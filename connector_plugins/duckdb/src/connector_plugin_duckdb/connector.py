"""The DuckDB connector: a query in, its result out."""

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import Phase, Resource, SyncConnectorBase
from connector_plugin_duckdb.config import DuckDBConfig
from connector_plugin_duckdb.request import read_request
from connector_plugin_duckdb.workers import Workers

if TYPE_CHECKING:
    from connector_plugin_duckdb.engine import Engine

CLOSE_SECONDS = 5.0
TRIM_SECONDS = 61.0


class DuckDBConnector(SyncConnectorBase):
    """Serves `duckdb_query`: runs the SQL of `sql.statement` or `custom["query"]`, with the inputs as `$name`.

    The engine waits 10 s for an answer unless it is told otherwise (3 s in older releases), and stops the query then:
    for longer ones set `timeouts: {ExecuteTaskSync: 300s}` for this host in the engine's connector settings. The README
    shows where.
    """

    name = "DuckDB"
    task_type_name = "duckdb_query"

    def __init__(self, config: DuckDBConfig | None = None) -> None:
        self._config = config or DuckDBConfig()
        self._workers = Workers(self._config.max_concurrent)
        self._engine: Engine | None = None
        self._trimming: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start the first query process, so that the first query does not have to wait for it.

        Raises:
            BackendUnavailableError: it does not start.
        """
        engine = await self._get_engine()
        await asyncio.to_thread(engine.warm_up)

    async def close(self) -> None:
        """Stop the queries that still run, and end their processes."""
        if self._trimming is not None:
            self._trimming.cancel()
        await self._workers.close(CLOSE_SECONDS)
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)

    async def do(self, task_template: TaskTemplate, inputs: Mapping[str, Any], output_prefix: str = "") -> Resource:
        """Run the query; when the call is cancelled, DuckDB is interrupted and its end awaited, or forced.

        Raises:
            InvalidInputError: the SQL is wrong, or its result is not what the task declares.
            PermissionDeniedError: it reaches for what the operator does not allow.
            PermanentError: it needs more memory or disk than it may have.
            BackendUnavailableError: an object store or a database file cannot be had now.
            TransientError: DuckDB crashed.
        """
        request = read_request(task_template)
        engine = await self._get_engine()
        job = engine.job(task_template, request, inputs, output_prefix)
        try:
            outputs = await self._workers.run(job.run, job.overgrown)
        finally:
            self._trim_later(engine)
        return Resource(Phase.SUCCEEDED, outputs=outputs)

    def _trim_later(self, engine: "Engine") -> None:
        """End processes that no burst of queries needs any more, a while after the last query."""
        if self._trimming is not None:
            self._trimming.cancel()
        loop = asyncio.get_running_loop()
        self._trimming = loop.call_later(TRIM_SECONDS, lambda: loop.run_in_executor(None, engine.pool.trim))

    async def _get_engine(self) -> "Engine":
        """Import what runs queries: not before the connector is used, and not on the event loop."""
        if self._engine is None:
            module = await asyncio.to_thread(import_module, "connector_plugin_duckdb.engine")
            if self._engine is None:  # another call may have been faster
                self._engine = module.Engine(self._config)
        return self._engine
