"""The same requests to flyte's own server and to ours, compared field by field."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio
import pytest
from flyteidl.admin import agent_pb2
from flyteidl2.connector import connector_pb2
from flyteidl2.core.execution_pb2 import TaskExecution
from flyteidl2.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl2.core.security_pb2 import Connection
from flyteidl2.core.types_pb2 import SimpleType
from flyteidl2.task.common_pb2 import Inputs, NamedLiteral
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from connector_core.testing import RunningServer, running_server
from tests.bridges.conftest import Bridge
from tests.support.flyte_sdk import ECHO, async_stub, create_request, plain, sdk_server

ECHOED = connector_pb2.TaskCategory(name="flyte_echo")
PLAIN = connector_pb2.TaskCategory(name="flyte_plain")


class Servers:
    """flyte's server and ours with the same connectors, asked the same; ours in one generation of the protocol."""

    def __init__(self, theirs: grpc.aio.Channel, ours: RunningServer, generation: str) -> None:
        self.theirs = async_stub(theirs)
        self.generation = generation
        self._first = ours.async_stub
        self._second = async_stub(ours.channel)

    async def ask_ours(self, method: str, request: Message, timeout: float | None = None) -> Any:
        """Ask ours; the messages of both generations have the same field numbers."""
        if self.generation == "v2":
            return await getattr(self._second, method)(request, timeout=timeout)
        asked = getattr(agent_pb2, f"{method}Request").FromString(request.SerializeToString())
        answer = await getattr(self._first, method)(asked, timeout=timeout)
        return getattr(connector_pb2, f"{method}Response").FromString(answer.SerializeToString())

    async def read_logs(self, request: connector_pb2.GetTaskLogsRequest) -> list[connector_pb2.GetTaskLogsResponse]:
        """Return the pages of ours."""
        if self.generation == "v2":
            return [page async for page in self._second.GetTaskLogs(request)]
        asked = agent_pb2.GetTaskLogsRequest.FromString(request.SerializeToString())
        return [
            connector_pb2.GetTaskLogsResponse.FromString(page.SerializeToString())
            async for page in self._first.GetTaskLogs(asked)
        ]

    async def ask_theirs(self, method: str, request: Message) -> Any:
        return await getattr(self.theirs, method)(request)

    async def ask_both(self, method: str, request: Message) -> tuple[Any, Any]:
        return await self.ask_theirs(method, request), await self.ask_ours(method, request)


@pytest.fixture(params=["v1", "v2"])
async def servers(request: pytest.FixtureRequest, bridge_flyte: Bridge) -> AsyncIterator[Servers]:
    connectors = bridge_flyte(ECHO, plain("flyte_plain"))
    async with AsyncExitStack() as stack:
        theirs = await stack.enter_async_context(sdk_server())
        ours = await stack.enter_async_context(running_server(*connectors))
        yield Servers(theirs, ours, request.param)


def scalar(**primitive: Any) -> Literal:
    return Literal(scalar=Scalar(primitive=Primitive(**primitive)))


def named(**literals: Literal) -> Inputs:
    return Inputs(literals=[NamedLiteral(name=name, value=literal) for name, literal in literals.items()])


TYPED: Mapping[str, tuple[SimpleType, Literal]] = {
    "whole": (SimpleType.INTEGER, scalar(integer=-3)),
    "part": (SimpleType.FLOAT, scalar(float_value=0.1)),
    "text": (SimpleType.STRING, scalar(string_value="ü")),
    "sure": (SimpleType.BOOLEAN, scalar(boolean=True)),
    "when": (SimpleType.DATETIME, scalar(datetime=Timestamp(seconds=1_700_000_000, nanos=5_000))),
    "span": (SimpleType.DURATION, scalar(duration=Duration(seconds=90))),
}


def by_name(resource: connector_pb2.Resource) -> connector_pb2.Resource:
    """Return it with its outputs in the order of their names: they are named, and the first generation has no order."""
    ordered = connector_pb2.Resource()
    ordered.CopyFrom(resource)
    del ordered.outputs.literals[:]
    ordered.outputs.literals.extend(sorted(resource.outputs.literals, key=lambda one: one.name))
    return ordered


@pytest.mark.parametrize("names", [(), *((name,) for name in TYPED), tuple(TYPED)], ids="+".join)
async def test_resource_metas_are_the_same_bytes(servers: Servers, names: tuple[str, ...]) -> None:
    inputs = named(**{name: TYPED[name][1] for name in names})
    request = create_request(
        "flyte_echo", inputs, {"a": {"b": [1, None, "c"]}}, **{name: TYPED[name][0] for name in names}
    )
    theirs, ours = await servers.ask_both("CreateTask", request)
    assert ours.resource_meta == theirs.resource_meta
    for name in names:
        assert f'"{name}": '.encode() in ours.resource_meta


@pytest.mark.parametrize("phase", [name for name, number in TaskExecution.Phase.items() if number])
async def test_resources_are_the_same_in_every_phase(servers: Servers, phase: str) -> None:
    created = await servers.ask_theirs("CreateTask", create_request("flyte_echo", custom={"phase": phase}))
    request = connector_pb2.GetTaskRequest(task_category=ECHOED, resource_meta=created.resource_meta)
    theirs, ours = await servers.ask_both("GetTask", request)
    assert by_name(ours.resource) == by_name(theirs.resource)
    assert TaskExecution.Phase.Name(ours.resource.phase) == phase
    assert len(ours.resource.outputs.literals) == (7 if phase == "SUCCEEDED" else 0)


async def test_log_lines_and_metrics_are_the_same(servers: Servers) -> None:
    created = await servers.ask_theirs("CreateTask", create_request("flyte_echo"))
    meta = created.resource_meta
    logs = connector_pb2.GetTaskLogsRequest(task_category=ECHOED, resource_meta=meta, token="page")
    theirs = [page async for page in servers.theirs.GetTaskLogs(logs)]
    ours = await servers.read_logs(logs)
    assert ours == theirs
    assert len(ours) == 3
    metrics = connector_pb2.GetTaskMetricsRequest(task_category=ECHOED, resource_meta=meta)
    their_metrics, our_metrics = await servers.ask_both("GetTaskMetrics", metrics)
    assert our_metrics == their_metrics
    assert our_metrics.results[0].metric == "a.task"


async def test_a_job_that_one_server_created_is_finished_by_the_other(servers: Servers) -> None:
    request = create_request("flyte_echo")
    theirs, ours = await servers.ask_both("CreateTask", request)
    answers = [
        await ask("GetTask", connector_pb2.GetTaskRequest(task_category=ECHOED, resource_meta=created.resource_meta))
        for created, ask in ((theirs, servers.ask_ours), (ours, servers.ask_theirs))
    ]
    assert [one.resource.phase for one in answers] == [TaskExecution.SUCCEEDED] * 2
    for created, ask in ((theirs, servers.ask_ours), (ours, servers.ask_theirs)):
        await ask(
            "DeleteTask", connector_pb2.DeleteTaskRequest(task_category=ECHOED, resource_meta=created.resource_meta)
        )


async def test_methods_without_keyword_arguments_and_plain_ones_are_served(servers: Servers) -> None:
    created = await servers.ask_ours("CreateTask", create_request("flyte_plain"))
    assert created.resource_meta == b'{"job": "flyte_plain None"}'
    about = {"task_category": PLAIN, "resource_meta": created.resource_meta}
    answer = await servers.ask_ours("GetTask", connector_pb2.GetTaskRequest(**about))
    assert answer.resource.message == "flyte_plain None"
    await servers.ask_ours("DeleteTask", connector_pb2.DeleteTaskRequest(**about))
    metrics = servers.ask_ours("GetTaskMetrics", connector_pb2.GetTaskMetricsRequest(**about))
    for call in (metrics, servers.read_logs(connector_pb2.GetTaskLogsRequest(**about))):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("servers", ["v2"], indirect=True)  # the first generation has no connection
async def test_a_connections_values_reach_the_connector_by_name(servers: Servers) -> None:
    connection = Connection(secrets={"api_key": "s3cret", "both": "secret"}, configs={"both": "config"})
    request = create_request("flyte_echo")
    request.connection.CopyFrom(connection)
    theirs, ours = await servers.ask_both("CreateTask", request)
    assert ours.resource_meta == theirs.resource_meta
    assert b'"connection": {"api_key": "s3cret", "both": "config"}' in ours.resource_meta
    about = {"task_category": ECHOED, "resource_meta": ours.resource_meta, "connection": connection}
    their_state, our_state = await servers.ask_both("GetTask", connector_pb2.GetTaskRequest(**about))
    assert by_name(our_state.resource) == by_name(their_state.resource)
    assert our_state.resource.message == "a.task with ['api_key', 'both']"
    await servers.ask_ours("DeleteTask", connector_pb2.DeleteTaskRequest(**about))


async def test_a_job_in_no_phase_is_ridden_out_not_answered_as_undefined(servers: Servers) -> None:
    created = await servers.ask_ours("CreateTask", create_request("flyte_echo", custom={"phase": "UNDEFINED"}))
    request = connector_pb2.GetTaskRequest(task_category=ECHOED, resource_meta=created.resource_meta)
    answer = await servers.ask_ours("GetTask", request, timeout=2)
    assert TaskExecution.Phase.Name(answer.resource.phase) != "UNDEFINED"


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        (b"\xff\xfe", "are not JSON"),
        (b"[1]", "it is JSON, but not an object"),
        (b'{"other": 1}', "field 'job' is missing"),
        (b"", "are not JSON"),
    ],
)
async def test_a_malformed_resource_meta_is_refused_with_what_is_wrong(
    servers: Servers, meta: bytes, said: str
) -> None:
    request = connector_pb2.GetTaskRequest(task_category=PLAIN, resource_meta=meta)
    with pytest.raises(grpc.aio.AioRpcError, match=said) as caught:
        await servers.ask_ours("GetTask", request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Traceback" not in (caught.value.details() or "")


async def test_fields_that_a_newer_version_has_written_are_left_out(servers: Servers) -> None:
    request = connector_pb2.GetTaskRequest(task_category=PLAIN, resource_meta=b'{"job": "j", "newer": [1]}')
    answer = await servers.ask_ours("GetTask", request)
    assert answer.resource.message == "j"
