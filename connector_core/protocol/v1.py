"""The protocol's first generation, `flyteidl.admin`, as engines of the 1.x line speak it."""

from collections.abc import Iterable, Iterator
from types import MappingProxyType

from flyteidl.admin import agent_pb2
from flyteidl.core.metrics_pb2 import ExecutionMetricResult

from connector_core.connection import Connection
from connector_core.protocol.decoding import decode
from connector_core.resource import LogPage, Phase

_NONE_GIVEN = Connection(MappingProxyType({}), MappingProxyType({}))
"""This generation has no connections."""


class V1:
    """Reads and writes the first generation's messages.

    Args:
        retryable_as_state: whether a failure that may be tried again goes out as the `state` that servers answered before
            there were phases. Engines before 1.16 know no RETRYABLE_FAILED, and end the workflow over it.
    """

    def __init__(self, *, retryable_as_state: bool = False) -> None:
        self._retryable_as_state = retryable_as_state

    def read_create(self, raw: bytes) -> tuple[agent_pb2.CreateTaskRequest, Connection]:
        """Read CreateTask's request."""
        return decode(agent_pb2.CreateTaskRequest, raw), _NONE_GIVEN

    def read_get(self, raw: bytes) -> tuple[agent_pb2.GetTaskRequest, Connection]:
        """Read GetTask's request."""
        return decode(agent_pb2.GetTaskRequest, raw), _NONE_GIVEN

    def read_delete(self, raw: bytes) -> tuple[agent_pb2.DeleteTaskRequest, Connection]:
        """Read DeleteTask's request."""
        return decode(agent_pb2.DeleteTaskRequest, raw), _NONE_GIVEN

    def read_metrics(self, raw: bytes) -> agent_pb2.GetTaskMetricsRequest:
        """Read GetTaskMetrics' request."""
        return decode(agent_pb2.GetTaskMetricsRequest, raw)

    def read_logs(self, raw: bytes) -> agent_pb2.GetTaskLogsRequest:
        """Read GetTaskLogs' request."""
        return decode(agent_pb2.GetTaskLogsRequest, raw)

    def read_agent_name(self, raw: bytes) -> str:
        """Read the name that GetAgent asks for."""
        return decode(agent_pb2.GetAgentRequest, raw).name

    def read_listing(self, raw: bytes) -> None:
        """Read ListAgents' request."""
        decode(agent_pb2.ListAgentsRequest, raw)

    def write_agent(self, agent: agent_pb2.Agent) -> bytes:
        """Write GetAgent's answer."""
        return agent_pb2.GetAgentResponse(agent=agent).SerializeToString()

    def write_agents(self, agents: Iterable[agent_pb2.Agent]) -> bytes:
        """Write ListAgents' answer."""
        return agent_pb2.ListAgentsResponse(agents=agents).SerializeToString()

    def write_created(self, resource_meta: bytes) -> bytes:
        """Write CreateTask's answer."""
        return agent_pb2.CreateTaskResponse(resource_meta=resource_meta).SerializeToString()

    def write_resource(self, resource: agent_pb2.Resource) -> bytes:
        """Write GetTask's answer."""
        return agent_pb2.GetTaskResponse(resource=self.resource(resource)).SerializeToString()

    def resource(self, resource: agent_pb2.Resource) -> agent_pb2.Resource:
        """Return a resource as the engine reads it; the one that is given stays as it is."""
        if not self._retryable_as_state or resource.phase != Phase.RETRYABLE_FAILED.value:
            return resource
        told = agent_pb2.Resource()
        told.CopyFrom(resource)
        told.ClearField("phase")
        told.state = agent_pb2.RETRYABLE_FAILURE
        return told

    def write_deleted(self) -> bytes:
        """Write DeleteTask's answer."""
        return agent_pb2.DeleteTaskResponse().SerializeToString()

    def write_metrics(self, results: Iterable[ExecutionMetricResult]) -> bytes:
        """Write GetTaskMetrics' answer."""
        return agent_pb2.GetTaskMetricsResponse(results=results).SerializeToString()

    def write_logs(self, page: LogPage) -> Iterator[bytes]:
        """Write GetTaskLogs' answers for one page."""
        if page.token:
            header = agent_pb2.GetTaskLogsResponseHeader(token=page.token)
            yield agent_pb2.GetTaskLogsResponse(header=header).SerializeToString()
        if page.lines:
            body = agent_pb2.GetTaskLogsResponseBody(
                results=[line for line in page.lines if isinstance(line, str)],
                structured_lines=[line for line in page.lines if not isinstance(line, str)],
            )
            yield agent_pb2.GetTaskLogsResponse(body=body).SerializeToString()
