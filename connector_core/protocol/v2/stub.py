"""Calls of the protocol's second generation, made and answered with the first one's messages.

So a test is written once for both. What goes over the wire is what an engine of the 2.x line sends: fields that its
generation does not have are left out, and of an answer no more arrives than it would read.
"""

from collections.abc import Callable
from typing import Any

import grpc.aio
from flyteidl.admin import agent_pb2
from flyteidl2.connector import connector_pb2, service_pb2
from google.protobuf.message import Message

from connector_core.connection import Connection

_NAMES = {"GetAgent": "GetConnector", "ListAgents": "ListConnectors"}


class SecondStub:
    """A stub of one service of the second generation, whose methods have the names and messages of the first one.

    Args:
        channel: to whom.
        service: the service's name, `AsyncConnectorService` or `ConnectorMetadataService`.
        connection: what goes along with each request that can carry one.
    """

    def __init__(self, channel: grpc.aio.Channel, service: str, connection: Connection | None = None) -> None:
        descriptor = service_pb2.DESCRIPTOR.services_by_name[service]
        first = {second: first for first, second in _NAMES.items()}
        for method in descriptor.methods:
            name = first.get(method.name, method.name)
            make = channel.unary_stream if method.server_streaming else channel.unary_unary
            call = make(
                f"/{descriptor.full_name}/{method.name}",
                request_serializer=_writes(getattr(connector_pb2, f"{method.name}Request"), connection),
                response_deserializer=_reads(
                    getattr(connector_pb2, f"{method.name}Response"), getattr(agent_pb2, f"{name}Response")
                ),
            )
            setattr(self, name, call)


def _writes(kind: type[Message], connection: Connection | None) -> Callable[[Message], bytes]:
    def write(request: Message) -> bytes:
        sent: Any = _known(kind.FromString(request.SerializeToString()))
        if connection is not None and "connection" in kind.DESCRIPTOR.fields_by_name:
            sent.connection.task_type = connection.task_type
            sent.connection.configs.update(connection.configs)
            sent.connection.secrets.update(
                {name: secret.get_secret_value() for name, secret in connection.secrets.items()}
            )
        raw: bytes = sent.SerializeToString()
        return raw

    return write


def _reads(kind: type[Message], first: type[Message]) -> Callable[[bytes], Message]:
    return lambda raw: first.FromString(_known(kind.FromString(raw)).SerializeToString())


def _known(message: Message) -> Message:
    """Leave out what the message's generation does not have."""
    message.DiscardUnknownFields()
    return message
