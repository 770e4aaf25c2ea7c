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

from connector_core.cli.running.job import Job
from connector_core.errors import ConnectorError, NotRegisteredError, SettingsError
from connector_core.ports.proxies import proxy_of, proxy_options
from connector_core.protocol import client as protocol
from connector_core.task import TaskCategory
from connector_core.texts import alike

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

    def __init__(self, message: str, code: grpc.StatusCode, is_passing: bool | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.is_passing = code in _PASSING if is_passing is None else is_passing


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Some lines of a log, after the token that asks for what follows them, if there came one."""

    lines: Sequence[str]
    token: str = ""


class Client:
    """Calls one host, with errors that people can read.

    Args:
        channel: an open channel to it.
        address: what people call it.
        proxy: the proxy on the way to it, and the environment variable that names that.
        is_own: whether it is in this process.
    """

    def __init__(
        self, channel: grpc.aio.Channel, address: str, proxy: tuple[str, str] | None = None, *, is_own: bool = False
    ) -> None:
        self.is_own = is_own
        self._address = address
        self._proxy = proxy
        self._client = protocol.Client(channel)

    async def is_sync(self, category: TaskCategory) -> bool:
        """Ask ListAgents whether a task type is answered at once.

        Raises:
            NotRegisteredError: it is not served; the message has near names, and those that are.
        """
        agents = await self._answer("ListAgents", self._client.list_connectors(timeout=_LIST_SECONDS))
        served: dict[TaskCategory, bool] = {
            served: agent.is_sync for agent in agents for served in protocol.categories_of(agent)
        }
        if category not in served:
            raise not_served(category, served)
        return served[category]

    async def create(self, request: agent_pb2.CreateTaskRequest) -> bytes:
        """Start a job and return its resource meta."""
        return await self._answer("CreateTask", self._client.create(request))

    async def execute(self, request: agent_pb2.CreateTaskRequest) -> agent_pb2.Resource:
        """Run a task that is answered at once."""
        header = agent_pb2.CreateRequestHeader(
            template=request.template,
            output_prefix=request.output_prefix,
            task_execution_metadata=request.task_execution_metadata,
        )
        resource = await self._answer("ExecuteTaskSync", self._client.execute(header, request.inputs))
        if resource is None:
            raise CallError(f"{self._address} ended ExecuteTaskSync without an answer", grpc.StatusCode.UNKNOWN)
        return protocol.with_phase(resource)

    async def get(self, job: Job) -> agent_pb2.Resource:
        """Return a job's state."""
        call = self._client.get(job.category, job.resource_meta, job.output_prefix, timeout=_ASK_SECONDS)
        return protocol.with_phase(await self._answer("GetTask", call))

    async def delete(self, job: Job) -> None:
        """Cancel a job.

        Raises:
            CallError: it was not cancelled, also where the host has given its deletion up and answers OK.
        """
        if given_up := await self._answer("DeleteTask", self._client.delete(job.category, job.resource_meta)):
            raise CallError(f"the job was not deleted, and may still run: {given_up}", grpc.StatusCode.ABORTED, False)

    async def metrics(self, job: Job) -> Sequence[ExecutionMetricResult]:
        """Return what a job uses of its machine."""
        call = self._client.get_metrics(job.category, job.resource_meta, timeout=_ASK_SECONDS)
        results: Sequence[ExecutionMetricResult] = (await self._answer("GetTaskMetrics", call)).results
        return results

    async def logs(self, job: Job, token: str, lines: int) -> AsyncIterator[LogPiece]:
        """Yield what follows a token, about so many lines; connectors that follow their jobs yield until these end."""
        answers = self._client.get_logs(job.category, job.resource_meta, lines=lines, token=token)
        async with contextlib.aclosing(answers):
            while (answer := await self._answer("GetTaskLogs", anext(answers, None))) is not None:
                structured = [_line(line) for line in answer.body.structured_lines]
                yield LogPiece([*answer.body.results, *structured], answer.header.token)

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
    options: list[tuple[str, Any]] = [protocol.WITHOUT_LIMIT, *proxy_options(endpoint)]
    proxy = proxy_of(endpoint, os.environ)
    async with grpc.aio.insecure_channel(check_endpoint(endpoint), options=options) as channel:
        yield Client(channel, "the host in this process" if is_own else endpoint, proxy, is_own=is_own)


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


def _line(line: agent_pb2.LogLine) -> str:
    if not line.HasField("timestamp"):
        return line.message
    return f"{line.timestamp.ToJsonString()} {line.message}"
