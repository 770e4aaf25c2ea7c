"""Creates of hosts that share a memory, in orders that a server cannot be made to keep, and creates at a host's end."""

import asyncio
import itertools
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from connector_core.errors import (
    ConnectorError,
    PermanentError,
    TransientError,
)
from connector_core.jobs.creates import Created
from connector_core.jobs.memory_process import ProcessMemory
from tests.fakes import PATIENCE, Gate, JobMeta, eventually
from tests.support.creates import (
    AWAY,
    PREFIX,
    Direct,
    Held,
    Shared,
    Warehouse,
    meta,
)

T = TypeVar("T")


async def test_a_claim_is_renewed_for_as_long_as_its_create_takes() -> None:
    """An operator, or an author, may allow one connector more time than `deadlines.create` says."""
    held, memory = Held(), Shared()
    first = Direct(held.connector(), memory, create_seconds=0.1)
    second = Direct(held.connector(), memory, create_seconds=0.1, owner="b")
    creating = asyncio.create_task(first.create())
    await held.gate.reached()
    with pytest.raises(ConnectorError, match="did not finish before the caller's deadline"):
        await second.create(timeout=1.5)  # several times as long as the claim lasts
    held.gate.open()
    assert (await creating).resource_meta == (await second.create()).resource_meta == meta("job-1")
    assert held.started == ["job-1"]
    for host in (first, second):
        await host.close()


async def test_a_claim_whose_answer_was_lost_on_the_way_is_this_hosts_all_the_same() -> None:
    warehouse, memory = Warehouse(), Shared()
    lost = Direct(Held(f"{PREFIX}/0").connector(), memory)
    call = asyncio.create_task(lost.create())
    await eventually(lambda: memory.keys)
    again = Direct(warehouse.connector(), memory)  # the same owner
    assert (await again.create()).resource_meta == meta("job-1")
    call.cancel()
    await lost.close(0)
    await again.close()


async def test_a_create_that_another_host_has_done_meanwhile_gives_way_to_it() -> None:
    """Only a memory that loses what it has lets it come to that."""
    held, memory = Held(), Shared()
    first = Direct(held.connector(), memory)
    second = Direct(held.connector(), memory, owner="b")
    creating = asyncio.create_task(first.create())
    await held.gate.reached()
    await memory.lose()
    held.before = {}
    assert (await second.create()).resource_meta == meta("job-2")
    held.gate.open()
    assert (await creating).resource_meta == meta("job-2")
    await first.close()
    await second.close()
    assert held.started == ["job-2", "job-1"]
    assert held.deleted == ["job-1"]


async def test_two_hosts_whose_backend_gave_both_the_same_job_keep_it() -> None:
    held, memory = Held(), Shared()

    def idempotent(output_prefix: str) -> JobMeta:
        held.create(output_prefix)
        return JobMeta(output_prefix)

    first = Direct(held.connector(create=idempotent), memory)
    second = Direct(held.connector(create=idempotent), memory, owner="b")
    creating = asyncio.create_task(first.create())
    await held.gate.reached()
    await memory.lose()
    held.before = {}
    answers = {(await second.create()).resource_meta}
    held.gate.open()
    answers.add((await creating).resource_meta)
    await first.close()
    await second.close()
    assert answers == {meta(f"{PREFIX}/0")}
    assert held.deleted == []


async def test_while_another_host_is_at_work_on_the_attempt_as_well_its_answer_is_the_one_that_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whether it will be given the same job is not known yet, so nothing is deleted."""
    held, memory = Held(), Shared()
    first = Direct(held.connector(), memory)
    second = Direct(held.connector(), memory, owner="b")
    creating = asyncio.create_task(first.create())
    await held.gate.reached()
    await memory.lose()
    later_gate = Gate()
    held.before = {f"{PREFIX}/0": later_gate.block}
    also = asyncio.create_task(second.create())
    await later_gate.reached()
    held.gate.open()
    with pytest.raises(TransientError, match="another host also ran the create of this attempt"):
        await creating
    later_gate.open()
    assert (await also).resource_meta == (await first.create()).resource_meta == meta("job-2")
    await first.close()
    await second.close()
    assert held.deleted == []
    assert '{"job_id": "job-1"' in caplog.text


async def test_a_memory_that_forgets_a_create_under_way_costs_nothing() -> None:
    held, memory = Held(), Shared()
    host = Direct(held.connector(), memory)
    creating = asyncio.create_task(host.create())
    await held.gate.reached()
    await memory.lose()
    held.gate.open()
    assert (await creating).resource_meta == (await host.create()).resource_meta == meta("job-1")
    await host.close()
    assert held.started == ["job-1"]


async def test_who_waits_for_a_dead_hosts_claim_gives_up_when_a_later_attempt_has_begun() -> None:
    held, warehouse, memory = Held(), Warehouse(), Shared()
    dead = Direct(held.connector(), memory)
    lost = asyncio.create_task(dead.create())
    await held.gate.reached()
    living = Direct(warehouse.connector(), memory, owner="b")
    waits = asyncio.create_task(living.create())
    assert (await living.create(1)).resource_meta == meta("job-1")
    with pytest.raises(TransientError, match="a later attempt of this task has begun"):
        await waits
    await living.close()
    assert warehouse.started == ["job-1"]
    lost.cancel()
    await dead.close(0)


async def test_an_answer_and_a_deletion_at_the_same_time_never_both_happen() -> None:
    """Answering the second call for an attempt races with the next attempt, which deletes what nobody was answered about."""
    outcomes = set()
    for delay in range(60):
        held, memory = Held(), Slow(delay)
        host, other = Direct(held.connector(), memory), Direct(held.connector(), memory, owner="b")
        lost = asyncio.create_task(host.create(timeout=0.01))
        await held.gate.reached()
        await asyncio.gather(lost, return_exceptions=True)
        held.gate.open()
        await host.ended()
        answer, _later = await asyncio.gather(other.create(), host.create(1), return_exceptions=True)
        for one in (host, other):
            await one.close()
        was_answered = isinstance(answer, Created) and answer.resource_meta == meta("job-1")
        assert was_answered == (held.deleted == [])
        outcomes.add(was_answered)
    assert outcomes == {True, False}


class Slow:
    """A shared memory whose calls wait for ever another number of turns."""

    guarantees = ""
    is_shared = True
    at_once = None

    def __init__(self, seed: int) -> None:
        self._memory = ProcessMemory(1_000_000)
        self._turns = itertools.cycle([seed % 3, seed % 4, seed % 5, seed % 7])

    async def get(self, key: str) -> bytes | None:
        return await self._later(self._memory.get(key))

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        return await self._later(self._memory.put(key, value, seconds))

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        return await self._later(self._memory.add(key, value, seconds))

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        return await self._later(self._memory.replace(key, old, new, seconds))

    async def remove(self, key: str) -> None:
        return await self._later(self._memory.remove(key))

    async def close(self) -> None:
        await self._memory.close()

    async def _later(self, call: Awaitable[T]) -> T:
        for _ in range(next(self._turns)):
            await asyncio.sleep(0)
        return await call


async def test_a_caller_that_goes_at_the_very_moment_of_the_answer_has_not_got_it() -> None:
    held = Held()
    host = Direct(held.connector(), ProcessMemory(1_000_000))
    call = asyncio.create_task(host.create())
    await held.gate.reached()
    [running] = host.creates.in_flight
    running.add_done_callback(lambda _done: call.cancel())
    held.gate.open()
    with pytest.raises(asyncio.CancelledError):
        await call
    await host.create(1)
    await host.close()
    assert held.deleted == ["job-1"]


async def test_an_attempt_that_is_cut_by_the_hosts_end_is_an_error_that_says_so() -> None:
    held = Held()
    host = Direct(held.connector(), ProcessMemory(1_000_000))
    call = asyncio.create_task(host.create())
    await held.gate.reached()
    await host.creates.close(0)
    with pytest.raises(TransientError, match="the host is stopping"):
        await call
    held.gate.open()
    await host.close()


async def test_at_the_end_creates_are_let_finish_and_orphans_deleted() -> None:
    held = Held()
    host = Direct(held.connector(), ProcessMemory(1_000_000))
    with pytest.raises(ConnectorError):
        await host.create(timeout=0.01)
    await held.gate.reached()
    await host.create(1)
    closing = asyncio.create_task(host.close(PATIENCE))
    await asyncio.sleep(0)
    held.gate.open()
    await closing
    assert held.deleted == ["job-1"]


async def test_at_the_end_nothing_is_waited_for_longer_than_told_and_nothing_left_behind() -> None:
    held = Held()
    held.trouble["delete"] = [AWAY] * 100
    host = Direct(held.connector(), ProcessMemory(1_000_000))
    with pytest.raises(ConnectorError):
        await host.create(timeout=0.01)
    await host.create(1)
    await host.close(0)
    assert host.creates.in_flight == set()
    assert host.creates.deletions_in_flight == set()
    held.gate.open()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_nothing_is_left_behind_by_creates_that_end_in_any_way() -> None:
    warehouse = Warehouse()
    warehouse.trouble["create"] = [AWAY, PermanentError("no"), ValueError("no"), asyncio.CancelledError()] * 10
    host = Direct(warehouse.connector(), ProcessMemory(1_000_000))
    calls = [asyncio.create_task(host.create(number % 30)) for number in range(200)]
    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await host.close()
    assert host.creates.in_flight == set()
    assert host.creates.deletions_in_flight == set()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
