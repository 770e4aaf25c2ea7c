"""The engine that a connector's queries share: object stores, the folder of their folders, and query processes."""

from collections.abc import Mapping
from typing import Any

from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_plugin_duckdb.config import DuckDBConfig
from connector_plugin_duckdb.job import Job
from connector_plugin_duckdb.pool import Pool
from connector_plugin_duckdb.process import Limits
from connector_plugin_duckdb.request import Request
from connector_plugin_duckdb.staging import StagingRoot
from connector_plugin_duckdb.storage import Storage


class Engine:
    """Makes jobs of requests; a module of its own, since what it imports is not to be loaded with the plugin."""

    def __init__(self, config: DuckDBConfig) -> None:
        self._config = config
        self._storage = Storage(config)
        self._root = StagingRoot(config.staging_directory)
        self.pool = Pool(Limits(int(config.memory_limit), config.threads), config.max_concurrent)

    def warm_up(self) -> None:
        """Remove what ended hosts have left behind, and start the first query process.

        Raises:
            BackendUnavailableError: it does not start.
        """
        self._root.open()
        self.pool.warm_up()

    def job(self, template: TaskTemplate, request: Request, inputs: Mapping[str, Any], output_prefix: str) -> Job:
        """Return the job of a request."""
        staging = self._root.staging()
        return Job(self._config, self._storage, self.pool, staging, template, request, inputs, output_prefix)

    def close(self) -> None:
        """End the processes and remove the folders."""
        self.pool.close()
        self._root.close()
