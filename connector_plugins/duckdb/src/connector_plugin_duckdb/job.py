"""One query from end to end, as it runs in its thread."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core.errors import InvalidInputError, PermanentError
from connector_plugin_duckdb.client import Box, Session, open_session
from connector_plugin_duckdb.config import SECTION, DuckDBConfig
from connector_plugin_duckdb.inputs import bring
from connector_plugin_duckdb.outputs import Outputs
from connector_plugin_duckdb.request import Request
from connector_plugin_duckdb.stop import Stop
from connector_plugin_duckdb.storage import Storage

PART = "00000.parquet"
"""The name of a table's only file, below the table's URI."""


class Staging:
    """A query's private folder, which is gone when the query is over."""

    def __init__(self, parent: Path | None) -> None:
        self._parent = parent
        self.folder = Path()

    def __enter__(self) -> Self:
        folder = Path(tempfile.mkdtemp(prefix="connector-duckdb-", dir=self._parent)).resolve()
        for name in ("inputs", "outputs", "temp"):
            (folder / name).mkdir()
        self.folder = folder
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def size(self) -> int:
        """Return how many bytes are in the folder."""
        if self.folder == Path():
            return 0
        return sum(_size(Path(folder) / name) for folder, _folders, names in os.walk(self.folder) for name in names)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512  # what it takes on the disk: DuckDB's files may have holes
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class Job:
    """A query with all that it needs."""

    config: DuckDBConfig
    storage: Storage
    staging: Staging
    template: TaskTemplate
    request: Request
    inputs: Mapping[str, Any]
    output_prefix: str

    def run(self, stop: Stop) -> LiteralMap:
        """Bring the inputs, run the SQL and return the outputs.

        Raises:
            ConnectorError: with whose fault it is.
        """
        with self.staging:
            outputs = Outputs(self.template, self.config, _Tables(self, stop))
            inputs = bring(self.inputs, self.storage, self.staging.folder / "inputs", stop)
            with open_session(self._box(), stop, self._database(), self.request.read_only) as session:
                for table in inputs.tables:
                    session.offer(table.name, table.function, table.paths)
                return self._ask(session, inputs.parameters, outputs)

    def overgrown(self) -> PermanentError | None:
        """Return why the query has to end, if it has taken more of the disk than it may."""
        limit = int(self.config.disk_limit)
        if self.staging.size() <= limit:
            return None
        return PermanentError(
            f"the query took more than the {limit} bytes of disk that disk_limit of {SECTION} gives it",
            error_code="DISK_LIMIT_EXCEEDED",
        )

    def _ask(self, session: Session, parameters: Mapping[str, Any], outputs: Outputs) -> LiteralMap:
        for sql in self.request.setup:
            session.run(sql, parameters)
        return outputs.collect(session.query(self.request.query, parameters, self.config.inline_rows))

    def _database(self) -> Path | None:
        if self.request.database is None:
            return None
        path = self.storage.local(self.request.database)
        if self.request.read_only and not path.is_file():
            raise InvalidInputError(f"there is no database file {self.request.database!r}")
        return path

    def _box(self) -> Box:
        folder = self.staging.folder
        allowed = [one.resolve() for one in self.config.allowed_directories]
        return Box(
            directories=[folder / "inputs", folder / "outputs", *allowed],
            temp=folder / "temp",
            home=folder / "home",
            memory=int(self.config.memory_limit),
            disk=int(self.config.disk_limit),
            threads=self.config.threads,
        )


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
        self._job.storage.check(uri)
        return uri

    def put(self, uri: str, write: Callable[[Path], None]) -> None:
        """Write the table into the private folder, then copy it from there."""
        file = self._job.staging.folder / "outputs" / PART
        write(file)
        self._job.storage.store(file, f"{uri}/{PART}", self._stop)
