"""The connector of `postgres_query`: a statement in, its result out, done once for each attempt of a task."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import (
    AsyncConnectorBase,
    BackendUnavailableError,
    InvalidInputError,
    LogPage,
    Phase,
    Resource,
    ResourceMeta,
)
from connector_core.errors import ConnectorError, InvalidResourceMetaError
from connector_plugin_postgres.config import SECTION, PostgresConfig
from connector_plugin_postgres.control import Alive, phase_of
from connector_plugin_postgres.job import Job, Request
from connector_plugin_postgres.jobs import Jobs
from connector_plugin_postgres.ledger import Ending, job_id
from connector_plugin_postgres.manifest import Manifest
from connector_plugin_postgres.outputs import Outputs
from connector_plugin_postgres.statement import Statement, text_of
from connector_plugin_postgres.storage import Storage
from connector_plugin_postgres.table_inputs import tables_of

CUSTOM_KEYS = ("connection", "query", "transaction")

# What engines of the 2.x line put there themselves.
_ENGINES_OWN = frozenset({"secrets", "configs"})
_JOB = re.compile(r"[0-9a-f]{48}")


@dataclass
class PostgresMeta(ResourceMeta):
    """A job: its name in the database, the connection's name, and where its manifest is if it has one instead of a row."""

    job: str
    connection: str
    manifest: str = ""
    transaction: bool = True


class PostgresConnector(AsyncConnectorBase[PostgresMeta]):
    """Serves `postgres_query`.

    Args:
        config: the operator's section `[plugins.postgres]`.
    """

    name = "PostgreSQL"
    task_type_name = "postgres_query"

    def __init__(self, config: PostgresConfig) -> None:
        self._config = config
        self._storage = Storage(config)
        self._jobs: dict[str, Jobs] = {}

    async def close(self) -> None:
        """End all statements and close all connections."""
        for jobs in self._jobs.values():
            await jobs.close()

    async def create(
        self,
        task_template: TaskTemplate,
        custom: Mapping[str, Any],
        inputs: Mapping[str, Any],
        output_prefix: str,
        idempotency_key: str | None,
    ) -> PostgresMeta:
        """Begin a statement, or find the one that was begun for the same attempt of the same task."""
        _check_custom(custom)
        name = self._named(custom.get("connection"))
        database = self._config.connections[name]
        transaction = custom.get("transaction", True)
        if not isinstance(transaction, bool):
            raise InvalidInputError("custom.transaction is not true or false")
        if not transaction and database.read_only:
            raise InvalidInputError(f"connection {name!r} is read-only; a statement there runs in a transaction")
        # A long one takes a while to read.
        statement = await asyncio.to_thread(Statement.of, text_of(task_template, custom))
        outputs = Outputs(task_template, self._config, self._storage, output_prefix)
        tables = tables_of(inputs, statement, self._storage)
        if tables and (database.read_only or not transaction):
            where = "on a read-only connection" if database.read_only else "without a transaction"
            raise InvalidInputError(
                f"the task has tables as inputs ({', '.join(tables)}), which cannot be made {where}"
            )
        job = job_id(name, idempotency_key or str(uuid4()))
        manifest = self._manifest_uri(output_prefix, job) if database.read_only else ""
        request = Request(statement, inputs, tables, outputs, transaction, self._manifest(manifest, job), self._storage)
        await self._jobs_of(name).create(job, request)
        return PostgresMeta(job, name, manifest, transaction)

    async def get(self, resource_meta: PostgresMeta) -> Resource:
        """Say how the job is doing."""
        jobs = self._jobs_for(resource_meta)
        manifest = self._manifest(resource_meta.manifest, resource_meta.job)
        found = await jobs.get(resource_meta.job, manifest, transaction=resource_meta.transaction)
        if isinstance(found, Ending):
            return _resource(found)
        if isinstance(found, Job):
            if not found.is_waiting:
                return Resource(Phase.RUNNING, message=found.words)
            found = Alive(0)
        phase, words = phase_of(found, resource_meta.connection)
        return Resource(phase, message=words)

    async def delete(self, resource_meta: PostgresMeta) -> None:
        """Cancel the statement, and end its connection where that is not enough."""
        await self._jobs_for(resource_meta).delete(resource_meta.job)

    async def get_logs(self, resource_meta: PostgresMeta, lines: int = 0, token: str = "") -> AsyncIterator[LogPage]:
        """Yield what the statement raised as notices: one page, or without `lines` all of them until the job ends."""
        log = self._jobs_for(resource_meta).log_of(resource_meta.job)
        if log is None:
            yield LogPage(("(notices are kept by the host that runs the statement, until it ends)",))
            return
        async for page in log.pages(lines, token):
            yield page

    def _named(self, given: object) -> str:
        known = ", ".join(self._config.connections)
        if given is None or given == "":
            if len(self._config.connections) > 1:
                raise InvalidInputError(f"the task names no connection; there are: {known}")
            return next(iter(self._config.connections))
        if not isinstance(given, str) or given not in self._config.connections:
            shown = repr(given[:100]) if isinstance(given, str) and "://" not in given else "of that kind"
            raise InvalidInputError(f"there is no connection {shown}; there are: {known}")
        return given

    def _jobs_for(self, meta: PostgresMeta) -> Jobs:
        if not _JOB.fullmatch(meta.job):
            raise InvalidResourceMetaError("resource meta is not a PostgresMeta: field 'job': not the name of a job")
        if meta.connection not in self._config.connections:
            raise BackendUnavailableError(
                f"job {meta.job} is on connection {meta.connection!r}, which this host does not have; put it back in "
                f"{SECTION} until the job is over"
            )
        return self._jobs_of(meta.connection)

    def _jobs_of(self, name: str) -> Jobs:
        if name not in self._jobs:
            self._jobs[name] = Jobs(name, self._config.connections[name])
        return self._jobs[name]

    def _manifest_uri(self, prefix: str, job: str) -> str:
        """Return where the manifest goes; nowhere, if results cannot go below the output prefix either."""
        uri = Manifest.uri_for(prefix, job)
        try:
            self._storage.check(uri)
        except ConnectorError:
            return ""
        return uri

    def _manifest(self, uri: str, job: str) -> Manifest | None:
        return Manifest(self._storage, uri, job) if uri else None


def _check_custom(custom: Mapping[str, Any]) -> None:
    if unknown := sorted(set(custom) - set(CUSTOM_KEYS) - _ENGINES_OWN):
        raise InvalidInputError(
            f"custom has unknown keys {', '.join(unknown)}; it can have {', '.join(CUSTOM_KEYS)} (where the database is, and "
            "as whom to log in, is the operator's to say)"
        )


def _resource(ending: Ending) -> Resource:
    if ending.phase is Phase.SUCCEEDED:
        return Resource(Phase.SUCCEEDED, outputs=LiteralMap.FromString(ending.outputs))
    return Resource(ending.phase, message=ending.message, error_code=ending.error_code or None)
