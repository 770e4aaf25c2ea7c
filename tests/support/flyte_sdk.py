"""Connectors written for Flyte's SDK 2, in fake distributions, and the SDK's own server for them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from flyteidl2.connector import connector_pb2
from flyteidl2.connector.service_pb2_grpc import (
    AsyncConnectorServiceStub,
    ConnectorMetadataServiceStub,
    add_AsyncConnectorServiceServicer_to_server,
    add_ConnectorMetadataServiceServicer_to_server,
)
from flyteidl2.core.identifier_pb2 import Identifier
from flyteidl2.core.interface_pb2 import TypedInterface, Variable, VariableEntry, VariableMap
from flyteidl2.core.tasks_pb2 import Container, TaskTemplate
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from flyteidl2.task.common_pb2 import Inputs
from google.protobuf.json_format import ParseDict

GROUP = "flyte.connectors"

ECHO = '''
"""Answers with all that it was given."""
import datetime
from dataclasses import dataclass, field
from typing import Any, Dict, Optional

from flyte.connectors import AsyncConnector, ConnectorRegistry, Resource, ResourceMeta
from flyte.io import File
from flyteidl2.connector.connector_pb2 import (
    GetTaskLogsResponse, GetTaskLogsResponseBody, GetTaskLogsResponseHeader, GetTaskMetricsResponse,
)
from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl2.core.metrics_pb2 import ExecutionMetricResult
from flyteidl2.logs.dataplane.payload_pb2 import LogLine
from google.protobuf.json_format import MessageToDict


@dataclass
class EchoMeta(ResourceMeta):
    name: str
    given: Dict[str, Any]
    prefix: str
    labels: Dict[str, str]
    connection: Dict[str, Any]
    variables: Dict[str, str]
    note: Optional[str] = None
    polls: Dict[str, int] = field(default_factory=dict)


class EchoConnector(AsyncConnector[EchoMeta]):
    name = "Echo Connector"
    task_type_name = "flyte_echo"
    metadata_type = EchoMeta

    async def create(self, task_template, output_prefix, inputs=None, task_execution_metadata=None, **kwargs):
        described = {name: f"{type(value).__name__} {value}" for name, value in sorted(inputs.items())}
        return EchoMeta(
            name=task_template.id.name,
            given=described | {"custom": MessageToDict(task_template.custom)},
            prefix=output_prefix,
            labels=dict(sorted(task_execution_metadata.labels.items())),
            connection=dict(sorted(kwargs.items())),
            variables={v.key: str(v.value.type.simple) for v in sorted(
                task_template.interface.inputs.variables, key=lambda v: v.key)},
            note="\\u00fc" if task_template.container.image else None,
        )

    async def get(self, resource_meta, **kwargs):
        phase = TaskExecution.Phase.Value(resource_meta.given["custom"].get("phase", "SUCCEEDED"))
        return Resource(
            phase=phase,
            message=f"{resource_meta.name} with {sorted(kwargs)}",
            log_links=[TaskLog(uri="https://logs.example", name="Logs", ready=True, link_type=TaskLog.DASHBOARD)],
            outputs={
                "count": 3, "text": resource_meta.prefix, "ratio": 0.5, "sure": True,
                "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
                "many": [1, 2], "file": File.from_existing_remote("s3://bucket/key"),
            } if phase == TaskExecution.SUCCEEDED else None,
            custom_info={"depth": {"of": [1.5, "text", None]}, "meta": resource_meta.note},
        )

    async def delete(self, resource_meta, **kwargs):
        if resource_meta.given["custom"].get("stuck"):
            raise RuntimeError("it does not stop")

    async def get_metrics(self, resource_meta, **kwargs):
        assert not kwargs
        return GetTaskMetricsResponse(results=[ExecutionMetricResult(metric=resource_meta.name)])

    async def get_logs(self, resource_meta, **kwargs):
        yield GetTaskLogsResponse(header=GetTaskLogsResponseHeader(token=kwargs["token"] + "+1"))
        yield GetTaskLogsResponse(body=GetTaskLogsResponseBody(results=["plain"]))
        line = LogLine(message="structured", short_pod_name="pod")
        yield GetTaskLogsResponse(body=GetTaskLogsResponseBody(lines=[line]))


ConnectorRegistry.register(EchoConnector())
'''

PLAIN = '''
"""The least that a connector of the SDK can have, for one task type: no `**kwargs`, no logs."""
from dataclasses import dataclass

from flyte.connectors import AsyncConnector, ConnectorRegistry, Resource, ResourceMeta
from flyteidl2.core.execution_pb2 import TaskExecution


@dataclass
class PlainMeta(ResourceMeta):
    job: str


class PlainConnector(AsyncConnector):
    name = "{name}"
    task_type_name = "{task_type}"
    metadata_type = PlainMeta

    async def create(self, task_template, inputs, output_prefix, task_execution_metadata, token=None):
        return PlainMeta(job=f"{{task_template.type}} {{token}}")

    async def get(self, resource_meta):
        return Resource(phase=TaskExecution.SUCCEEDED, message=resource_meta.job)

    def delete(self, resource_meta):
        pass


ConnectorRegistry.register(PlainConnector())
'''


def plain(task_type: str, name: str | None = None) -> str:
    """Return the code of a connector for one task type."""
    return PLAIN.format(task_type=task_type, name=name or f"Plain {task_type}")


@asynccontextmanager
async def sdk_server() -> AsyncIterator[grpc.aio.Channel]:
    """Serve what is in the SDK's registry with the SDK's own servicers, and give a channel to them."""
    from flyte.connectors._server import AsyncConnectorService, ConnectorMetadataService

    server = grpc.aio.server()
    add_AsyncConnectorServiceServicer_to_server(AsyncConnectorService(), server)
    add_ConnectorMetadataServiceServicer_to_server(ConnectorMetadataService(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


def async_stub(channel: grpc.aio.Channel) -> AsyncConnectorServiceStub:
    """`flyteidl2.connector.AsyncConnectorService`."""
    return AsyncConnectorServiceStub(channel)


def metadata_stub(channel: grpc.aio.Channel) -> ConnectorMetadataServiceStub:
    """`flyteidl2.connector.ConnectorMetadataService`."""
    return ConnectorMetadataServiceStub(channel)


def create_request(
    task_type: str, inputs: Inputs | None = None, custom: Mapping[str, Any] | None = None, **types: SimpleType
) -> connector_pb2.CreateTaskRequest:
    """Return a request with something in every field that connectors read; `types` are the inputs'."""
    variables = [
        VariableEntry(key=name, value=Variable(type=LiteralType(simple=simple))) for name, simple in types.items()
    ]
    template = TaskTemplate(
        id=Identifier(project="p", domain="d", name="a.task", version="v"),
        type=task_type,
        interface=TypedInterface(inputs=VariableMap(variables=variables)),
        container=Container(image="image:1", args=["a", "b"]),
    )
    ParseDict(dict(custom or {}), template.custom)
    request = connector_pb2.CreateTaskRequest(
        inputs=inputs or Inputs(), template=template, output_prefix="s3://bucket/prefix/0"
    )
    request.task_execution_metadata.labels["team"] = "blue"
    request.task_execution_metadata.task_execution_id.node_execution_id.node_id = "n0"
    return request
