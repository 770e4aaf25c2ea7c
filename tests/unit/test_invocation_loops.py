"""A plugin's loop runs in a thread of its own and goes on whatever the code on it does."""

import asyncio
import contextvars
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from connector_core.errors import CapacityExceededError
from connector_core.invocation.loops import LoopThread
from connector_core.invocation.pools import BlockingPool
from tests.fakes import PATIENCE, Gate, Never, happens

NewLoop = Callable[[], asyncio.AbstractEventLoop]


MakeThread = Callable[..., LoopThread]


@pytest.fixture
def new_thread() -> Iterator[MakeThread]:
    pools = []

    def make(new_loop: NewLoop, workers: int = 2) -> LoopThread:
        pools.append(BlockingPool("the pool", workers, 1))
        return LoopThread("plugin test", new_loop, pools[-1])

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def thread(request: pytest.FixtureRequest, new_thread: MakeThread) -> Iterator[LoopThread]:
    thread = new_thread(request.param)
    yield thread
    thread.stop()
    assert thread.join(PATIENCE)


async def run(thread: LoopThread, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the thread's loop."""
    return await asyncio.wait_for(
        asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, thread.loop)), PATIENCE
    )


async def where() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    return asyncio.get_running_loop(), threading.current_thread()


async def test_code_runs_in_a_named_daemon_thread(thread: LoopThread) -> None:
    loop, runs_in = await run(thread, where())
    assert loop is thread.loop
    assert runs_in is not threading.current_thread()
    assert runs_in.name == "plugin test"
    assert runs_in.daemon


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["sys.exit", "KeyboardInterrupt"])
async def test_a_task_of_the_plugins_own_that_calls_sys_exit_ends_nothing_else(
    thread: LoopThread, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    innocent = Never()

    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(innocent.wait())

    async def leave() -> None:
        raise error

    async def leave_aside() -> None:
        aside.append(asyncio.create_task(leave()))

    aside: list[asyncio.Task[None]] = []
    waiting = await run(thread, begin())
    await happens(innocent.begun)
    await run(thread, leave_aside())
    loop, _thread = await run(thread, where())
    assert loop is thread.loop
    assert not waiting.done()
    assert "event loop kept running: code on the event loop of" in caplog.text
    await run(thread, _retrieve(aside[0]))


async def _retrieve(task: asyncio.Task[None]) -> None:
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        task.result()


async def test_code_that_stops_the_loop_stops_nothing(thread: LoopThread) -> None:
    async def stop() -> None:
        asyncio.get_running_loop().stop()

    await run(thread, stop())
    assert (await run(thread, where()))[0] is thread.loop


class TestToThread:
    """What async code hands to `asyncio.to_thread`, as most authors with a blocking client do."""

    async def test_it_runs_in_the_hosts_pool_with_its_context(self, thread: LoopThread) -> None:
        async def work() -> tuple[str, str]:
            _COLOUR.set("red")
            return await asyncio.to_thread(lambda: (_COLOUR.get(), threading.current_thread().name))

        colour, name = await run(thread, work())
        assert colour == "red"
        assert name.startswith("the pool")

    @pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1)], ids=repr)
    async def test_its_error_comes_back(self, thread: LoopThread, error: BaseException) -> None:
        def fail() -> None:
            raise error

        async def work() -> BaseException | None:
            future = asyncio.get_running_loop().run_in_executor(None, fail)
            await asyncio.wait([future])
            return future.exception()

        assert await run(thread, work()) is error

    async def test_the_pools_bounds_hold(self, thread: LoopThread) -> None:
        gate = Gate()

        async def work() -> None:
            waiting = [asyncio.create_task(asyncio.to_thread(gate.block)) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(CapacityExceededError, match="the pool is full"):
                await asyncio.to_thread(list)
            gate.open()
            await asyncio.gather(*waiting)

        await run(thread, work())

    async def test_what_is_cancelled_while_it_waits_makes_room(self, thread: LoopThread) -> None:
        gate, seen = Gate(), list[str]()

        async def work() -> None:
            busy = [asyncio.create_task(asyncio.to_thread(gate.block)) for _ in range(2)]
            waiting = asyncio.create_task(asyncio.to_thread(seen.append, "cancelled"))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            instead = asyncio.create_task(asyncio.to_thread(seen.append, "instead"))
            await asyncio.sleep(0)
            gate.open()
            await asyncio.gather(*busy, instead)

        await run(thread, work())
        assert seen == ["instead"]

    async def test_many_run_at_once_if_the_pool_is_large(self, new_thread: MakeThread) -> None:
        thread, together = new_thread(asyncio.new_event_loop, workers=64), threading.Barrier(64)

        async def work() -> None:
            await asyncio.gather(*(asyncio.to_thread(together.wait, PATIENCE) for _ in range(64)))

        await run(thread, work())
        thread.stop()
        assert await asyncio.to_thread(thread.join, PATIENCE)


_COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
class TestStopping:
    async def test_it_cancels_what_still_runs_and_ends_the_thread(
        self, new_thread: MakeThread, new_loop: NewLoop
    ) -> None:
        thread, never = new_thread(new_loop), Never()
        asyncio.run_coroutine_threadsafe(never.wait(), thread.loop)
        await happens(never.begun)
        thread.stop()
        assert await asyncio.to_thread(thread.join, PATIENCE)
        assert never.cancelled.is_set()
        assert thread.loop.is_closed()

    async def test_a_generator_that_was_left_halfway_is_closed(self, new_thread: MakeThread, new_loop: NewLoop) -> None:
        thread, closed, kept = new_thread(new_loop), threading.Event(), list[Any]()

        async def numbers() -> Any:
            try:
                yield 1
            finally:
                closed.set()

        async def begin() -> int:
            kept.append(numbers())
            return int(await anext(kept[0]))

        assert await run(thread, begin()) == 1
        thread.stop()
        assert await asyncio.to_thread(thread.join, PATIENCE)
        assert closed.is_set()

    async def test_what_blocks_the_loop_is_left_behind(self, new_thread: MakeThread, new_loop: NewLoop) -> None:
        thread, gate = new_thread(new_loop), Gate()
        thread.mailbox.post(gate.block)
        await gate.reached()
        thread.stop()
        assert not thread.join(0)
        gate.open()
        assert await asyncio.to_thread(thread.join, PATIENCE)

    async def test_it_may_be_asked_twice(self, new_thread: MakeThread, new_loop: NewLoop) -> None:
        thread = new_thread(new_loop)
        thread.stop()
        assert await asyncio.to_thread(thread.join, PATIENCE)
        thread.stop()
        assert thread.join(0)


def ends_by_itself(code: str) -> bool:
    """Whether a Python process that runs this ends although nobody stops it."""
    prepared = textwrap.dedent("""
        import asyncio, threading
        from connector_core.invocation.loops import LoopThread
        from connector_core.invocation.pools import BlockingPool
        pool = BlockingPool("the pool", 2, 1)
        thread, begun = LoopThread("plugin test", asyncio.new_event_loop, pool), threading.Event()
    """)
    done = subprocess.run([sys.executable, "-c", prepared + textwrap.dedent(code)], check=False, timeout=PATIENCE)
    return done.returncode == 0


def test_code_that_blocks_the_loop_does_not_keep_the_process_alive() -> None:
    assert ends_by_itself("""
        def block():
            begun.set()
            threading.Event().wait()
        thread.mailbox.post(block)
        begun.wait()
        thread.stop()
    """)


def test_code_that_blocks_in_to_thread_does_not_keep_the_process_alive() -> None:
    assert ends_by_itself("""
        def block():
            begun.set()
            threading.Event().wait()
        asyncio.run_coroutine_threadsafe(asyncio.to_thread(block), thread.loop)
        begun.wait()
        thread.stop()
        thread.join(10)
    """)
