"""CreateTask starts one job for an attempt, whatever becomes of those who wait for it."""

import asyncio
import threading
from typing import Any

import grpc
import grpc.aio
import pytest

from connector_core import Phase
from connector_core.errors import (
    PermanentError,
)
from connector_core.testing import running_server
from tests.fakes import Gate, JobMeta, Jobs, happens
from tests.support.creates import (
    AWAY,
    PREFIX,
    Held,
    Warehouse,
    create,
    lose,
    meta,
    status,
    waiting,
)


async def test_the_same_attempt_at_the_same_time_starts_one_job(settings: dict[str, Any]) -> None:
    held = Held()
    async with running_server(held.connector(), settings=settings) as server:
        calls = [create(server) for _ in range(10)]
        await waiting(server, 10)
        await held.gate.reached()
        held.gate.open()
        assert await asyncio.gather(*calls) == [meta("job-1")] * 10
    assert held.started == ["job-1"]
    assert held.deleted == []


async def test_the_same_attempt_after_an_ok_answer_gets_the_same_meta(settings: dict[str, Any]) -> None:
    warehouse = Warehouse()
    async with running_server(warehouse.connector(), settings=settings) as server:
        assert [await create(server) for _ in range(3)] == [meta("job-1")] * 3
    assert warehouse.started == ["job-1"]


@pytest.mark.parametrize(
    "other",
    [{"attempt": 1}, {"path": f"{PREFIX}/other"}, {"node": "n1"}, {"prefix": f"{PREFIX}/7"}, {"task_type": "another"}],
    ids=lambda other: next(iter(other)),
)
async def test_another_attempt_task_or_prefix_is_another_job(other: dict[str, Any]) -> None:
    warehouse = Warehouse()
    async with running_server(warehouse.connector(), warehouse.connector("another")) as server:
        assert await create(server) == meta("job-1")
        assert await create(server, **other) == meta("job-2")
    assert warehouse.deleted == []


async def test_creates_that_say_neither_execution_nor_prefix_are_each_a_job_of_their_own() -> None:
    warehouse = Warehouse()
    async with running_server(warehouse.connector()) as server:
        metas = [await server.create("job", output_prefix="") for _ in range(2)]
    assert metas == [meta("job-1"), meta("job-2")]


async def test_a_create_that_says_no_more_than_its_prefix_is_known_by_it() -> None:
    warehouse = Warehouse()
    async with running_server(warehouse.connector()) as server:
        metas = [await server.create("job", output_prefix=f"{PREFIX}/{number}") for number in (0, 0, 1)]
    assert metas == [meta("job-1"), meta("job-1"), meta("job-2")]


@pytest.mark.parametrize("ends_first", [True, False])
async def test_a_create_goes_on_after_its_callers_deadline_and_the_same_attempt_gets_its_result(
    settings: dict[str, Any], ends_first: bool
) -> None:
    held = Held()
    async with running_server(held.connector(), settings={**settings, "promise_creates": "never"}) as server:
        error = await status(create(server, timeout=0.2))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await held.gate.reached()
        if ends_first:
            held.gate.open()
            await server.creates_ended()
        again = create(server)
        if not ends_first:
            await waiting(server, 1)
            held.gate.open()
        assert await again == meta("job-1")
    assert held.started == ["job-1"]
    assert held.deleted == []


async def test_async_code_goes_on_after_its_caller_too() -> None:
    begun, gate = threading.Event(), Gate()

    async def slow() -> JobMeta:
        begun.set()
        await asyncio.to_thread(gate.block)
        return JobMeta("slow")

    async with running_server(Jobs("job", create=slow)) as server:
        call = create(server)
        await happens(begun)
        call.cancel()
        await waiting(server, 0)
        gate.open()
        assert await create(server) == meta("slow")


async def test_a_create_that_fails_after_its_caller_has_gone_is_logged_and_begun_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Held()
    held.trouble["create"] = [AWAY]
    async with running_server(held.connector()) as server:
        await lose(server, held)
        held.gate.open()
        await server.creates_ended()
        assert await create(server) == meta("job-2")
    assert "the warehouse is away" in caplog.text


async def test_with_signing_on_plugin_code_sees_nothing_that_was_not_signed() -> None:
    warehouse = Warehouse()
    signing = {"signing": {"keys": ["a key of sixteen characters"]}}
    async with running_server(warehouse.connector(), settings=signing) as server:
        signed = await create(server)
        assert await create(server) == signed != meta("job-1")
        assert Phase((await server.get("job", signed)).phase) is Phase.SUCCEEDED
        await server.delete("job", signed)
        for wrong in (meta("job-1"), signed[:-1] + b"x", b""):
            for call in (server.get("job", wrong), server.delete("job", wrong)):
                assert (await status(call)).code() is grpc.StatusCode.PERMISSION_DENIED
    async with running_server(warehouse.connector()) as server:
        await server.delete("job", signed)
    assert warehouse.deleted == ["job-1", "job-1"]


async def test_with_signing_on_a_failed_create_is_signed_too() -> None:
    def fail() -> JobMeta:
        raise PermanentError("no")

    signing = {"signing": {"keys": ["a key of sixteen characters"]}}
    async with running_server(Jobs("job", create=fail), settings=signing) as server:
        failed = await create(server)
        assert Phase((await server.get("job", failed)).phase) is Phase.FAILED
