"""Promised jobs of hosts that share a memory, in orders that a server cannot be made to keep, and with a memory that fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from flyteidl.admin import agent_pb2

from connector_core.errors import BackendUnavailableError, MemoryUnavailableError, PermanentError, TransientError
from connector_core.jobs import envelope
from connector_core.jobs.creates import Created
from connector_core.jobs.envelope import JobPromise
from connector_core.resource import Phase
from tests.fakes import eventually
from tests.support.creates import AWAY, Direct, Held, Shared, Warehouse, meta

SOON = 0.2
"""The deadline of a caller who is promised a job; nothing else waits for it."""


class Fragile(Shared):
    """A shared memory that can be out of reach, or slow to add."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.adds = asyncio.Event()
        self.adds.set()
        self.adding = asyncio.Event()

    async def get(self, key: str) -> bytes | None:
        self._reach()
        return await super().get(key)

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        self._reach()
        if key.startswith("promised-job/"):
            self.adding.set()
            await self.adds.wait()
        return await super().add(key, value, seconds)

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        self._reach()
        await super().put(key, value, seconds)

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        self._reach()
        await asyncio.sleep(0.01)  # as over a network: others have a turn
        return await super().replace(key, old, new, seconds)

    def _reach(self) -> None:
        if self.is_away:
            raise MemoryUnavailableError("away")


class Host(Direct):
    """A host that promises jobs, without a server around it."""

    def __init__(self, warehouse: Warehouse, memory: Shared, owner: str = "a") -> None:
        super().__init__(warehouse.connector(), memory, owner=owner, promise_creates="auto")

    async def promised(self, attempt: int = 0) -> JobPromise:
        return promise_of(await self.create(attempt, timeout=SOON))

    async def resolve(self, promise: JobPromise) -> Any:
        """Return a job's resource meta, or the phase that is answered for it."""
        found = await self.creates.job_promises.resolve(self.connector, promise)
        return Phase(found.phase) if isinstance(found, agent_pb2.Resource) else found.resource_meta

    async def delete(self, promise: JobPromise) -> bytes | None:
        found = await self.creates.job_promises.delete(self.connector, promise)
        return None if found is None else found.resource_meta


def promise_of(created: Created) -> JobPromise:
    promise = envelope.unseal(created.resource_meta)
    assert isinstance(promise, JobPromise)
    return promise


@asynccontextmanager
async def hosts(*opened: Host) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for host in opened:
            await host.close()


async def comes_to(host: Host, promise: JobPromise, word: object) -> None:
    async with asyncio.timeout(30):
        while await host.resolve(promise) != word:  # noqa: ASYNC110 - a poll is what engines have, too
            await asyncio.sleep(0.005)


def late(promise: JobPromise) -> JobPromise:
    """Return a promise as it is once the longest time of its create has passed."""
    return promise._replace(until=0.0)


# DeleteTask


async def test_a_job_whose_deletion_was_asked_for_is_deleted_though_the_memory_is_away_when_its_create_ends() -> None:
    held, memory = Held(), Fragile()
    host = Host(held, memory)
    promise = await host.promised()
    assert await host.delete(promise) is None
    memory.is_away = True
    held.gate.open()
    await eventually(lambda: held.deleted == ["job-1"])
    memory.is_away = False
    async with hosts(host):
        await comes_to(host, promise, Phase.ABORTED)


async def test_a_host_that_stops_deletes_what_comes_of_a_create_whose_deletion_was_asked_for() -> None:
    held = Held()
    held.trouble["delete"] = [AWAY]
    host = Host(held, Fragile())
    assert await host.delete(await host.promised()) is None
    closing = asyncio.create_task(host.close())
    await asyncio.sleep(0)
    held.gate.open()
    await closing
    assert held.deleted == ["job-1"]


async def test_a_deletion_asked_for_at_a_replica_that_waits_for_another_ones_create_outlives_that_replica() -> None:
    held, memory = Held(), Shared()
    first, second = Host(held, memory), Host(held, memory, "b")
    await first.promised()
    assert await second.delete(await second.promised()) is None
    for task in second.creates.in_flight:
        task.cancel()
    held.gate.open()
    await eventually(lambda: held.deleted == ["job-1"])
    async with hosts(first, second):
        assert held.started == ["job-1"]


async def test_a_job_that_only_the_record_of_its_attempt_knows_can_be_deleted() -> None:
    """Its host crashed between two writes."""
    held, memory = Held(), Shared()
    first, second = Host(held, memory), Host(held, memory, "b")
    promise = await first.promised()
    pending = {key: memory.at_once.get(key) for key in memory.keys if key.startswith("promised-job/")}
    held.gate.open()
    await comes_to(first, promise, meta("job-1"))
    for key, data in pending.items():
        assert data is not None
        await memory.put(key, data, 60)
    async with hosts(first, second):
        assert await second.delete(promise) == meta("job-1")


async def test_a_deletion_is_not_answered_as_done_where_a_shared_memory_has_lost_the_job() -> None:
    held, memory = Held(), Shared()
    first, second = Host(held, memory), Host(held, memory, "b")
    promise = await first.promised()
    held.gate.open()
    await comes_to(first, promise, meta("job-1"))
    await memory.lose()
    async with hosts(first, second):
        for _again in range(2):
            with pytest.raises(TransientError, match="is lost"):
                await second.delete(promise)
        assert await first.delete(promise) == meta("job-1")  # which has polled it


async def test_polls_are_told_nothing_of_a_job_before_it_is_known_whether_it_is_to_be_deleted() -> None:
    """It may have ended, and its last word would be another than that of a job which was deleted."""
    held, memory = Held(), Fragile()
    first, second = Host(held, memory), Host(held, memory, "b")
    promise = await first.promised()
    assert await second.delete(promise) is None
    held.gate.open()
    told: set[object] = set()
    async with asyncio.timeout(30):
        while Phase.ABORTED not in told:
            told.add(await first.resolve(promise))
            await asyncio.sleep(0)
    async with hosts(first, second):
        assert told == {Phase.INITIALIZING, Phase.ABORTED}


# Two creates of one attempt


async def test_a_replica_that_stops_while_it_waits_does_not_speak_for_the_create_of_another() -> None:
    held, memory = Held(), Shared()
    first, second = Host(held, memory), Host(held, memory, "b")
    promise = await first.promised()
    await second.promised()
    await second.close(0)
    assert await first.resolve(promise) is Phase.INITIALIZING
    third = Host(held, memory, "c")
    assert await third.resolve(promise) is Phase.INITIALIZING
    held.gate.open()
    async with hosts(first, third):
        await comes_to(third, promise, meta("job-1"))
    assert held.deleted == []


async def test_a_create_that_is_told_to_be_lost_stays_so_and_what_comes_of_it_is_deleted() -> None:
    held, memory = Held(), Shared()
    first, second = Host(held, memory), Host(held, memory, "b")
    promise = await first.promised()
    assert await second.resolve(late(promise)) is Phase.RETRYABLE_FAILED
    held.gate.open()
    await eventually(lambda: held.deleted == ["job-1"])
    async with hosts(first, second):
        assert await first.resolve(promise) is Phase.RETRYABLE_FAILED


async def test_a_create_whose_promise_was_never_sent_is_deleted_when_the_next_attempt_arrives() -> None:
    held, memory = Held(), Fragile()
    memory.adds.clear()
    host = Host(held, memory)
    call = asyncio.create_task(host.create(timeout=SOON))
    await held.gate.reached()
    await memory.adding.wait()
    memory.adds.set()
    await asyncio.sleep(0)  # the promise is remembered
    call.cancel()
    await asyncio.wait([call])
    held.gate.open()
    await host.ended()
    await host.create(1)
    await eventually(lambda: held.deleted == ["job-1"])
    async with hosts(host):
        assert held.started == ["job-1", "job-2"]


# A memory that fails or forgets


async def test_an_end_that_could_not_be_remembered_is_once_the_memory_is_back() -> None:
    held, memory = Held(), Fragile()
    first, second = Host(held, memory), Host(held, memory, "b")
    promise = await first.promised()
    memory.is_away = True
    held.gate.open()
    await comes_to(first, promise, meta("job-1"))
    memory.is_away = False
    async with hosts(first, second):
        await comes_to(second, promise, meta("job-1"))


async def test_a_deletion_remembered_by_another_replica_holds_for_an_end_that_is_remembered_late() -> None:
    held, memory = Held(), Fragile()
    first, second = Host(held, memory), Host(held, memory, "b")
    promise = await first.promised()
    assert await second.delete(promise) is None
    memory.is_away = True
    held.gate.open()
    await first.ended()
    memory.is_away = False
    async with hosts(first, second):
        await eventually(lambda: held.deleted == ["job-1"])


async def test_polls_of_a_job_go_on_while_the_memory_is_away_or_has_forgotten_it() -> None:
    held, memory = Held(), Fragile()
    host = Host(held, memory)
    promise = await host.promised()
    held.gate.open()
    await comes_to(host, promise, meta("job-1"))
    memory.is_away = True
    assert await host.resolve(promise) == meta("job-1")
    memory.is_away = False
    await memory.lose()
    assert await host.resolve(late(promise)) == meta("job-1")
    async with hosts(host, other := Host(held, memory, "b")):
        assert await other.resolve(promise) == meta("job-1")  # it is remembered again


async def test_a_job_that_a_shared_memory_has_lost_is_ridden_out_and_not_failed() -> None:
    held, memory = Held(), Shared()
    first, second = Host(held, memory), Host(held, memory, "b")
    promise = await first.promised()
    held.gate.open()
    await comes_to(first, promise, meta("job-1"))
    await memory.lose()
    async with hosts(first, second):
        with pytest.raises(BackendUnavailableError, match="is lost"):
            await second.resolve(late(promise))


@pytest.mark.parametrize("error", [None, PermanentError("no quota")], ids=["job", "failure"])
async def test_what_only_the_record_of_its_attempt_knows_is_found(error: Exception | None) -> None:
    held, memory = Held(), Shared()
    held.trouble["create"] = [error] if error is not None else []
    first, second = Host(held, memory), Host(held, memory, "b")
    promise = await first.promised()
    word = meta("job-1") if error is None else Phase.FAILED
    held.gate.open()
    await comes_to(first, promise, word)
    async with hosts(first, second):
        for key in [key for key in memory.keys if key.startswith("promised-job/")]:
            await memory.remove(key)
        assert await second.resolve(promise) == word


@pytest.mark.parametrize("damaged", [b"\x00connector-host/1/resource\x00\xff", b"?\xff", b"nonsense"])
async def test_a_record_that_cannot_be_read_is_absent(damaged: bytes) -> None:
    held, memory = Held(), Shared()
    first, second = Host(held, memory), Host(held, memory, "b")
    promise = await first.promised()
    held.gate.open()
    await comes_to(first, promise, meta("job-1"))
    async with hosts(first, second):
        for key in [key for key in memory.keys if key.startswith("promised-job/")]:
            await memory.put(key, damaged, 60)
        assert await second.resolve(promise) == meta("job-1")
