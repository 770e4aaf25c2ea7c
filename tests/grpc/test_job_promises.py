"""A create that takes longer than the engine waits is answered with a promise, and the promise becomes the job."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.core.metrics_pb2 import ExecutionMetricResult

from connector_core import LogLink, LogPage, PermanentError, Phase, Resource, TransientError
from connector_core.testing import FakePropeller, RunningServer
from connector_core.testing import running_server as in_the_first_generation
from tests.fakes import PATIENCE, Jobs, eventually
from tests.support.creates import PREFIX, Held, create, memories, meta
from tests.support.generations import running_server
from tests.support.redis_server import running_redis
from tests.support.rpc import refusal

pytestmark = pytest.mark.usefixtures("spoken")

DEADLINES = (0.2, 1, 5, PATIENCE)
OTHER = "s3://bucket/f00/n1/data"
MARK = b"\x00connector-host/1/job\x00"


async def promised(host: RunningServer, path: str = PREFIX) -> bytes:
    """Make a create whose caller has a deadline, and return its answer; one that comes too late is asked for again."""
    for deadline in DEADLINES:
        try:
            resource_meta = await create(host, path=path, timeout=deadline)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
        else:
            return resource_meta
    raise AssertionError(f"no answer within {DEADLINES[-1]} s")


async def polled(host: RunningServer, resource_meta: bytes, path: str = PREFIX) -> Resource:
    got = await host.get("job", resource_meta, output_prefix=f"{path}/0")
    return Resource(
        Phase(got.phase), message=got.message, log_links=[LogLink(one.name, one.uri) for one in got.log_links]
    )


async def comes_to(host: RunningServer, resource_meta: bytes, *phases: Phase) -> Resource:
    """Poll until the job is in one of these phases."""
    async with asyncio.timeout(PATIENCE):
        while True:
            resource = await polled(host, resource_meta)
            if resource.phase in phases:
                return resource


@pytest.fixture(params=["process", "sqlite", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Each memory."""
    with memories(request.param, tmp_path) as chosen:
        yield chosen


async def test_promise_and_job_are_one_job(settings: dict[str, Any]) -> None:
    held = Held()
    async with running_server(held.connector(get=lambda: Resource(Phase.RUNNING)), settings=settings) as host:
        promise = await promised(host)
        assert promise.startswith(MARK)
        waiting = await polled(host, promise)
        assert (waiting.phase, waiting.message) == (Phase.INITIALIZING, "create() has not ended yet")
        held.gate.open()
        await comes_to(host, promise, Phase.RUNNING)
        assert (await polled(host, meta("job-1"))).phase is Phase.RUNNING
        assert await create(host) == meta("job-1")
        await host.delete("job", promise)
    assert (held.started, held.deleted) == (["job-1"], ["job-1"])


async def test_a_last_word_told_of_one_is_that_of_the_other() -> None:
    held, answers = Held(), [Resource(Phase.SUCCEEDED, outputs={"x": 1}), Resource(Phase.RUNNING)]
    async with running_server(held.connector(get=lambda: answers.pop(0))) as host:
        promise = await promised(host)
        held.gate.open()
        await comes_to(host, promise, Phase.SUCCEEDED)
        assert (await polled(host, meta("job-1"))).phase is Phase.SUCCEEDED
    assert len(answers) == 1


async def test_logs_and_metrics_are_the_jobs_once_there_is_one() -> None:
    held = Held()
    connector = held.connector(get_logs=lambda: LogPage(["line"]), get_metrics=list_nothing)
    async with running_server(connector) as host:
        promise = await promised(host)
        assert [message async for message in host.get_logs("job", promise)] == []
        assert list((await host.get_metrics("job", promise)).results) == []
        held.gate.open()
        await host.creates_ended()
        lines = [line async for message in host.get_logs("job", promise) for line in message.body.results]
    assert lines == ["line"]


async def test_a_delete_before_the_create_has_ended_deletes_what_comes_of_it(settings: dict[str, Any]) -> None:
    held = Held()
    async with running_server(held.connector(), settings=settings) as host:
        promise = await promised(host)
        await host.delete("job", promise)
        assert held.deleted == []
        held.gate.open()
        await eventually(lambda: held.deleted == ["job-1"])
        assert (await comes_to(host, promise, Phase.ABORTED)).message == "it was deleted"


@pytest.mark.parametrize(
    ("error", "phase"),
    [(PermanentError("no quota"), Phase.FAILED), (TransientError("busy"), Phase.RETRYABLE_FAILED)],
    ids=["permanent", "transient"],
)
async def test_a_create_that_fails_is_the_jobs_last_word(error: Exception, phase: Phase) -> None:
    held = Held()
    held.trouble["create"] = [error]
    async with running_server(held.connector()) as host:
        promise = await promised(host)
        held.gate.open()
        resource = await comes_to(host, promise, phase)
    assert resource.message == f"plugin 'test-job connector', create(): {error}"


async def test_an_attempt_that_failed_may_be_created_anew_and_promised_again() -> None:
    held = Held()
    held.trouble["create"] = [TransientError("busy")]
    async with running_server(held.connector(get=lambda: Resource(Phase.RUNNING))) as host:
        promise = await promised(host)
        held.gate.open()
        await comes_to(host, promise, Phase.RETRYABLE_FAILED)
        assert await create(host) == meta("job-2")


async def test_promises_can_be_turned_off() -> None:
    held = Held()
    async with running_server(held.connector(), settings={"promise_creates": "never"}) as host:
        error = await refusal(create(host, timeout=0.2))
        held.gate.open()
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_caller_without_a_deadline_waits_for_the_job_itself() -> None:
    held = Held()
    async with running_server(held.connector()) as host:
        call = asyncio.create_task(host.create("job", output_prefix=f"{PREFIX}/0"))
        await held.gate.reached()
        held.gate.open()
        assert await call == meta("job-1")


async def test_with_signing_on_promises_are_signed() -> None:
    held = Held()
    settings = {"signing": {"keys": ["a key of sixteen or more"]}}
    async with running_server(held.connector(get=lambda: Resource(Phase.RUNNING)), settings=settings) as host:
        promise = await promised(host)
        assert not promise.startswith(MARK)
        forged = await refusal(host.get("job", MARK + promise.split(MARK)[1]))
        assert forged.code() is grpc.StatusCode.PERMISSION_DENIED
        held.gate.open()
        await comes_to(host, promise, Phase.RUNNING)
        await host.delete("job", promise)
    assert held.deleted == ["job-1"]


async def test_while_the_jobs_state_cannot_be_read_it_is_not_said_to_run() -> None:
    held = Held()

    def away() -> Resource:
        raise TransientError("busy")

    async with running_server(held.connector(get=away), settings={"deadlines": {"get": 1}}) as host:
        promise = await promised(host)
        held.gate.open()
        await host.creates_ended()
        resource = await polled(host, promise)
    assert resource.phase is Phase.INITIALIZING
    assert "the job's state could not be read (1 times in a row)" in resource.message


def list_nothing() -> list[ExecutionMetricResult]:
    return []


# Replicas and restarts


async def test_a_replica_that_shares_the_memory_knows_the_job_and_deletes_what_another_creates() -> None:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(running_redis())
        settings = {"memory": {"kind": "redis", "url": redis.url}}
        held = Held(f"{PREFIX}/0", f"{OTHER}/0")
        connector = held.connector(get=lambda: Resource(Phase.RUNNING))
        here = await stack.enter_async_context(running_server(connector, settings=settings))
        there = await stack.enter_async_context(running_server(connector, settings=settings))
        first, second = await promised(here), await promised(here, OTHER)
        assert (await polled(there, first)).message == "create() runs at another replica, and has not ended yet"
        await there.delete("job", second)
        assert "delete requested" in (await polled(there, second, OTHER)).message
        held.gate.open()
        await comes_to(there, first, Phase.RUNNING)
        await eventually(lambda: len(held.deleted) == 1)
        await there.delete("job", first)
    assert sorted(held.deleted) == sorted(held.started)


async def test_a_replica_that_shares_no_memory_neither_fails_the_job_nor_says_that_it_is_deleted() -> None:
    held = Held()
    settings = {"ride_out": {"failures": 2}}
    async with running_server(held.connector()) as here, running_server(Jobs(), settings=settings) as there:
        promise = await promised(here)
        for _poll in range(2):
            resource = await polled(there, promise)
            assert resource.phase is Phase.RUNNING
            assert "which shares no memory with this one" in resource.message
        refused = await refusal(there.get("job", promise, output_prefix=f"{PREFIX}/0"))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        not_deleted = await refusal(there.delete("job", promise))
        assert not_deleted.code() is grpc.StatusCode.UNAVAILABLE
        held.gate.open()


async def test_after_a_restart_with_sqlite_the_job_is_still_one(tmp_path: Path) -> None:
    held, settings = Held(), {"memory": {"kind": "sqlite", "path": tmp_path / "memory.sqlite"}}
    connector = held.connector(get=lambda: Resource(Phase.RUNNING))
    async with running_server(connector, settings=settings) as host:
        promise = await promised(host)
        held.gate.open()
        await comes_to(host, promise, Phase.RUNNING)
    async with running_server(connector, settings=settings) as host:
        assert (await polled(host, promise)).phase is Phase.RUNNING
        assert await create(host) == meta("job-1")
        await host.delete("job", promise)
    assert (held.started, held.deleted) == (["job-1"], ["job-1"])


async def test_after_a_crash_in_the_middle_of_a_create_the_engine_is_let_go_on(tmp_path: Path) -> None:
    """Its DeleteTask comes before its next attempt, and would hold that up as long as it fails."""
    held, settings = Held(), {"memory": {"kind": "sqlite", "path": tmp_path / "memory.sqlite"}}
    async with running_server(held.connector(), settings=settings) as host:
        promise = await promised(host)
        await host.server.memory.close()  # as a crash does: nothing is written any more
        held.gate.open()
    async with running_server(held.connector(), settings=settings) as host:
        lost = await polled(host, promise)
        assert lost.phase is Phase.RETRYABLE_FAILED
        assert "the host that ran create() ended before it had" in lost.message
        await host.delete("job", promise)
        assert (await polled(host, promise)).phase is Phase.RETRYABLE_FAILED


async def test_a_promise_outlives_the_key_that_it_was_signed_with_by_a_rotation(tmp_path: Path) -> None:
    old, new = "a key of sixteen or more", "another key of sixteen or more"
    held, memory = Held(), {"kind": "sqlite", "path": tmp_path / "memory.sqlite"}
    connector = held.connector(get=lambda: Resource(Phase.RUNNING))
    async with running_server(connector, settings={"memory": memory, "signing": {"keys": [old]}}) as host:
        promise = await promised(host)
        held.gate.open()
        await comes_to(host, promise, Phase.RUNNING)
    async with running_server(connector, settings={"memory": memory, "signing": {"keys": [new]}}) as host:
        refused = await refusal(host.get("job", promise))
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
    async with running_server(connector, settings={"memory": memory, "signing": {"keys": [new, old]}}) as host:
        assert (await polled(host, promise)).phase is Phase.RUNNING
        await host.delete("job", promise)
    assert held.deleted == ["job-1"]


async def test_what_a_job_is_called_is_remembered_for_as_long_as_it_is_polled() -> None:
    held = Held()
    settings = {"memory": {"seconds": 1}}
    async with running_server(held.connector(get=lambda: Resource(Phase.RUNNING)), settings=settings) as host:
        promise = await promised(host)
        held.gate.open()
        loop = asyncio.get_running_loop()
        end = loop.time() + 2.5
        while loop.time() < end:  # the memory forgets by the clock
            await comes_to(host, promise, Phase.RUNNING)
            await asyncio.sleep(0.05)
        await host.delete("job", promise)
    assert held.deleted == ["job-1"]


# The engine


@pytest.mark.of_the_first_generation
@pytest.mark.parametrize("engine_version", [(1, 16), (2, 0)], ids=["1.x", "2.x"])
async def test_a_create_slower_than_the_engines_deadline_takes_one_attempt(engine_version: tuple[int, int]) -> None:
    held = Held()
    phases = [Resource(Phase.SUCCEEDED, outputs={"x": 5}), Resource(Phase.RUNNING)]
    async with (
        in_the_first_generation(held.connector(get=lambda: phases.pop())) as host,
        FakePropeller(
            [host.address], engine_version=engine_version, deadlines={"CreateTask": 2}, static_task_types=["job"]
        ) as propeller,
    ):
        task = propeller.submit("job", {})
        settled = asyncio.create_task(propeller.run_until_settled())
        await eventually(lambda: "GetTask" in [call.method for call in task.calls])
        held.gate.open()
        await settled
    assert task.phase is Phase.SUCCEEDED
    assert [call.method for call in task.calls].count("CreateTask") == 1
    assert held.started == ["job-1"]
