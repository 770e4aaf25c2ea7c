"""A pool runs blocking work in a bounded number of daemon threads and lets a bounded number of pieces wait."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from connector_core.errors import CapacityExceededError
from connector_core.invocation.pools import BlockingPool
from tests.fakes import PATIENCE, Gate, happens


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def make_pool() -> Iterator[Callable[[int, int], BlockingPool]]:
    pools = []

    def make(size: int, queue: int) -> BlockingPool:
        pools.append(BlockingPool("the pool", size, queue))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


MakePool = Callable[[int, int], BlockingPool]


async def done(pool: BlockingPool) -> None:
    """Wait until the pool has done a piece of work that is submitted now."""
    event = threading.Event()
    pool.submit(event.set)
    await happens(event)


async def test_work_runs_in_a_daemon_thread_with_the_pools_name(make_pool: MakePool) -> None:
    pool, seen, event = make_pool(1, 0), list[threading.Thread](), threading.Event()

    def work() -> None:
        seen.append(threading.current_thread())
        event.set()

    pool.submit(work)
    await happens(event)
    assert seen[0].daemon
    assert seen[0].name.startswith("the pool")


async def test_as_many_pieces_run_at_once_as_the_pool_is_large(make_pool: MakePool) -> None:
    pool, together, passed = make_pool(32, 0), threading.Barrier(32), threading.Semaphore(0)

    def work() -> None:
        together.wait(PATIENCE)
        passed.release()

    for _ in range(32):
        pool.submit(work)
    for _ in range(32):
        assert await asyncio.to_thread(passed.acquire, timeout=PATIENCE)


async def test_what_waits_runs_in_the_order_in_which_it_came(make_pool: MakePool, gate: Gate) -> None:
    pool, seen = make_pool(1, 10), list[int]()
    pool.submit(gate.block)
    for number in range(9):
        pool.submit(partial(seen.append, number))
    event = threading.Event()
    pool.submit(event.set)
    gate.open()
    await happens(event)
    assert seen == list(range(9))


async def test_threads_are_used_again(make_pool: MakePool) -> None:
    pool, threads = make_pool(8, 8), set[threading.Thread]()
    for _ in range(50):
        pool.submit(lambda: threads.add(threading.current_thread()))
        await done(pool)
    assert len(threads) < 8


@pytest.mark.parametrize(("size", "queue"), [(1, 0), (1, 1), (3, 5), (8, 0)])
async def test_size_and_queue_are_all_that_it_takes_and_it_takes_all_of_that(
    make_pool: MakePool, gate: Gate, size: int, queue: int
) -> None:
    """Also at once: threads that have been started, but have taken nothing yet, take no place in the queue."""
    for _ in range(20):
        pool = make_pool(size, queue)
        for _ in range(size + queue):
            pool.submit(gate.block)
        with pytest.raises(
            CapacityExceededError, match=rf"the pool is full: {size} threads are busy and {queue} calls"
        ):
            pool.submit(gate.block)


async def test_there_is_room_again_when_work_has_ended(make_pool: MakePool) -> None:
    pool = make_pool(1, 0)
    for _ in range(5):
        gate = Gate()
        pool.submit(gate.block)
        await gate.reached()
        with pytest.raises(CapacityExceededError):
            pool.submit(gate.block)
        gate.open()
        await room(pool)


async def room(pool: BlockingPool) -> None:
    """Wait until the pool takes a piece of work."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await done(pool)
            except CapacityExceededError:
                await asyncio.sleep(0)
            else:
                return


async def test_what_waits_can_be_withdrawn_and_makes_room(make_pool: MakePool, gate: Gate) -> None:
    pool, seen = make_pool(1, 1), list[str]()

    def withdrawn() -> None:
        seen.append("withdrawn")

    pool.submit(gate.block)
    await gate.reached()
    pool.submit(withdrawn)
    assert pool.withdraw(withdrawn)
    event = threading.Event()
    pool.submit(event.set)
    gate.open()
    await happens(event)
    assert seen == []


async def test_what_has_begun_cannot_be_withdrawn(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, 1)
    pool.submit(gate.block)
    await gate.reached()
    assert not pool.withdraw(gate.block)


async def test_withdrawing_over_and_over_loses_no_thread(make_pool: MakePool, gate: Gate) -> None:
    pool, idle = make_pool(2, 5), threading.Event()
    pool.submit(gate.block)
    for _ in range(50):
        pool.submit(idle.wait)
        pool.withdraw(idle.wait)
        idle.set()
    together, passed = threading.Barrier(2), threading.Semaphore(0)
    gate.open()
    for _ in range(2):
        pool.submit(lambda: passed.release() if together.wait(PATIENCE) >= 0 else None)
    for _ in range(2):
        assert await asyncio.to_thread(passed.acquire, timeout=PATIENCE)


async def test_the_last_work_of_an_idle_thread_is_not_kept(make_pool: MakePool) -> None:
    class Weight:
        def read(self) -> None: ...

    pool, weight = make_pool(1, 1), Weight()
    kept = weakref.ref(weight)
    pool.submit(weight.read)
    del weight
    await done(pool)
    gc.collect()
    assert kept() is None


class TestClosing:
    async def test_what_runs_goes_on_and_what_waits_never_runs(self, make_pool: MakePool, gate: Gate) -> None:
        pool, seen, threads = make_pool(1, 1), list[str](), list[threading.Thread]()

        def work() -> None:
            threads.append(threading.current_thread())
            gate.block()
            seen.append("ran")

        pool.submit(work)
        await gate.reached()
        pool.submit(lambda: seen.append("waited"))
        pool.close()
        gate.open()
        await asyncio.to_thread(_join, set(threads))
        assert seen == ["ran"]

    async def test_idle_threads_end(self, make_pool: MakePool) -> None:
        pool, threads = make_pool(3, 0), list[threading.Thread]()
        together, passed = threading.Barrier(3), threading.Semaphore(0)

        def work() -> None:
            threads.append(threading.current_thread())
            together.wait(PATIENCE)
            passed.release()

        for _ in range(3):
            pool.submit(work)
        for _ in range(3):
            assert await asyncio.to_thread(passed.acquire, timeout=PATIENCE)
        pool.close()
        await asyncio.to_thread(_join, set(threads))

    async def test_new_work_is_refused(self, make_pool: MakePool) -> None:
        pool = make_pool(1, 1)
        pool.close()
        with pytest.raises(CapacityExceededError, match="the pool is closed"):
            pool.submit(list)


def _join(threads: set[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
