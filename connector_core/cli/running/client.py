"""The protocol as the engine speaks it, with errors that people can read."""

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
from flyteidl.admin import agent_pb2
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub, SyncAgentServiceStub

from connector_core.cli.running.job import Job
from connector_core.errors import ConnectorError, NotRegisteredError, SettingsError
from connector_core.likeness import alike
from connector_core.ports.proxies import proxy_of, proxy_options
from connector_core.resource import Phase
from connector_core.task import TaskCategory

T = TypeVar("T")

_LIST_SECONDS = 10.0
_ASK_SECONDS = 30.0
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    }
)
_NOT_CONNECTED = ("failed to connect to all addresses", "DNS resolution failed", "errors resolving")


class CallError(ConnectorError):
    """A call was answered with an error, or not at all; `is_passing` says whether asking again may help."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code
        self.is_passing = code in _PASSING


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Some lines of a log, after the token that asks for what follows them, if there came one."""

    lines: Sequence[str]
    token: str = ""


class Client:
    """Calls one host.

    Args:
        channel: an open channel to it.
        address: what people call it.
        proxy: the proxy on the way to it, and the environment variable that names that.
    """

    def __init__(self, channel: grpc.aio.Channel, address: str, proxy: tuple[str, str] | None = None) -> None:
        self._address = address
        self._proxy = proxy
        self._jobs = AsyncAgentServiceStub(channel)
        self._answers = SyncAgentServiceStub(channel)
        self._metadata = AgentMetadataServiceStub(channel)

    async def is_sync(self, category: TaskCategory) -> bool:
        """Ask ListAgents whether a task type is answered at once.

        Raises:
            NotRegisteredError: it is not served; the message has near names, and those that are.
        """
        request = agent_pb2.ListAgentsRequest()
        listed = await self._answer("ListAgents", self._metadata.ListAgents(request, timeout=_LIST_SECONDS))
        served: dict[TaskCategory, bool] = {one: agent.is_sync for agent in listed.agents for one in _categories(agent)}
        if category not in served:
            raise not_served(category, served)
        return served[category]

    async def create(self, request: agent_pb2.CreateTaskRequest) -> bytes:
        """Start a job and return its resource meta."""
        answer = await self._answer("CreateTask", self._jobs.CreateTask(request))
        resource_meta: bytes = answer.resource_meta
        return resource_meta

    async def execute(self, request: agent_pb2.CreateTaskRequest) -> agent_pb2.Resource:
        """Run a task that is answered at once: header, inputs, half-close, one answer, cancel."""
        header = agent_pb2.CreateRequestHeader(
            template=request.template,
            output_prefix=request.output_prefix,
            task_execution_metadata=request.task_execution_metadata,
        )
        parts = [
            agent_pb2.ExecuteTaskSyncRequest(header=header),
            agent_pb2.ExecuteTaskSyncRequest(inputs=request.inputs),
        ]
        call = self._answers.ExecuteTaskSync(iter(parts))
        try:
            answer = await self._answer("ExecuteTaskSync", call.read())
        finally:
            call.cancel()
        if answer is grpc.aio.EOF:
            raise CallError(f"{self._address} ended ExecuteTaskSync without an answer", grpc.StatusCode.UNKNOWN)
        return _with_phase(answer.header.resource)

    async def get(self, job: Job) -> agent_pb2.Resource:
        """Return a job's state."""
        request = agent_pb2.GetTaskRequest(
            task_type=job.category.name,
            task_category=_to_flyte(job.category),
            resource_meta=job.resource_meta,
            output_prefix=job.output_prefix,
        )
        answer = await self._answer("GetTask", self._jobs.GetTask(request, timeout=_ASK_SECONDS))
        return _with_phase(answer.resource)

    async def delete(self, job: Job) -> None:
        """Cancel a job."""
        request = agent_pb2.DeleteTaskRequest(
            task_type=job.category.name, task_category=_to_flyte(job.category), resource_meta=job.resource_meta
        )
        await self._answer("DeleteTask", self._jobs.DeleteTask(request))

    async def metrics(self, job: Job) -> Sequence[ExecutionMetricResult]:
        """Return what a job uses of its machine."""
        request = agent_pb2.GetTaskMetricsRequest(
            task_type=job.category.name, task_category=_to_flyte(job.category), resource_meta=job.resource_meta
        )
        answer = await self._answer("GetTaskMetrics", self._jobs.GetTaskMetrics(request, timeout=_ASK_SECONDS))
        results: Sequence[ExecutionMetricResult] = answer.results
        return results

    async def logs(self, job: Job, token: str, lines: int) -> AsyncIterator[LogPiece]:
        """Yield what follows a token, about so many lines; connectors that follow their jobs yield until these end."""
        request = agent_pb2.GetTaskLogsRequest(
            task_type=job.category.name,
            task_category=_to_flyte(job.category),
            resource_meta=job.resource_meta,
            token=token,
            lines=lines,
        )
        call = self._jobs.GetTaskLogs(request)
        try:
            while (answer := await self._answer("GetTaskLogs", call.read())) is not grpc.aio.EOF:
                structured = [_line(one) for one in answer.body.structured_lines]
                yield LogPiece([*answer.body.results, *structured], answer.header.token)
        finally:
            call.cancel()

    async def _answer(self, method: str, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise self._explain(method, error.code(), error.details() or "") from None

    def _explain(self, method: str, code: grpc.StatusCode, details: str) -> CallError:
        if code is grpc.StatusCode.UNAVAILABLE and details.startswith(_NOT_CONNECTED):
            return CallError(
                f"no host answers at {self._address}{self._way()}: start one (connector-host serve), or correct the endpoint "
                f"({details})",
                code,
            )
        if code is grpc.StatusCode.UNIMPLEMENTED and details == "Method not found!":
            details = f"{self._address} does not have this call: is it a connector host?"
        return CallError(f"{method} was answered {code.name}: {details or 'without a reason'}", code)

    def _way(self) -> str:
        if self._proxy is None:
            return ""
        proxy, variable = self._proxy
        return f" through the proxy {proxy}, which {variable} names (add the host to no_proxy to go without it)"


@contextlib.asynccontextmanager
async def connected(endpoint: str, *, is_own: bool = False) -> AsyncIterator[Client]:
    """Open a channel to a host until the block ends; to one on this machine, past any proxy.

    Raises:
        SettingsError: the endpoint is none.
    """
    options: list[tuple[str, Any]] = [("grpc.max_receive_message_length", -1), *proxy_options(endpoint)]
    proxy = proxy_of(endpoint, os.environ)
    async with grpc.aio.insecure_channel(check_endpoint(endpoint), options=options) as channel:
        yield Client(channel, "the host in this process" if is_own else endpoint, proxy)


def check_endpoint(endpoint: str) -> str:
    """Return an endpoint that gRPC understands.

    Raises:
        SettingsError: it is a URL of something else, or lacks the port.
    """
    if endpoint.startswith(("http://", "https://")):
        raise SettingsError(
            f"--endpoint {endpoint} is a web address; write HOST:PORT of the gRPC port, such as 127.0.0.1:8000"
        )
    if not endpoint.rpartition(":")[2].isdigit() and "://" not in endpoint and not endpoint.startswith("unix:"):
        raise SettingsError(f"--endpoint {endpoint} has no port; write HOST:PORT, such as 127.0.0.1:8000")
    return endpoint


def not_served(category: TaskCategory, served: Iterable[TaskCategory]) -> NotRegisteredError:
    """Return the error for a task type that nothing serves."""
    names = sorted(str(one) for one in served)
    near = alike(str(category), names, 3) or [one for one in names if one.startswith(f"{category.name}@")]
    hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
    return NotRegisteredError(
        f"no connector serves the task type {str(category)!r}{hint}; served are: {', '.join(names) or 'none'}"
    )


def _categories(agent: agent_pb2.Agent) -> Iterable[TaskCategory]:
    """Return what an agent serves; servers before 1.13 fill the older field alone."""
    if agent.supported_task_categories:
        return [TaskCategory(one.name, one.version) for one in agent.supported_task_categories]
    return [TaskCategory(name) for name in agent.supported_task_types]


def _with_phase(resource: agent_pb2.Resource) -> agent_pb2.Resource:
    """Read what a host tells engines that know no RETRYABLE_FAILED; no phase and no state at all mean that to all of them."""
    if resource.phase == 0 and resource.state == agent_pb2.RETRYABLE_FAILURE:
        resource.phase = Phase.RETRYABLE_FAILED.value
    return resource


def _to_flyte(category: TaskCategory) -> agent_pb2.TaskCategory:
    return agent_pb2.TaskCategory(name=category.name, version=category.version)


def _line(line: agent_pb2.LogLine) -> str:
    if not line.HasField("timestamp"):
        return line.message
    return f"{line.timestamp.ToJsonString()} {line.message}"
