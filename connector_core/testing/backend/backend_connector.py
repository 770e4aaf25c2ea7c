"""A small connector for the fake backend, written as an author would write one."""

from dataclasses import dataclass
from typing import Any

from flyteidl.admin.agent_pb2 import TaskExecutionMetadata

from connector_core.connector import AsyncConnectorBase
from connector_core.errors import BackendUnavailableError, ConnectorError, InvalidInputError, JobNotFoundError
from connector_core.resource import Phase, Resource
from connector_core.resource_meta import ResourceMeta
from connector_core.task import describe_execution
from connector_core.testing.backend.backend_jobs import FakeBackendError, JobState
from connector_core.testing.backend.service import FakeBackend

_PHASES = {
    JobState.RUNNING: Phase.RUNNING,
    JobState.SUCCEEDED: Phase.SUCCEEDED,
    JobState.FAILED: Phase.FAILED,
    JobState.CANCELLED: Phase.ABORTED,
}


@dataclass
class BackendJobMeta(ResourceMeta):
    """The job's id at the backend."""

    job_id: str


class BackendConnector(AsyncConnectorBase[BackendJobMeta]):
    """Runs jobs on a `FakeBackend`.

    A job's spec says where it comes from: `inputs`, `execution` and `output_prefix`.

    Args:
        backend: where jobs run.
        task_type: the task type to serve.
        passes_key: whether the backend is given the host's idempotency key.
    """

    def __init__(self, backend: FakeBackend, task_type: str = "fake_job", *, passes_key: bool = True) -> None:
        self.name = f"fake backend of {task_type}"
        self.task_type_name = task_type
        self._backend = backend
        self._passes_key = passes_key

    async def create(
        self,
        inputs: dict[str, Any],
        task_execution_metadata: TaskExecutionMetadata,
        output_prefix: str,
        idempotency_key: str,
    ) -> BackendJobMeta:
        """Start a job."""
        execution = describe_execution(task_execution_metadata.task_execution_id)
        spec = {"inputs": inputs, "execution": execution, "output_prefix": output_prefix}
        try:
            job = await self._backend.start(spec, idempotency_key if self._passes_key else None)
        except FakeBackendError as error:
            raise _translated(error) from error
        return BackendJobMeta(job.id)

    async def get(self, resource_meta: BackendJobMeta) -> Resource:
        """Return the job's state."""
        try:
            job = await self._backend.status(resource_meta.job_id)
        except FakeBackendError as error:
            raise _translated(error) from error
        return Resource(_PHASES[job.state], outputs=job.outputs or None, message=job.message)

    async def delete(self, resource_meta: BackendJobMeta) -> None:
        """Cancel the job."""
        try:
            await self._backend.cancel(resource_meta.job_id)
        except FakeBackendError as error:
            if error.status != 404:
                raise _translated(error) from error


def _translated(error: FakeBackendError) -> ConnectorError:
    if error.status == 404:
        return JobNotFoundError(error.message)
    if error.status < 500 and error.status != 429:
        return InvalidInputError(error.message)
    return BackendUnavailableError(str(error))
