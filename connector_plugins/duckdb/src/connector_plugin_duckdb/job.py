"""One query from end to end, as it runs in its thread."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core.errors import InvalidInputError, PermanentError
from connector_plugin_duckdb.config import SECTION, DuckDBConfig
from connector_plugin_duckdb.inputs import Inputs, bring
from connector_plugin_duckdb.outputs import Outputs
from connector_plugin_duckdb.pool import Pool
from connector_plugin_duckdb.request import Request
from connector_plugin_duckdb.session import Session, parameters
from connector_plugin_duckdb.staging import Staging
from connector_plugin_duckdb.stop import Stop
from connector_plugin_duckdb.storage import Storage
from connector_plugin_duckdb.wire import Box, Database, Query, View

PART = "00000.parquet"
"""The name of a table's only file, below the table's URI."""

_ANSWER_BYTES = 2**20
"""The most bytes of an answer beyond twice `inline_bytes`: columns' names and types, texts of errors."""

_RESERVED = frozenset({"memory", "temp", "system", "main", "pg_catalog", "information_schema"})


@dataclass(frozen=True, slots=True)
class Job:
    """A query with all that it needs."""

    config: DuckDBConfig
    storage: Storage
    pool: Pool
    staging: Staging
    template: TaskTemplate
    request: Request
    inputs: Mapping[str, Any]
    output_prefix: str

    def run(self, stop: Stop) -> LiteralMap:
        """Bring the inputs, run the SQL in a process and return the outputs.

        Raises:
            ConnectorError: with whose fault it is.
        """
        with self.staging:
            outputs = Outputs(self.template, self.config, _Tables(self, stop))
            inputs = bring(self.inputs, self.storage, self.staging.folder / "inputs", stop)
            query = self._query(inputs)
            stop.check()
            with self.pool.lend(stop) as process:
                return outputs.collect(Session(process, stop, query.most_bytes).query(query))

    def overgrown(self) -> PermanentError | None:
        """Return why the query has to end, if it has taken more of the disk than it may."""
        limit = int(self.config.disk_limit)
        if self.staging.size() <= limit:
            return None
        return PermanentError(
            f"the query took more than the {limit} bytes of disk that disk_limit of {SECTION} gives it",
            error_code="DISK_LIMIT_EXCEEDED",
        )

    def _query(self, inputs: Inputs) -> Query:
        return Query(
            box=self._box(),
            database=self._database(),
            views=[View(one.name, one.function, [str(path) for path in one.paths]) for one in inputs.tables],
            setup=self.request.setup,
            sql=self.request.query,
            parameters=parameters(inputs.parameters),
            most_rows=self.config.inline_rows,
            most_bytes=2 * int(self.config.inline_bytes) + _ANSWER_BYTES,
        )

    def _database(self) -> Database | None:
        if self.request.database is None:
            return None
        path = self.storage.local(self.request.database)
        if self.request.read_only and not path.is_file():
            raise InvalidInputError(f"there is no database file {self.request.database!r}")
        return Database(str(path), _database_name(path), self.request.read_only)

    def _box(self) -> Box:
        folder = self.staging.folder
        allowed = [one.resolve() for one in self.config.allowed_directories]
        return Box(
            directories=[
                str(folder / "inputs"),
                str(folder / "outputs"),
                *(str(x) for x in allowed if not x.is_file()),
            ],
            files=[str(one) for one in allowed if one.is_file()],
            temp=str(folder / "temp"),
            home=str(folder / "home"),
            memory=int(self.config.memory_limit),
            disk=int(self.config.disk_limit),
            threads=self.config.threads,
        )


def _database_name(path: Path) -> str:
    """Return the name by which SQL knows the tables of a database file: the file's own, up to the first dot."""
    name = path.name.partition(".")[0]
    if not name or name.lower() in _RESERVED:
        what = f"the name {name!r}, which DuckDB keeps for itself" if name else "a name that begins with a dot"
        raise InvalidInputError(f"the database file {path.name!r} has {what}; rename the file")
    return name


class _Tables:
    """Puts tables away under the output prefix."""

    def __init__(self, job: Job, stop: Stop) -> None:
        self._job = job
        self._stop = stop

    def uri(self, name: str) -> str:
        """Return the URI of an output's table, if something may be written there."""
        prefix = self._job.output_prefix
        if not prefix:
            raise InvalidInputError("the result is a table, but the request has no output_prefix to write it under")
        uri = f"{prefix.rstrip('/')}/{name}"
        self._job.storage.check_output(uri)
        return uri

    def put(self, uri: str, write: Callable[[Path], None]) -> None:
        """Write the table into the private folder, then copy it from there."""
        file = self._job.staging.folder / "outputs" / PART
        write(file)
        self._job.storage.store(file, f"{uri}/{PART}", self._stop)
