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
    from connector_plugin_duckdb.storage import Storage

CLOSE_SECONDS = 5.0


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
        self._storage: Storage | None = None

    async def start(self) -> None:
        """Import DuckDB, so that the first query does not have to wait for it."""
        await self._engine()

    async def close(self) -> None:
        """Stop the queries that still run."""
        await self._workers.close(CLOSE_SECONDS)

    async def do(self, task_template: TaskTemplate, inputs: Mapping[str, Any], output_prefix: str = "") -> Resource:
        """Run the query; when the call is cancelled, DuckDB is interrupted and its thread's end awaited.

        Raises:
            InvalidInputError: the SQL is wrong, or its result is not what the task declares.
            PermissionDeniedError: it reaches for what the operator does not allow.
            PermanentError: it needs more memory or disk than it may have.
            BackendUnavailableError: an object store or a database file cannot be had now.
        """
        request = read_request(task_template)
        jobs = await self._engine()
        storage = self._storage = self._storage or jobs.Storage(self._config)
        staging = jobs.Staging(self._config.staging_directory)
        job = jobs.Job(self._config, storage, staging, task_template, request, inputs, output_prefix)
        outputs = await self._workers.run(job.run, job.overgrown)
        return Resource(Phase.SUCCEEDED, outputs=outputs)

    async def _engine(self) -> Any:
        """Import what needs DuckDB and fsspec: not before the connector is used, and not on the event loop."""
        return await asyncio.to_thread(import_module, "connector_plugin_duckdb.job")
