"""`flyteidl.service.AsyncAgentService`: jobs are created, polled and deleted."""

from collections.abc import AsyncIterator, Iterator

from flyteidl.admin import agent_pb2

from connector_core.connection import Connection
from connector_core.errors import IllegalAnswerError
from connector_core.jobs import Jobs
from connector_core.metrics import (
    create_operation,
    delete_operation,
    get_logs_operation,
    get_metrics_operation,
    get_operation,
)
from connector_core.registry import ConnectorRegistry, RegisteredConnector
from connector_core.resource import LogPage
from connector_core.services.arguments import create_arguments, get_arguments, logs_arguments, metrics_arguments
from connector_core.services.decoding import category_of, decode, find_by_template
from connector_core.services.recording import Recorder, Request, record_connector_metrics, record_connector_stream
from connector_core.task import Attempt

MAX_TOKEN_LENGTH = 64 * 1024
"""Letters of a token; clients send it back in a request."""


class AsyncConnectorService:
    """Serves async connectors, and sync ones for engines that call them as async."""

    def __init__(self, registry: ConnectorRegistry, jobs: Jobs, recorder: Recorder) -> None:
        self.recorder = recorder
        self._registry = registry
        self._jobs = jobs

    @record_connector_metrics(create_operation)
    async def CreateTask(self, raw: bytes, request: Request) -> bytes:
        """Start a job and return its resource meta."""
        message = decode(agent_pb2.CreateTaskRequest, raw)
        connector = find_by_template(self._registry, message, request)
        request.count_input(message.inputs.ByteSize())
        arguments = create_arguments(message, message.inputs, Connection())
        attempt = Attempt.of(message.task_execution_metadata.task_execution_id, message.output_prefix)
        created = await self._jobs.create(connector, arguments, attempt, request.timeout)
        if created.failure is not None:
            request.answered_failure(created.failure)
        return agent_pb2.CreateTaskResponse(resource_meta=created.resource_meta).SerializeToString()

    @record_connector_metrics(get_operation)
    async def GetTask(self, raw: bytes, request: Request) -> bytes:
        """Return a job's state."""
        message = decode(agent_pb2.GetTaskRequest, raw)
        execution = message.output_prefix  # the engine's prefixes carry the execution, and end in the attempt
        connector = request.find(self._registry, *category_of(message), execution)
        arguments = get_arguments(message, Connection())
        resource = await self._jobs.get(connector, message.resource_meta, arguments, request.timeout)
        return agent_pb2.GetTaskResponse(resource=resource).SerializeToString()

    @record_connector_metrics(delete_operation)
    async def DeleteTask(self, raw: bytes, request: Request) -> bytes:
        """Cancel a job."""
        message = decode(agent_pb2.DeleteTaskRequest, raw)
        connector = request.find(self._registry, *category_of(message))
        await self._jobs.delete(connector, message.resource_meta, {"connection": Connection()}, request.timeout)
        return agent_pb2.DeleteTaskResponse().SerializeToString()

    @record_connector_metrics(get_metrics_operation)
    async def GetTaskMetrics(self, raw: bytes, request: Request) -> bytes:
        """Return a job's CPU, memory and the like."""
        message = decode(agent_pb2.GetTaskMetricsRequest, raw)
        connector = request.find(self._registry, *category_of(message))
        arguments = metrics_arguments(message)
        results = await self._jobs.get_metrics(connector, message.resource_meta, arguments, request.timeout)
        return agent_pb2.GetTaskMetricsResponse(results=results).SerializeToString()

    @record_connector_stream(get_logs_operation)
    async def GetTaskLogs(self, raw: bytes, request: Request) -> AsyncIterator[bytes]:
        """Stream a job's log lines, each page's token before its lines."""
        message = decode(agent_pb2.GetTaskLogsRequest, raw)
        connector = request.find(self._registry, *category_of(message))
        arguments = logs_arguments(message)
        async for pages in self._jobs.get_logs(connector, message.resource_meta, arguments, request.timeout):
            for page in pages:
                _refuse_token(page.token, connector)
                for answer in _log_messages(page):
                    yield answer.SerializeToString()


def _refuse_token(token: str, connector: RegisteredConnector) -> None:
    """Refuse a token that no client could send back, as it is or at all."""
    if len(token) > MAX_TOKEN_LENGTH:
        problem = f"a token of {len(token):,} characters, where {MAX_TOKEN_LENGTH:,} have to find the next page"
    elif not token.isascii() and token != token.encode(errors="replace").decode():
        problem = f"the token {token[:100]!r}, which has lone surrogates"
    else:
        return
    raise IllegalAnswerError(f"gave {problem}", plugin=connector.plugin.name, operation="get_logs")


def _log_messages(page: LogPage) -> Iterator[agent_pb2.GetTaskLogsResponse]:
    if page.token:
        yield agent_pb2.GetTaskLogsResponse(header=agent_pb2.GetTaskLogsResponseHeader(token=page.token))
    if page.lines:
        body = agent_pb2.GetTaskLogsResponseBody(
            results=[line for line in page.lines if isinstance(line, str)],
            structured_lines=[line for line in page.lines if not isinstance(line, str)],
        )
        yield agent_pb2.GetTaskLogsResponse(body=body)
