"""Dialects: the messages of one generation of the protocol, for servicers that serve both generations."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from flyteidl.admin import agent_pb2
from flyteidl.core.metrics_pb2 import ExecutionMetricResult

from connector_core.connection import Connection
from connector_core.resource import LogPage


class Dialect(Protocol):
    """Reads requests into the first generation's messages, which connectors know, and writes answers from them.

    Each `read_` method raises an InvalidRequestError for bytes that are not such a message.
    """

    def read_create(self, raw: bytes) -> tuple[agent_pb2.CreateTaskRequest, Connection]:
        """Read CreateTask's request."""
        ...

    def read_get(self, raw: bytes) -> tuple[agent_pb2.GetTaskRequest, Connection]:
        """Read GetTask's request."""
        ...

    def read_delete(self, raw: bytes) -> tuple[agent_pb2.DeleteTaskRequest, Connection]:
        """Read DeleteTask's request."""
        ...

    def read_metrics(self, raw: bytes) -> agent_pb2.GetTaskMetricsRequest:
        """Read GetTaskMetrics' request."""
        ...

    def read_logs(self, raw: bytes) -> agent_pb2.GetTaskLogsRequest:
        """Read GetTaskLogs' request."""
        ...

    def read_agent_name(self, raw: bytes) -> str:
        """Read the connector's name from a request to the metadata service."""
        ...

    def read_listing(self, raw: bytes) -> None:
        """Read the request for all connectors, which holds nothing."""
        ...

    def write_agent(self, agent: agent_pb2.Agent) -> bytes:
        """Write the metadata service's answer about one connector."""
        ...

    def write_agents(self, agents: Iterable[agent_pb2.Agent]) -> bytes:
        """Write the metadata service's answer about all connectors."""
        ...

    def write_created(self, resource_meta: bytes) -> bytes:
        """Write CreateTask's answer."""
        ...

    def write_resource(self, resource: agent_pb2.Resource) -> bytes:
        """Write GetTask's answer; the resource may be another caller's as well, and is left as it is."""
        ...

    def write_deleted(self) -> bytes:
        """Write DeleteTask's answer."""
        ...

    def write_metrics(self, results: Iterable[ExecutionMetricResult]) -> bytes:
        """Write GetTaskMetrics' answer."""
        ...

    def write_logs(self, page: LogPage) -> Iterator[bytes]:
        """Write GetTaskLogs' answers for one page."""
        ...
