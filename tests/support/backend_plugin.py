"""A plugin for hosts in processes of their own: its jobs run on a `FakeBackend` that listens in the test's process.

`FAKE_BACKEND` in the environment says where; with `FAKE_BACKEND_KEYS=no` the connector passes no idempotency key.
"""

import asyncio
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flyteidl.admin.agent_pb2 import TaskExecutionMetadata

from connector_core import (
    AsyncConnectorBase,
    BackendUnavailableError,
    JobNotFoundError,
    PermanentError,
    Phase,
    Resource,
    ResourceMeta,
    hookimpl,
)

_PHASES = {
    "running": Phase.RUNNING,
    "succeeded": Phase.SUCCEEDED,
    "failed": Phase.FAILED,
    "cancelled": Phase.ABORTED,
}


@dataclass
class RemoteJobMeta(ResourceMeta):
    """The job's id at the backend."""

    job_id: str


class RemoteBackendConnector(AsyncConnectorBase[RemoteJobMeta]):
    """Asks the backend over a connection for each call."""

    name = "remote fake backend"
    task_type_name = "fake_job"

    def __init__(self, address: str, *, passes_key: bool) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._passes_key = passes_key

    async def create(
        self,
        inputs: dict[str, Any],
        task_execution_metadata: TaskExecutionMetadata,
        output_prefix: str,
        idempotency_key: str,
    ) -> RemoteJobMeta:
        """Start a job."""
        attempt = task_execution_metadata.task_execution_id.retry_attempt
        spec = {"inputs": inputs, "output_prefix": output_prefix, "attempt": attempt}
        job = await self._ask(operation="start", spec=spec, key=idempotency_key if self._passes_key else None)
        return RemoteJobMeta(job["id"])

    async def get(self, resource_meta: RemoteJobMeta) -> Resource:
        """Return the job's state."""
        job = await self._ask(operation="status", job_id=resource_meta.job_id)
        return Resource(_PHASES[job["state"]], outputs=job["outputs"] or None, message=job["message"])

    async def delete(self, resource_meta: RemoteJobMeta) -> None:
        """Cancel the job."""
        try:
            await self._ask(operation="cancel", job_id=resource_meta.job_id)
        except JobNotFoundError:
            return

    async def _ask(self, **request: Any) -> dict[str, Any]:
        try:
            reader, writer = await asyncio.open_connection(self._host, int(self._port))
        except OSError as error:
            raise BackendUnavailableError(f"the backend cannot be reached: {error}") from error
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            line = await reader.readline()
        finally:
            writer.close()
        if not line:
            raise BackendUnavailableError("the backend hung up")
        return _job(json.loads(line))


def _job(answer: dict[str, Any]) -> dict[str, Any]:
    if (error := answer.get("error")) is None:
        job: dict[str, Any] = answer["job"]
        return job
    if error["status"] == 404:
        raise JobNotFoundError(error["message"])
    if error["status"] < 500 and error["status"] != 429:
        raise PermanentError(error["message"])
    raise BackendUnavailableError(f"{error['status']} {error['message']}")


@hookimpl
def register_connectors() -> Iterable[AsyncConnectorBase[Any]]:
    """Return the one connector."""
    passes_key = os.environ.get("FAKE_BACKEND_KEYS", "yes") != "no"
    return [RemoteBackendConnector(os.environ["FAKE_BACKEND"], passes_key=passes_key)]
