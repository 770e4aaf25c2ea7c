"""A client of a connector server, of either generation: stubs for raw messages, and typed calls on them.

Messages are the first generation's either way. What goes over the wire to a server of the second one is what an engine of
the 2.x line sends. Errors are gRPC's own: those who call decide what they mean.
"""

from collections.abc import AsyncGenerator, Iterable
from typing import Any, Literal

import grpc.aio
from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub, SyncAgentServiceStub

from connector_core.connection import Connection
from connector_core.protocol.statuses import GIVEN_UP
from connector_core.resource import Phase
from connector_core.task import TaskCategory

Generation = Literal["v1", "v2"]
"""A generation of the protocol: `flyteidl`, or `flyteidl2`."""

WITHOUT_LIMIT = ("grpc.max_receive_message_length", -1)
"""A channel's option: answers may be of any size; the engine's own clients receive 4 MiB."""


class Client:
    """Calls one server.

    Args:
        channel: an open channel to it.
        generation: of the protocol; the second one needs the extra `v2`, and has no sync calls.
        connection: what goes along with calls of the second generation.
    """

    def __init__(
        self, channel: grpc.aio.Channel, generation: Generation = "v1", connection: Connection | None = None
    ) -> None:
        self._channel = channel
        self._generation = generation
        self._connection = connection

    @property
    def jobs(self) -> AsyncAgentServiceStub:
        """`flyteidl.service.AsyncAgentService`, or its like in the second generation."""
        if self._generation == "v2":
            second: AsyncAgentServiceStub = self._second("AsyncConnectorService")
            return second
        return AsyncAgentServiceStub(self._channel)

    @property
    def answers(self) -> SyncAgentServiceStub:
        """`flyteidl.service.SyncAgentService`."""
        return SyncAgentServiceStub(self._channel)

    @property
    def metadata(self) -> AgentMetadataServiceStub:
        """`flyteidl.service.AgentMetadataService`, or its like in the second generation."""
        if self._generation == "v2":
            second: AgentMetadataServiceStub = self._second("ConnectorMetadataService")
            return second
        return AgentMetadataServiceStub(self._channel)

    def _second(self, service: str) -> Any:
        from connector_core.protocol.v2.stub import SecondStub

        return SecondStub(self._channel, service, self._connection)

    async def list_connectors(self, timeout: float | None = None) -> list[agent_pb2.Agent]:
        """Call ListAgents.

        Raises:
            grpc.aio.AioRpcError: as every call here, when it does not end OK; `timeout` is in seconds.
        """
        answer = await self.metadata.ListAgents(agent_pb2.ListAgentsRequest(), timeout=timeout)
        return list(answer.agents)

    async def create(self, request: agent_pb2.CreateTaskRequest, timeout: float | None = None) -> bytes:
        """Call CreateTask and return the resource meta."""
        answer: agent_pb2.CreateTaskResponse = await self.jobs.CreateTask(request, timeout=timeout)
        return answer.resource_meta

    async def get(
        self, category: TaskCategory, resource_meta: bytes, output_prefix: str = "", timeout: float | None = None
    ) -> agent_pb2.Resource:
        """Call GetTask and return the job's state."""
        request = agent_pb2.GetTaskRequest(
            task_type=category.name,
            task_category=_to_flyte(category),
            resource_meta=resource_meta,
            output_prefix=output_prefix,
        )
        answer: agent_pb2.GetTaskResponse = await self.jobs.GetTask(request, timeout=timeout)
        return answer.resource

    async def delete(self, category: TaskCategory, resource_meta: bytes, timeout: float | None = None) -> str:
        """Call DeleteTask; return why the server has given the deletion up, where it has."""
        request = agent_pb2.DeleteTaskRequest(
            task_type=category.name, task_category=_to_flyte(category), resource_meta=resource_meta
        )
        call = self.jobs.DeleteTask(request, timeout=timeout)
        await call
        trailing = await call.trailing_metadata()
        return next((str(value) for key, value in trailing or () if key == GIVEN_UP), "")

    async def get_metrics(
        self, category: TaskCategory, resource_meta: bytes, queries: Iterable[str] = (), timeout: float | None = None
    ) -> agent_pb2.GetTaskMetricsResponse:
        """Call GetTaskMetrics."""
        request = agent_pb2.GetTaskMetricsRequest(
            task_type=category.name,
            task_category=_to_flyte(category),
            resource_meta=resource_meta,
            queries=list(queries),
        )
        answer: agent_pb2.GetTaskMetricsResponse = await self.jobs.GetTaskMetrics(request, timeout=timeout)
        return answer

    async def get_logs(
        self,
        category: TaskCategory,
        resource_meta: bytes,
        *,
        lines: int = 0,
        token: str = "",
        timeout: float | None = None,
    ) -> AsyncGenerator[agent_pb2.GetTaskLogsResponse, None]:
        """Call GetTaskLogs and yield each message of the stream; to stop reading cancels the call."""
        request = agent_pb2.GetTaskLogsRequest(
            task_type=category.name,
            task_category=_to_flyte(category),
            resource_meta=resource_meta,
            lines=lines,
            token=token,
        )
        call = self.jobs.GetTaskLogs(request, timeout=timeout)
        try:
            while (message := await call.read()) is not grpc.aio.EOF:
                yield message
        finally:  # gRPC itself misses a reader who is cancelled just when the request has been sent
            call.cancel()

    async def execute(
        self, header: agent_pb2.CreateRequestHeader, inputs: LiteralMap, timeout: float | None = None
    ) -> agent_pb2.Resource | None:
        """Call ExecuteTaskSync as the engine does: header, inputs, half-close, one answer, cancel.

        Returns:
            The result; `None` where the server ends the stream without an answer.
        """
        parts = [
            agent_pb2.ExecuteTaskSyncRequest(header=header),
            agent_pb2.ExecuteTaskSyncRequest(inputs=inputs),
        ]
        call = self.answers.ExecuteTaskSync(iter(parts), timeout=timeout)
        try:
            answer = await call.read()
        finally:
            call.cancel()
        if answer is grpc.aio.EOF:
            return None
        resource: agent_pb2.Resource = answer.header.resource
        return resource


def categories_of(agent: agent_pb2.Agent) -> tuple[TaskCategory, ...]:
    """Return what a listed connector serves; servers before 1.13 fill the older field alone."""
    if agent.supported_task_categories:
        return tuple(TaskCategory(category.name, category.version) for category in agent.supported_task_categories)
    return tuple(TaskCategory(name) for name in agent.supported_task_types)


def with_phase(resource: agent_pb2.Resource) -> agent_pb2.Resource:
    """Read what a server tells engines that know no RETRYABLE_FAILED; no phase and no state at all mean that to all of them."""
    if resource.phase == 0 and resource.state == agent_pb2.RETRYABLE_FAILURE:
        resource.phase = Phase.RETRYABLE_FAILED.value
    return resource


def _to_flyte(category: TaskCategory) -> agent_pb2.TaskCategory:
    return agent_pb2.TaskCategory(name=category.name, version=category.version)
