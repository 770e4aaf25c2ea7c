"""Jobs are created, polled and deleted: `flyteidl.service.AsyncAgentService`, and its like in the second generation."""

from collections.abc import AsyncIterator
from typing import Any

from flyteidl.admin import agent_pb2

from connector_core.description import ConnectorDescription
from connector_core.errors import ConnectorError, IllegalAnswerError
from connector_core.invocation.offers import JobOffer, TaskOffer
from connector_core.jobs import Jobs
from connector_core.metrics import (
    create_operation,
    delete_operation,
    get_logs_operation,
    get_metrics_operation,
    get_operation,
)
from connector_core.observing.recorder import Recorder
from connector_core.protocol.decoding import category_of, category_of_template, moment, size_of_inputs, span
from connector_core.protocol.dialects import Dialect
from connector_core.protocol.v1 import V1
from connector_core.registry import ConnectorRegistry
from connector_core.services.recording import Request, record_connector_metrics, record_connector_stream
from connector_core.task import Attempt, describe_execution

MAX_TOKEN_LENGTH = 64 * 1024
"""Letters of a token; clients send it back in a request."""


class AsyncConnectorService:
    """Serves async connectors, and sync ones for engines that call them as async.

    Args:
        registry: the connectors.
        jobs: creates, polls and deletes.
        recorder: counts and logs calls.
        dialect: the generation of the protocol; the first one's by default.
    """

    def __init__(
        self, registry: ConnectorRegistry, jobs: Jobs, recorder: Recorder, dialect: Dialect | None = None
    ) -> None:
        self.recorder = recorder
        self._registry = registry
        self._jobs = jobs
        self._dialect: Dialect = dialect or V1()

    @record_connector_metrics(create_operation)
    async def CreateTask(self, raw: bytes, request: Request) -> bytes:
        """Start a job and return its resource meta."""
        message, connection = self._dialect.read_create(raw)
        execution, inputs = message.task_execution_metadata.task_execution_id, message.inputs
        connector = request.find(self._registry, *category_of_template(message.template), describe_execution(execution))
        request.count_input(size_of_inputs(raw, inputs))
        offer = TaskOffer(message, inputs, connection, Attempt.of(execution, message.output_prefix))
        created = await self._jobs.create(connector, offer, request.timeout)
        request.created(created.resource_meta, message.output_prefix)
        if created.failure is not None:
            request.answered_failure(created.failure)
        return self._dialect.write_created(created.resource_meta)

    @record_connector_metrics(get_operation)
    async def GetTask(self, raw: bytes, request: Request) -> bytes:
        """Return a job's state."""
        message, connection = self._dialect.read_get(raw)
        execution = message.output_prefix  # the engine's prefixes carry the execution, and end in the attempt
        connector = request.find(self._registry, *category_of(message), execution, message.resource_meta)
        offer = JobOffer(message.resource_meta, connection, execution)
        resource = await self._jobs.get(connector, offer, request.timeout)
        return self._dialect.write_resource(resource)

    @record_connector_metrics(delete_operation)
    async def DeleteTask(self, raw: bytes, request: Request) -> bytes:
        """Cancel a job."""
        message, connection = self._dialect.read_delete(raw)
        try:
            connector = request.find(self._registry, *category_of(message), resource_meta=message.resource_meta)
            await self._jobs.delete(connector, JobOffer(message.resource_meta, connection), request.timeout)
        except ConnectorError as error:
            task_type = message.task_category.name or message.task_type
            if not await self._jobs.deletes.is_given_up(task_type, message.resource_meta, error):
                raise
            request.gave_up(error)
        return self._dialect.write_deleted()

    @record_connector_metrics(get_metrics_operation)
    async def GetTaskMetrics(self, raw: bytes, request: Request) -> bytes:
        """Return a job's CPU, memory and the like."""
        message = self._dialect.read_metrics(raw)
        connector = request.find(self._registry, *category_of(message), resource_meta=message.resource_meta)
        offer = JobOffer(message.resource_meta, details=_metrics_details(message))
        results = await self._jobs.get_metrics(connector, offer, request.timeout)
        return self._dialect.write_metrics(results)

    @record_connector_stream(get_logs_operation)
    async def GetTaskLogs(self, raw: bytes, request: Request) -> AsyncIterator[bytes]:
        """Stream a job's log lines, each page's token before its lines."""
        message = self._dialect.read_logs(raw)
        connector = request.find(self._registry, *category_of(message), resource_meta=message.resource_meta)
        offer = JobOffer(message.resource_meta, details={"lines": message.lines, "token": message.token})
        async for pages in self._jobs.get_logs(connector, offer, request.timeout):
            for page in pages:
                _refuse_token(page.token, connector)
                for answer in self._dialect.write_logs(page):
                    yield answer


def _metrics_details(request: agent_pb2.GetTaskMetricsRequest) -> dict[str, Any]:
    """Return what `get_metrics` is offered besides the job; times that the request leaves out are `None`."""
    return {
        "queries": list(request.queries),
        "start_time": moment(request.start_time) if request.HasField("start_time") else None,
        "end_time": moment(request.end_time) if request.HasField("end_time") else None,
        "step": span(request.step) if request.HasField("step") else None,
    }


def _refuse_token(token: str, connector: ConnectorDescription) -> None:
    """Refuse a token that no client could send back, as it is or at all."""
    if len(token) > MAX_TOKEN_LENGTH:
        problem = f"a token of {len(token):,} characters, where {MAX_TOKEN_LENGTH:,} have to find the next page"
    elif not token.isascii() and token != token.encode(errors="replace").decode():
        problem = f"the token {token[:100]!r}, which has lone surrogates"
    else:
        return
    raise IllegalAnswerError(f"gave {problem}", plugin=connector.plugin.name, operation="get_logs")
