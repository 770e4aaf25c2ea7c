"""A job that nobody got an answer about is deleted when a later attempt arrives, and no other job is."""

import asyncio
import logging
from typing import Any

import grpc
import grpc.aio
import pytest

from connector_core.errors import (
    ConnectorError,
    JobNotFoundError,
    PermanentError,
    PermissionDeniedError,
)
from connector_core.testing import running_server
from tests.fakes import Gate, JobMeta, eventually
from tests.support.creates import (
    AWAY,
    PREFIX,
    Direct,
    Held,
    Shared,
    Warehouse,
    create,
    lose,
    meta,
    status,
    waiting,
)


async def test_a_later_attempt_deletes_what_nobody_got_an_answer_about(settings: dict[str, Any]) -> None:
    held = Held()
    async with running_server(held.connector(), settings=settings) as server:
        await lose(server, held)
        held.gate.open()
        await server.creates_ended()
        assert held.deleted == []
        assert await create(server, 1) == meta("job-2")
        await eventually(lambda: held.deleted)
        assert await create(server, 1) == meta("job-2")
    assert held.deleted == ["job-1"]


async def test_an_earlier_attempt_that_is_still_under_way_is_deleted_as_soon_as_it_ends(
    settings: dict[str, Any],
) -> None:
    held = Held()
    async with running_server(held.connector(), settings=settings) as server:
        await lose(server, held)
        assert await create(server, 1) == meta("job-2")
        await server.orphans_deleted()
        assert held.deleted == []
        held.gate.open()
        await eventually(lambda: held.deleted)
    assert held.deleted == ["job-1"]


async def test_all_earlier_attempts_are_deleted() -> None:
    held = Held(f"{PREFIX}/0", f"{PREFIX}/1", f"{PREFIX}/2")
    async with running_server(held.connector()) as server:
        for attempt in range(3):
            await lose(server, held, attempt)
        held.gate.open()
        await server.creates_ended()
        await create(server, 3)
        await eventually(lambda: len(held.deleted) == 3)
    assert sorted(held.deleted) == ["job-1", "job-2", "job-3"]


async def test_one_who_still_waits_for_an_attempt_that_is_over_is_told_so() -> None:
    held = Held()
    async with running_server(held.connector()) as server:
        waits = create(server)
        await held.gate.reached()
        await create(server, 1)
        await server.orphans_deleted()
        held.gate.open()
        error = await status(waits)
        await eventually(lambda: held.deleted)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "a later attempt of this task has begun" in str(error.details())
    assert held.deleted == ["job-1"]


async def test_a_create_that_was_answered_is_not_deleted_by_a_later_attempt(settings: dict[str, Any]) -> None:
    warehouse = Warehouse()
    async with running_server(warehouse.connector(), settings=settings) as server:
        for attempt in range(3):
            await create(server, attempt)
    assert warehouse.started == ["job-1", "job-2", "job-3"]
    assert warehouse.deleted == []


async def test_a_create_that_was_answered_at_the_second_call_is_not_deleted_either(settings: dict[str, Any]) -> None:
    held = Held()
    async with running_server(held.connector(), settings=settings) as server:
        await lose(server, held)
        held.gate.open()
        assert await create(server) == meta("job-1")
        await create(server, 1)
    assert held.deleted == []


@pytest.mark.parametrize(
    ("first", "second"),
    [(f"{PREFIX}/a", f"{PREFIX}/b"), (PREFIX, PREFIX), (f"{PREFIX}/5", f"{PREFIX}/6"), (f"{PREFIX}/0", "s3://other/1")],
)
async def test_where_the_prefix_does_not_tell_the_earlier_attempt_nothing_is_deleted(first: str, second: str) -> None:
    held = Held(first)
    async with running_server(held.connector()) as server:
        call = create(server, 0, prefix=first)
        await held.gate.reached()
        call.cancel()
        await waiting(server, 0)
        held.gate.open()
        await server.creates_ended()
        await create(server, 1, prefix=second)
    assert held.deleted == []


async def test_another_tasks_orphan_is_left_alone() -> None:
    held = Held()
    async with running_server(held.connector()) as server:
        await lose(server, held)
        held.gate.open()
        await server.creates_ended()
        await create(server, 1, node="n1")
        await create(server, 1, path=f"{PREFIX}/other")
    assert held.deleted == []


async def test_a_later_attempt_that_is_given_the_same_job_keeps_it(settings: dict[str, Any]) -> None:
    """A backend that names jobs by the task alone answers both attempts with one job."""
    held = Held()

    def one_for_all(output_prefix: str) -> JobMeta:
        held.create(output_prefix)
        return JobMeta("the task's")

    async with running_server(held.connector(create=one_for_all), settings=settings) as server:
        await lose(server, held)
        held.gate.open()
        await server.creates_ended()
        assert await create(server, 1) == meta("the task's")
        assert await create(server, 2) == meta("the task's")
    assert held.deleted == []


async def test_an_earlier_attempt_that_ends_late_with_the_same_job_leaves_it_to_the_later_one() -> None:
    held = Held()

    def one_for_all(output_prefix: str) -> JobMeta:
        held.create(output_prefix)
        return JobMeta("the task's")

    async with running_server(held.connector(create=one_for_all)) as server:
        await lose(server, held)
        assert await create(server, 1) == meta("the task's")
        await server.orphans_deleted()
        held.gate.open()
        await server.creates_ended()
    assert held.deleted == []


@pytest.mark.parametrize("outcome", [AWAY, PermanentError("no")])
async def test_a_later_attempt_that_fails_deletes_the_orphan_too(outcome: ConnectorError) -> None:
    held = Held()
    async with running_server(held.connector()) as server:
        await lose(server, held)
        held.gate.open()
        await server.creates_ended()
        held.trouble["create"] = [outcome]
        await asyncio.gather(create(server, 1), return_exceptions=True)
        await eventually(lambda: held.deleted)
    assert held.deleted == ["job-1"]


async def test_deleting_an_orphan_is_tried_again(settings: dict[str, Any]) -> None:
    held = Held()
    held.trouble["delete"] = [AWAY, ValueError("no")]
    async with running_server(held.connector(), settings=settings) as server:
        await lose(server, held)
        held.gate.open()
        await server.creates_ended()
        await create(server, 1)
        await eventually(lambda: held.deleted)
    assert held.deleted == ["job-1"]


@pytest.mark.parametrize(
    ("trouble", "is_logged"), [(PermissionDeniedError("not yours"), True), (JobNotFoundError("gone"), False)]
)
async def test_an_orphan_that_cannot_be_deleted_is_named(
    trouble: ConnectorError, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    held.trouble["delete"] = [trouble]
    async with running_server(held.connector()) as server:
        await lose(server, held)
        held.gate.open()
        await server.creates_ended()
        await create(server, 1)
        await eventually(lambda: not held.trouble["delete"])
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == (1 if is_logged else 0)
    if is_logged:
        assert "plugin test-job connector" in errors[0]
        assert "not yours" in errors[0]
        assert "job-1" not in errors[0]  # handles are connectors' own, and may carry what is secret


async def test_an_orphan_of_a_certain_age_is_deleted_where_the_operator_says_so() -> None:
    held = Held()
    async with running_server(held.connector(), settings={"orphan_seconds": 0.05}) as server:
        await lose(server, held)
        held.gate.open()
        await eventually(lambda: held.deleted)
        assert await create(server) == meta("job-2")
    assert held.deleted == ["job-1"]


async def lose_directly(host: Direct, held: Held, path: str = PREFIX) -> None:
    """Make a create that has ended after its caller had gone."""
    held.gate = Gate()
    held.before = {f"{path}/0": held.gate.block}
    call = asyncio.create_task(host.create(path=path))
    await held.gate.reached()
    call.cancel()
    held.gate.open()
    await host.ended()


async def test_what_was_answered_has_no_age() -> None:
    held, memory = Held(), Shared()
    host = Direct(held.connector(), memory, orphan_seconds=0.05)
    for number in range(20):
        await host.create(path=f"{PREFIX}/{number}")
    memory.read.clear()
    await lose_directly(host, held)
    await eventually(lambda: held.deleted)  # this one comes of age last
    await host.close()
    assert held.deleted == ["job-21"]
    assert len({key.partition("/")[2] for key in memory.read}) == 1  # nothing else was looked up when it was of age


async def test_what_another_host_has_answered_has_no_age_either() -> None:
    held, memory = Held(), Shared()
    first = Direct(held.connector(), memory, orphan_seconds=1)
    second = Direct(held.connector(), memory, owner="b")
    await lose_directly(first, held)
    await second.create()
    await lose_directly(first, held, f"{PREFIX}/later")
    await eventually(lambda: held.deleted)  # this one comes of age last
    for host in (first, second):
        await host.close()
    assert held.deleted == ["job-2"]


async def test_orphans_that_are_not_old_enough_delay_no_exit() -> None:
    held = Held()
    async with asyncio.timeout(4), running_server(held.connector(), settings={"orphan_seconds": 3600}) as server:
        await create(server, path=f"{PREFIX}/other")
        await lose(server, held)
        held.gate.open()
        await server.creates_ended()
    assert held.deleted == []
