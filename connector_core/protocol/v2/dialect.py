"""The second generation's messages, read into the first one's and written from them.

What both generations have, they write in the same bytes (`shared` says what that rests on), so a request is read as the first
one's message from the very bytes that came. What the second generation alone has stays in there as fields that are not
known: whoever reads `task_template.SerializeToString()` as a `flyteidl2.core.TaskTemplate` finds all of it again.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskLog
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from flyteidl2.connector import connector_pb2
from flyteidl2.core import execution_pb2, metrics_pb2, security_pb2
from flyteidl2.logs.dataplane import payload_pb2
from flyteidl2.task import common_pb2
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from connector_core.connection import Connection
from connector_core.protocol.decoding import decode
from connector_core.resource import LogPage
from connector_core.secrets import SecretStr

M = TypeVar("M", bound=Message)


class V2:
    """Reads and writes the second generation's messages.

    Args:
        note: called with the secrets that come, so that they can be kept out of the log.
    """

    def __init__(self, note: Callable[[Iterable[SecretStr]], None]) -> None:
        self._note = note

    def read_create(self, raw: bytes) -> tuple[agent_pb2.CreateTaskRequest, Connection]:
        """Read CreateTask's request."""
        connection = decode(connector_pb2.CreateTaskRequest, raw).connection
        return decode(agent_pb2.CreateTaskRequest, raw), self._connection(connection)

    def read_get(self, raw: bytes) -> tuple[agent_pb2.GetTaskRequest, Connection]:
        """Read GetTask's request."""
        connection = decode(connector_pb2.GetTaskRequest, raw).connection
        return decode(agent_pb2.GetTaskRequest, raw), self._connection(connection)

    def read_delete(self, raw: bytes) -> tuple[agent_pb2.DeleteTaskRequest, Connection]:
        """Read DeleteTask's request."""
        connection = decode(connector_pb2.DeleteTaskRequest, raw).connection
        return decode(agent_pb2.DeleteTaskRequest, raw), self._connection(connection)

    def read_metrics(self, raw: bytes) -> agent_pb2.GetTaskMetricsRequest:
        """Read GetTaskMetrics' request, which brings no connection."""
        decode(connector_pb2.GetTaskMetricsRequest, raw)
        return decode(agent_pb2.GetTaskMetricsRequest, raw)

    def read_logs(self, raw: bytes) -> agent_pb2.GetTaskLogsRequest:
        """Read GetTaskLogs' request, which brings no connection."""
        decode(connector_pb2.GetTaskLogsRequest, raw)
        return decode(agent_pb2.GetTaskLogsRequest, raw)

    def read_agent_name(self, raw: bytes) -> str:
        """Read the name that GetConnector asks for."""
        return decode(connector_pb2.GetConnectorRequest, raw).name

    def read_listing(self, raw: bytes) -> None:
        """Read ListConnectors' request."""
        decode(connector_pb2.ListConnectorsRequest, raw)

    def write_agent(self, agent: agent_pb2.Agent) -> bytes:
        """Write GetConnector's answer."""
        return connector_pb2.GetConnectorResponse(connector=_connector(agent)).SerializeToString()

    def write_agents(self, agents: Iterable[agent_pb2.Agent]) -> bytes:
        """Write ListConnectors' answer."""
        return connector_pb2.ListConnectorsResponse(connectors=map(_connector, agents)).SerializeToString()

    def write_created(self, resource_meta: bytes) -> bytes:
        """Write CreateTask's answer."""
        return connector_pb2.CreateTaskResponse(resource_meta=resource_meta).SerializeToString()

    def write_resource(self, resource: agent_pb2.Resource) -> bytes:
        """Write GetTask's answer; the first generation's `state` and `agent_error` have no place in it."""
        phase: Any = resource.phase  # the same numbers, though each generation's stubs have an enum of their own
        told = connector_pb2.Resource(phase=phase, message=resource.message)
        told.log_links.extend(map(_link, resource.log_links))
        if resource.HasField("outputs"):
            told.outputs.CopyFrom(_same(resource.outputs, common_pb2.Outputs))
        if resource.HasField("custom_info"):
            told.custom_info.CopyFrom(resource.custom_info)
        return connector_pb2.GetTaskResponse(resource=told).SerializeToString()

    def write_deleted(self) -> bytes:
        """Write DeleteTask's answer."""
        return connector_pb2.DeleteTaskResponse().SerializeToString()

    def write_metrics(self, results: Iterable[ExecutionMetricResult]) -> bytes:
        """Write GetTaskMetrics' answer."""
        told = (_same(result, metrics_pb2.ExecutionMetricResult) for result in results)
        return connector_pb2.GetTaskMetricsResponse(results=told).SerializeToString()

    def write_logs(self, page: LogPage) -> Iterator[bytes]:
        """Write GetTaskLogs' answers for one page.

        A client that finds `lines` does not look at `results`, so plain lines among structured ones become structured.
        """
        if page.token:
            header = connector_pb2.GetTaskLogsResponseHeader(token=page.token)
            yield connector_pb2.GetTaskLogsResponse(header=header).SerializeToString()
        if page.lines:
            plain = [line for line in page.lines if isinstance(line, str)]
            body = (
                connector_pb2.GetTaskLogsResponseBody(results=plain)
                if len(plain) == len(page.lines)
                else connector_pb2.GetTaskLogsResponseBody(lines=map(_line, page.lines))
            )
            yield connector_pb2.GetTaskLogsResponse(body=body).SerializeToString()

    def _connection(self, connection: security_pb2.Connection) -> Connection:
        secrets = {name: SecretStr(secret) for name, secret in connection.secrets.items()}
        self._note(secrets.values())
        return Connection(secrets, dict(connection.configs), connection.task_type)


def _connector(agent: agent_pb2.Agent) -> connector_pb2.Connector:
    """Describe a connector; that it is a sync one makes no difference in this generation, and has no place."""
    categories = (
        connector_pb2.TaskCategory(name=category.name, version=category.version)
        for category in agent.supported_task_categories
    )
    return connector_pb2.Connector(name=agent.name, supported_task_categories=categories)


def _link(link: TaskLog) -> execution_pb2.TaskLog:
    """Return a link as one that can be followed to a dashboard, unless it says otherwise itself."""
    told = _same(link, execution_pb2.TaskLog)
    if not len(UnknownFieldSet(link)):
        told.ready, told.link_type = True, execution_pb2.TaskLog.DASHBOARD
    return told


def _line(line: str | agent_pb2.LogLine) -> payload_pb2.LogLine:
    return payload_pb2.LogLine(message=line) if isinstance(line, str) else _same(line, payload_pb2.LogLine)


def _same(message: Message, kind: type[M]) -> M:
    """Return a message of one generation as the one of the other that is written in the same bytes."""
    return kind.FromString(message.SerializeToString())
