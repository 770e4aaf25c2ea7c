"""The client that engines have: grpc-go, whose HTTP/2 is another than that of gRPC's core."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import LogPage, Phase
from connector_core.literals import to_literal_map, to_python_map
from connector_core.testing import RunningServer, running_server
from tests.fakes import Answers, Gate, JobMeta, Jobs, Never, eventually, happens
from tests.support.faults import in_flight
from tests.support.go_caller import GoCaller, go_caller

pytestmark = pytest.mark.timeout(300)  # the first run builds the client

CATEGORY = agent_pb2.TaskCategory(name="job")
DELETE = agent_pb2.DeleteTaskRequest(task_category=CATEGORY, resource_meta=JobMeta("1").encode())


def create_request(**inputs: Any) -> agent_pb2.CreateTaskRequest:
    return agent_pb2.CreateTaskRequest(template=TaskTemplate(type="job"), inputs=to_literal_map(inputs))


def get_request(job_id: str = "1", task_type: str = "job") -> agent_pb2.GetTaskRequest:
    category = agent_pb2.TaskCategory(name=task_type)
    return agent_pb2.GetTaskRequest(task_category=category, resource_meta=JobMeta(job_id).encode())


def sync_requests(**inputs: Any) -> list[agent_pb2.ExecuteTaskSyncRequest]:
    header = agent_pb2.CreateRequestHeader(template=TaskTemplate(type="answer"))
    return [
        agent_pb2.ExecuteTaskSyncRequest(header=header),
        agent_pb2.ExecuteTaskSyncRequest(inputs=to_literal_map(inputs)),
    ]


def settings(transport: str, **more: Any) -> dict[str, Any]:
    return {"transport": transport, **more}


async def test_a_job_from_its_start_to_its_end(transport: str) -> None:
    async with running_server(Jobs(), settings=settings(transport)) as host, go_caller(host.address) as engine:
        listed = await engine.call("ListAgents", agent_pb2.ListAgentsRequest(), timeout=10)
        created = await engine.call("CreateTask", create_request(id="7"), timeout=10)
        meta = agent_pb2.CreateTaskResponse.FromString(created.answers[0]).resource_meta
        asked = agent_pb2.GetTaskRequest(task_category=CATEGORY, resource_meta=meta)
        got = await engine.call("GetTask", asked)  # a named deployment of connectors has no deadline
        deleted = await engine.call(
            "DeleteTask", agent_pb2.DeleteTaskRequest(task_category=CATEGORY, resource_meta=meta)
        )
    assert {one.code for one in (listed, created, got, deleted)} == {"OK"}
    assert [one.name for one in agent_pb2.ListAgentsResponse.FromString(listed.answers[0]).agents] == ["job connector"]
    resource = agent_pb2.GetTaskResponse.FromString(got.answers[0]).resource
    assert (resource.phase, to_python_map(resource.outputs)) == (Phase.SUCCEEDED.value, {"id": "7"})
    assert deleted.answers == [b""]


async def test_a_refusal_has_the_status_that_other_clients_get(transport: str) -> None:
    async with running_server(Jobs(), settings=settings(transport)) as host, go_caller(host.address) as engine:
        refused = await engine.call("GetTask", get_request(task_type="jbo"))
        with pytest.raises(grpc.aio.AioRpcError) as other:
            await host.get("jbo", JobMeta("1").encode())
        unreadable = await engine.call("GetTask", b"\xff\xff")
        unserved = await engine.call("GetTaskMetrics", agent_pb2.GetTaskMetricsRequest(task_category=CATEGORY))
    assert refused.code == "NotFound"
    assert refused.message.partition("[")[0] == str(other.value.details()).partition("[")[0]
    assert "grpc-status-details-bin" in refused.trailers
    assert (unreadable.code, unserved.code) == ("InvalidArgument", "Unimplemented")


async def test_a_sync_task_is_read_and_cancelled(transport: str) -> None:
    """The engine sends a header and the inputs, half-closes, reads one message, and cancels."""
    async with running_server(Answers(), settings=settings(transport)) as host, go_caller(host.address) as engine:
        outcomes = [await engine.call("ExecuteTaskSync", *sync_requests(x=x), read=1, timeout=10) for x in range(50)]
        await eventually(lambda: not in_flight(host))
        counted = succeeded(host, "do", "answer")
    headers = [agent_pb2.ExecuteTaskSyncResponse.FromString(one.answers[0]).header for one in outcomes]
    assert [to_python_map(one.resource.outputs) for one in headers] == [{"x": x} for x in range(50)]
    assert counted == 50


def succeeded(host: RunningServer, operation: str, task_type: str) -> float:
    """Return how many requests of an operation have succeeded."""
    return host.metric("flyte_connector_requests_success_total", operation=operation, task_type=task_type)


@asynccontextmanager
async def hanging(transport: str, method: str) -> AsyncIterator[tuple[GoCaller, Never, list[Any]]]:
    """Serve a method that never ends; in the end, its code has been cancelled and nothing is in flight."""
    never = Never()
    connectors = Jobs(delete=never.wait), Answers(do=never.wait)
    async with running_server(*connectors, settings=settings(transport)) as host, go_caller(host.address) as engine:
        yield engine, never, [DELETE] if method == "DeleteTask" else sync_requests()
        await happens(never.cancelled)
        await eventually(lambda: not in_flight(host))


@pytest.mark.parametrize("method", ["DeleteTask", "ExecuteTaskSync"])
async def test_a_call_whose_deadline_passes_is_given_up(transport: str, method: str) -> None:
    async with hanging(transport, method) as (engine, _never, requests):
        outcome = await engine.call(method, *requests, timeout=0.3)
    assert outcome.code == "DeadlineExceeded"


@pytest.mark.parametrize("method", ["DeleteTask", "ExecuteTaskSync"])
async def test_a_call_that_is_cancelled_is_given_up(transport: str, method: str) -> None:
    async with hanging(transport, method) as (engine, never, requests):
        call = engine.begin(method, *requests)
        await happens(never.begun)
        engine.cancel(call)
        outcome = await call
    assert outcome.code == "Canceled"


async def test_thousands_of_polls_over_one_connection(transport: str) -> None:
    async with running_server(Jobs(), settings=settings(transport)) as host, go_caller(host.address) as engine:
        polls = await engine.call("GetTask", get_request(), times=3000, at_once=64)
        syncs = await engine.call("ExecuteTaskSync", *sync_requests(), read=1, times=300, at_once=64)
        (size,) = polls.counts
        await eventually(lambda: not in_flight(host))
    assert polls.counts == {size: 3000}
    assert size.startswith("OK ")
    assert list(syncs.counts) == ["NotFound 0"], "no sync connector is served here"


async def test_large_inputs_and_outputs_cross(transport: str) -> None:
    text = "x" * 3_000_000  # the client takes no more than 4 MiB
    connectors = Jobs(create=lambda inputs: JobMeta(str(len(inputs["a"]) + len(inputs["b"])))), Answers()
    async with running_server(*connectors, settings=settings(transport)) as host, go_caller(host.address) as engine:
        created = await engine.call("CreateTask", create_request(a=text, b=text))
        answered = await engine.call("ExecuteTaskSync", *sync_requests(x=text), read=1)
    meta = agent_pb2.CreateTaskResponse.FromString(created.answers[0]).resource_meta
    assert JobMeta.decode(meta).job_id == "6000000"
    header = agent_pb2.ExecuteTaskSyncResponse.FromString(answered.answers[0]).header
    assert to_python_map(header.resource.outputs) == {"x": text}


async def test_a_stream_of_logs_comes_whole_and_in_order(transport: str) -> None:
    def pages() -> Iterator[LogPage]:
        for page in range(200):
            yield LogPage((f"{page} " + "x" * 30_000,))

    async with (
        running_server(Jobs(get_logs=pages), settings=settings(transport)) as host,
        go_caller(host.address) as engine,
    ):
        asked = agent_pb2.GetTaskLogsRequest(task_category=CATEGORY, resource_meta=JobMeta("1").encode())
        whole = await engine.call("GetTaskLogs", asked)
        part = await engine.call("GetTaskLogs", asked, read=3)
        await eventually(lambda: not in_flight(host))
    assert whole.code == "OK"
    lines = [line for raw in whole.answers for line in agent_pb2.GetTaskLogsResponse.FromString(raw).body.results]
    assert [line.partition(" ")[0] for line in lines] == [str(page) for page in range(200)]
    assert part.answers == whole.answers[:3]


@pytest.fixture
async def two_hosts(transport: str) -> AsyncIterator[tuple[RunningServer, RunningServer]]:
    async with (
        running_server(Jobs(), settings=settings(transport)) as first,
        running_server(Jobs(), settings=settings(transport)) as second,
    ):
        yield first, second


async def test_a_host_that_leaves_costs_the_calls_on_their_way_at_most(
    two_hosts: tuple[RunningServer, RunningServer],
) -> None:
    """gRPC's core cancels what arrives between its word that it leaves and the client's reading it (grpc/grpc#29462)."""
    first, second = two_hosts
    at_once = 16
    async with go_caller(first.address, second.address) as engine:
        load = engine.begin("GetTask", get_request(), times=4000, at_once=at_once)
        await eventually(lambda: succeeded(first, "get", "job") > 100 and succeeded(second, "get", "job") > 100)
        await first.server.stop(5)
        outcome = await load
    (ok,) = (one for one in outcome.counts if one.startswith("OK"))
    lost = {code: number for code, number in outcome.counts.items() if code != ok}
    assert outcome.counts[ok] >= 4000 - at_once
    assert set(lost) <= {"Canceled 0"}


async def test_a_host_that_clients_have_left_costs_no_call(two_hosts: tuple[RunningServer, RunningServer]) -> None:
    """As replicas are updated: DNS leaves one out, the client looks at it when a connection ends, then the host stops."""
    first, second = two_hosts
    async with go_caller(first.address, second.address) as engine:
        load = engine.begin("GetTask", get_request(), times=8000, at_once=16)
        await eventually(lambda: succeeded(first, "get", "job") > 100 and succeeded(second, "get", "job") > 100)
        engine.send_to(second.address)
        settled = await engine.call("GetTask", get_request(), times=200, at_once=16)
        await eventually(lambda: not in_flight(first))
        await first.server.stop(5)
        outcome = await load
    assert [one.partition(" ")[0] for one in (*settled.counts, *outcome.counts)] == ["OK", "OK"]
    assert succeeded(first, "get", "job") + succeeded(second, "get", "job") == 8200


async def test_calls_in_flight_are_answered_while_the_host_drains(transport: str) -> None:
    gate = Gate()

    async with (
        running_server(Jobs(delete=gate.block), settings=settings(transport)) as host,
        go_caller(host.address) as engine,
    ):
        calls = [engine.begin("DeleteTask", DELETE) for _ in range(5)]
        await gate.reached(5)
        stopping = asyncio.create_task(host.server.stop(20))
        await eventually(lambda: host.server.not_ready())
        gate.open()
        outcomes = await asyncio.gather(*calls)
        await stopping
        late = await engine.call("GetTask", get_request(), timeout=5)
    assert [one.code for one in outcomes] == ["OK"] * 5
    assert late.code == "Unavailable"


async def test_connections_that_reach_their_age_cost_no_call(transport: str) -> None:
    chosen = settings(transport, max_connection_age=0.05)
    async with running_server(Jobs(), settings=chosen) as host, go_caller(host.address) as engine:
        polls = await engine.call("GetTask", get_request(), times=3000, at_once=8)
    assert sum(polls.counts.values()) == 3000
    assert [one.partition(" ")[0] for one in polls.counts] == ["OK"]


@pytest.mark.long
async def test_the_pings_of_engines_are_welcome(transport: str) -> None:
    """grpc-go pings every ten seconds at the most; three strikes, and gRPC's core would end the connection."""
    never = Never()
    async with (
        running_server(Jobs(delete=never.wait), settings=settings(transport, deadlines={"delete": 90})) as host,
        go_caller(host.address, ping="10s") as engine,
    ):
        outcome = await engine.call("DeleteTask", DELETE, timeout=65)
    assert outcome.code == "DeadlineExceeded", outcome.message
