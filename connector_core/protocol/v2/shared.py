"""The messages that the two generations share, and a check that both still write them in the same bytes.

`flyteidl2` began as a copy of `flyteidl`: fields of one number hold the same, whatever they are called, and a map is written
as a list of its entries is. Nobody promises that it stays so. What is passed on as bytes is therefore looked at when
the host starts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from flyteidl.admin import agent_pb2
from flyteidl.core import execution_pb2 as execution_1
from flyteidl.core import literals_pb2 as literals_1
from flyteidl.core import metrics_pb2 as metrics_1
from flyteidl2.connector import connector_pb2, service_pb2
from flyteidl2.core import execution_pb2 as execution_2
from flyteidl2.core import metrics_pb2 as metrics_2
from flyteidl2.logs.dataplane import payload_pb2
from flyteidl2.task import common_pb2
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor
from google.protobuf.message import Message

DESCRIPTOR: FileDescriptor = service_pb2.DESCRIPTOR
"""The file with the services."""

SHARED: Mapping[type[Message], type[Message]] = {
    agent_pb2.CreateTaskRequest: connector_pb2.CreateTaskRequest,
    agent_pb2.GetTaskRequest: connector_pb2.GetTaskRequest,
    agent_pb2.DeleteTaskRequest: connector_pb2.DeleteTaskRequest,
    agent_pb2.GetTaskMetricsRequest: connector_pb2.GetTaskMetricsRequest,
    agent_pb2.GetTaskLogsRequest: connector_pb2.GetTaskLogsRequest,
    agent_pb2.LogLine: payload_pb2.LogLine,
    execution_1.TaskLog: execution_2.TaskLog,
    literals_1.LiteralMap: common_pb2.Outputs,
    metrics_1.ExecutionMetricResult: metrics_2.ExecutionMetricResult,
}
"""The messages passed from one generation to the other as bytes: requests one way, parts of answers the other."""


def contradictions(shared: Mapping[type[Message], type[Message]] = SHARED) -> list[str]:
    """Say which fields of these messages, or of messages in them, have one number and do not hold the same."""
    seen: set[tuple[str, str]] = set()
    return [
        f"{first.full_name} and {second.full_name} have one number and are of different kinds"
        for kind_1, kind_2 in shared.items()
        for first, second in _pairs(kind_1.DESCRIPTOR, kind_2.DESCRIPTOR, seen)
        if _kind(first) != _kind(second)
    ]


def _pairs(first: Any, second: Any, seen: set[tuple[str, str]]) -> Iterator[tuple[FieldDescriptor, FieldDescriptor]]:
    """Yield the fields of one number, of two messages' descriptors and of those in them."""
    if first is second or (first.full_name, second.full_name) in seen:
        return
    seen.add((first.full_name, second.full_name))
    for field in first.fields:
        if (other := second.fields_by_number.get(field.number)) is None:
            continue
        yield field, other
        if field.message_type is not None and other.message_type is not None:
            yield from _pairs(field.message_type, other.message_type, seen)


def _kind(field: FieldDescriptor) -> tuple[int, bool]:
    is_repeated = isinstance(field.default_value, list)  # the one way that all versions of protobuf have in common
    return field.type, is_repeated
