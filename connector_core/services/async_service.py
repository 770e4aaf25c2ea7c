"""`flyteidl.service.AsyncAgentService`: jobs are created, polled and deleted."""

from collections.abc import AsyncIterator, Iterator

from flyteidl.admin import agent_pb2

from connector_core.invocation import Invoker
from connector_core.metrics import (
    Metrics,
    create_operation,
    delete_operation,
    do_operation,
    get_logs_operation,
    get_metrics_operation,
    get_operation,
)
from connector_core.registry import ConnectorRegistry
from connector_core.resource import LogPage
from connector_core.services import envelope
from connector_core.services.arguments import create_arguments, job_arguments, logs_arguments, metrics_arguments
from connector_core.services.decoding import category_of, decode, find_by_template
from connector_core.services.recording import Request, record_connector_metrics, record_connector_stream

MAX_LOG_MESSAGE_BYTES = 1024 * 1024


class AsyncConnectorService:
    """Serves async connectors, and sync ones for engines that call them as async."""

    def __init__(self, registry: ConnectorRegistry, invoker: Invoker, metrics: Metrics) -> None:
        self.metrics = metrics
        self._registry = registry
        self._invoker = invoker

    @record_connector_metrics(create_operation)
    async def CreateTask(self, raw: bytes, request: Request) -> bytes:
        """Start a job and return its resource meta."""
        message = decode(agent_pb2.CreateTaskRequest, raw)
        connector = find_by_template(self._registry, message, request)
        request.count_input(message.inputs.ByteSize())
        arguments = create_arguments(message, message.inputs)
        if connector.is_sync:
            resource = await self._invoker.invoke(connector, do_operation, arguments, request.timeout)
            resource_meta = envelope.seal(resource)
        else:
            resource_meta = await self._invoker.invoke(connector, create_operation, arguments, request.timeout)
        return agent_pb2.CreateTaskResponse(resource_meta=resource_meta).SerializeToString()

    @record_connector_metrics(get_operation)
    async def GetTask(self, raw: bytes, request: Request) -> bytes:
        """Return a job's state."""
        message = decode(agent_pb2.GetTaskRequest, raw)
        connector = request.find(self._registry, *category_of(message))
        if connector.is_sync:
            resource = envelope.unseal(message.resource_meta)
        else:
            arguments = job_arguments(connector, message.resource_meta)
            arguments["output_prefix"] = message.output_prefix
            resource = await self._invoker.invoke(connector, get_operation, arguments, request.timeout)
        return agent_pb2.GetTaskResponse(resource=resource).SerializeToString()

    @record_connector_metrics(delete_operation)
    async def DeleteTask(self, raw: bytes, request: Request) -> bytes:
        """Cancel a job."""
        message = decode(agent_pb2.DeleteTaskRequest, raw)
        connector = request.find(self._registry, *category_of(message))
        if connector.is_sync:
            envelope.unseal(message.resource_meta)
        else:
            arguments = job_arguments(connector, message.resource_meta)
            await self._invoker.invoke(connector, delete_operation, arguments, request.timeout)
        return agent_pb2.DeleteTaskResponse().SerializeToString()

    @record_connector_metrics(get_metrics_operation)
    async def GetTaskMetrics(self, raw: bytes, request: Request) -> bytes:
        """Return a job's CPU, memory and the like."""
        message = decode(agent_pb2.GetTaskMetricsRequest, raw)
        connector = request.find(self._registry, *category_of(message))
        arguments = metrics_arguments(connector, message)
        results = await self._invoker.invoke(connector, get_metrics_operation, arguments, request.timeout)
        return agent_pb2.GetTaskMetricsResponse(results=results).SerializeToString()

    @record_connector_stream(get_logs_operation)
    async def GetTaskLogs(self, raw: bytes, request: Request) -> AsyncIterator[bytes]:
        """Stream a job's log lines, each page's token before its lines."""
        message = decode(agent_pb2.GetTaskLogsRequest, raw)
        connector = request.find(self._registry, *category_of(message))
        arguments = logs_arguments(connector, message)
        async for page in self._invoker.stream(connector, get_logs_operation, arguments, request.timeout):
            for answer in _log_messages(page):
                yield answer.SerializeToString()


def _log_messages(page: LogPage) -> Iterator[agent_pb2.GetTaskLogsResponse]:
    """Cut a page into messages that every client can receive."""
    if page.token:
        yield agent_pb2.GetTaskLogsResponse(header=agent_pb2.GetTaskLogsResponseHeader(token=page.token))
    body = agent_pb2.GetTaskLogsResponseBody()
    size = 0
    for line in page.lines:
        if isinstance(line, str):
            body.results.append(line)
            size += len(line)
        else:
            body.structured_lines.append(line)
            size += line.ByteSize()
        if size >= MAX_LOG_MESSAGE_BYTES:
            yield agent_pb2.GetTaskLogsResponse(body=body)
            body, size = agent_pb2.GetTaskLogsResponseBody(), 0
    if size or body.results or body.structured_lines:
        yield agent_pb2.GetTaskLogsResponse(body=body)
