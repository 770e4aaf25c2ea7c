"""Bytes that are no message are an INVALID_ARGUMENT on every RPC, and leave the host as it was."""

from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.service import agent_pb2 as service_pb2

from connector_core.testing import RunningServer, running_server
from tests.fakes import Answers, JobMeta, Jobs
from tests.support.rpc import ASYNC, SYNC, assert_hides_its_inside, collected, details_of, refusal

METHODS = [
    (service.full_name, method.name, method.client_streaming, method.server_streaming)
    for service in service_pb2.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]

GARBAGE = {
    "no message": b"\xff\xff\xff\xff",
    "cut off": b"\x0a\xff\x01abc",
    "a group without an end": b"\x0b",
    "text": b'{"task_type": "job"}',
}


async def send(host: RunningServer, path: str, *raw: bytes, client_streams: bool, server_streams: bool) -> Any:
    """Send raw bytes, wait for the end of the call and return the last raw answer."""
    channel: Any = host.channel
    if client_streams:
        return (await collected(channel.stream_stream(path)(iter(raw))))[-1]
    if server_streams:
        return (await collected(channel.unary_stream(path)(raw[0])))[-1]
    return await channel.unary_unary(path)(raw[0])


@pytest.mark.parametrize(
    ("service", "method", "client_streams", "server_streams"), METHODS, ids=[method for _service, method, *_ in METHODS]
)
async def test_garbage_is_an_invalid_argument(
    service: str, method: str, client_streams: bool, server_streams: bool
) -> None:
    async with running_server(Jobs(), Answers()) as host:
        for raw in GARBAGE.values():
            call = send(host, f"/{service}/{method}", raw, client_streams=client_streams, server_streams=server_streams)
            error = await refusal(call)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert f"the request's {len(raw)} bytes are not a flyteidl.admin." in details_of(error)
            assert_hides_its_inside(error)
        assert await host.health() == "SERVING"
        assert len(await host.list_connectors()) == 2


async def test_garbage_after_a_good_header_is_an_invalid_argument() -> None:
    header = agent_pb2.ExecuteTaskSyncRequest()
    header.header.template.type = "answer"
    async with running_server(Answers()) as host:
        path, good = f"/{SYNC}/ExecuteTaskSync", header.SerializeToString()
        error = await refusal(send(host, path, good, b"\xff\xff", client_streams=True, server_streams=True))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_method_that_does_not_exist_is_unimplemented() -> None:
    async with running_server() as host:
        error = await refusal(send(host, f"/{ASYNC}/PauseTask", b"", client_streams=False, server_streams=False))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_fields_of_a_newer_protocol_are_ignored() -> None:
    request = agent_pb2.GetTaskRequest(
        task_category=agent_pb2.TaskCategory(name="job"), resource_meta=JobMeta("1").encode()
    )
    newer = request.SerializeToString() + b"\xfa\x3e\x05later"  # field 1007, a string
    async with running_server(Jobs()) as host:
        raw = await send(host, f"/{ASYNC}/GetTask", newer, client_streams=False, server_streams=False)
    assert agent_pb2.GetTaskResponse.FromString(raw).resource.phase
