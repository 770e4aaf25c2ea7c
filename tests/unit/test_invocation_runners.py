"""A call is answered once, and whoever gives it up learns whether its code still runs."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

from connector_core.errors import CapacityExceededError
from connector_core.invocation.loops import LoopThread, Mailbox
from connector_core.invocation.pools import BlockingPool
from connector_core.invocation.runners import Call, CodeError, LoopRunner, Outcome, PoolRunner, Runner
from tests.fakes import PATIENCE, Gate, Never, eventually, happens


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread("plugin test", asyncio.new_event_loop, BlockingPool("of plugin test", 1, 1))
    yield thread
    thread.stop()
    assert thread.join(PATIENCE)


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    pool = BlockingPool("the pool", 1, 1)
    yield pool
    pool.close()


class Work:
    """Runs nothing: the test says when it ends, and hears that it was given up."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.given_up = 0

    def begin(self, finish: Callable[[Outcome], None]) -> None:
        self.finish = finish
        self.begun.set()

    def give_up(self) -> bool:
        self.given_up += 1
        return True

    def withdraw(self) -> bool:
        return False


class Counted:
    """A call and what it was told of its code's end."""

    def __init__(self, runner: Runner) -> None:
        self.ends = list[bool]()
        self.call = Call(Mailbox(asyncio.get_running_loop()), runner, self.ends.append)
        self.waiting = asyncio.create_task(self.call.wait())

    @property
    def late_ends(self) -> int:
        return self.ends.count(True)

    async def ended(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await self.waiting


async def test_the_answer_comes_to_the_loop_that_waits() -> None:
    work = Work()
    counted = Counted(work)
    await work.begun.wait()
    await asyncio.to_thread(work.finish, ("answer", None))
    assert await counted.ended() == "answer"


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), StopIteration(), asyncio.CancelledError()], ids=repr)
async def test_whatever_the_code_raises_is_carried(error: BaseException) -> None:
    work = Work()
    counted = Counted(work)
    await work.begun.wait()
    work.finish((None, error))
    with pytest.raises(CodeError) as caught:
        await counted.ended()
    assert caught.value.take() is error


async def test_an_exception_that_cannot_be_printed_is_carried_as_well() -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    work = Work()
    counted = Counted(work)
    await work.begun.wait()
    work.finish((None, SilentError()))
    with pytest.raises(CodeError):
        await counted.ended()


async def test_a_call_that_expires_raises_once_and_its_late_answer_is_counted() -> None:
    work = Work()
    counted = Counted(work)
    await work.begun.wait()
    counted.call.expire()
    with pytest.raises(TimeoutError):
        await counted.ended()
    assert counted.call.give_up()
    work.finish(("late", None))
    await _delivered()
    assert counted.late_ends == 1


async def _delivered() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_an_answer_that_is_there_cannot_expire() -> None:
    work = Work()
    counted = Counted(work)
    await work.begun.wait()
    work.finish(("answer", None))
    await _delivered()
    counted.call.expire()
    assert await counted.ended() == "answer"


async def test_giving_up_what_has_just_ended_leaves_nothing_running() -> None:
    """The client may cancel between the answer's arrival and the waiter's turn; nothing ends later, so nothing counts."""
    work = Work()
    counted = Counted(work)
    await work.begun.wait()
    work.finish(("answer", None))
    asyncio.get_running_loop().call_soon(counted.waiting.cancel)
    with pytest.raises(asyncio.CancelledError):
        await counted.ended()
    assert not counted.call.give_up()
    assert work.given_up == 0


async def test_an_answer_right_behind_the_deadline_leaves_nothing_running() -> None:
    work = Work()
    counted = Counted(work)
    await work.begun.wait()
    counted.call.expire()
    work.finish(("answer", None))
    await _delivered()
    with pytest.raises(TimeoutError):
        await counted.ended()
    assert not counted.call.give_up()
    assert counted.late_ends == 0


class TestRefusalOfWhatWaits:
    async def test_what_waits_too_long_for_a_thread_is_refused_and_never_runs(self, pool: BlockingPool) -> None:
        gate, seen = Gate(), list[str]()
        first = Counted(PoolRunner(pool, gate.block))
        await gate.reached()
        second = Counted(PoolRunner(pool, lambda: seen.append("ran")))
        await asyncio.sleep(0)
        second.call.refuse_if_waiting("it waited too long")
        with pytest.raises(CapacityExceededError, match="it waited too long"):
            await second.ended()
        assert not second.call.give_up()
        gate.open()
        await first.ended()
        assert seen == []
        assert second.ends == [False]

    async def test_what_has_begun_is_left_alone(self, pool: BlockingPool) -> None:
        gate = Gate()
        counted = Counted(PoolRunner(pool, gate.block))
        await gate.reached()
        counted.call.refuse_if_waiting("it waited too long")
        gate.open()
        assert await counted.ended() is None


class TestTheEndIsToldOnce:
    """Places are counted by it: one that is told twice or never is one too many or too few for ever."""

    async def test_after_an_answer(self) -> None:
        work = Work()
        counted = Counted(work)
        await work.begun.wait()
        work.finish(("answer", None))
        await counted.ended()
        assert counted.ends == [False]

    async def test_after_a_refusal(self) -> None:
        pool = BlockingPool("the pool", 1, 0)
        pool.close()
        counted = Counted(PoolRunner(pool, list))
        with pytest.raises(CapacityExceededError):
            await counted.ended()
        assert counted.ends == [False]

    async def test_after_a_withdrawal(self, pool: BlockingPool) -> None:
        gate = Gate()
        first = Counted(PoolRunner(pool, gate.block))
        await gate.reached()
        second = Counted(PoolRunner(pool, list))
        await asyncio.sleep(0)
        assert not second.call.give_up()
        assert second.ends == [False]
        gate.open()
        await first.ended()
        assert (first.ends, second.ends) == ([False], [False])

    async def test_of_abandoned_code_when_it_ends(self) -> None:
        work = Work()
        counted = Counted(work)
        await work.begun.wait()
        assert counted.call.give_up()
        assert counted.ends == []
        work.finish(("late", None))
        await _delivered()
        assert counted.ends == [True]


class TestLoopRunner:
    async def test_it_runs_on_the_plugins_loop(self, loop_thread: LoopThread) -> None:
        async def where() -> Any:
            return asyncio.get_running_loop()

        counted = Counted(LoopRunner(loop_thread, where, contextvars.copy_context(), "a call"))
        assert await counted.ended() is loop_thread.loop

    async def test_giving_up_cancels_the_code_and_its_end_is_told(self, loop_thread: LoopThread) -> None:
        never = Never()
        counted = Counted(LoopRunner(loop_thread, never.wait, contextvars.copy_context(), "a call"))
        await happens(never.begun)
        assert counted.call.give_up()
        await happens(never.cancelled)
        await _told(counted)

    async def test_code_that_was_given_up_before_it_began_never_begins(self, loop_thread: LoopThread) -> None:
        gate, seen = Gate(), list[str]()

        async def work() -> None:
            seen.append("begun")

        loop_thread.mailbox.post(gate.block)
        await gate.reached()
        counted = Counted(LoopRunner(loop_thread, work, contextvars.copy_context(), "a call"))
        await asyncio.sleep(0)
        assert counted.call.give_up()
        gate.open()
        await _told(counted)
        assert seen == []

    async def test_code_that_is_cancelled_before_its_first_step_is_told_of_as_well(self) -> None:
        """Cancelling a task that has not taken a step ends it without running any of its code."""
        ended = list[Outcome]()
        runner = LoopRunner(AtOnce(), _nothing, contextvars.copy_context(), "a call")  # type: ignore[arg-type]
        runner.begin(ended.append)
        assert runner.give_up()
        await _delivered()
        assert len(ended) == 1

    async def test_a_context_goes_along(self, loop_thread: LoopThread) -> None:
        context = contextvars.copy_context()
        context.run(_COLOUR.set, "red")

        async def read() -> str:
            return _COLOUR.get()

        assert await Counted(LoopRunner(loop_thread, read, context, "a call")).ended() == "red"


async def _told(counted: Counted) -> None:
    await eventually(lambda: counted.late_ends)
    assert counted.late_ends == 1


async def _nothing() -> None: ...


class AtOnce:
    """In the place of a plugin's loop: the loop of the test, with a mailbox that delivers where it is posted."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.mailbox = self

    def post(self, letter: Callable[[], None]) -> None:
        letter()

    def make_task(self, work: Coroutine[Any, Any, None], context: contextvars.Context, name: str) -> asyncio.Task[None]:
        return self.loop.create_task(work, context=context, name=name)


_COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class TestPoolRunner:
    async def test_it_runs_in_the_pool(self, pool: BlockingPool) -> None:
        thread = await Counted(PoolRunner(pool, threading.current_thread)).ended()
        assert thread.name.startswith("the pool")

    async def test_what_runs_cannot_be_stopped_and_its_end_is_told(self, pool: BlockingPool) -> None:
        gate = Gate()
        counted = Counted(PoolRunner(pool, gate.block))
        await gate.reached()
        assert counted.call.give_up()
        gate.open()
        await _told(counted)

    async def test_what_waits_is_withdrawn_and_nothing_runs_on(self, pool: BlockingPool) -> None:
        gate = Gate()
        first = Counted(PoolRunner(pool, gate.block))
        await gate.reached()
        second = Counted(PoolRunner(pool, list))
        await asyncio.sleep(0)
        assert not second.call.give_up()
        gate.open()
        await first.ended()
        assert second.late_ends == 0

    async def test_a_pool_of_one_without_a_queue_serves_calls_one_after_another(self) -> None:
        """A thread is free before anybody hears of the end of its work, or the next call would be refused."""
        pool = BlockingPool("the pool", 1, 0)
        for number in range(300):
            runner = PoolRunner(pool, partial(int, number))
            assert await Counted(runner).ended() == number
        pool.close()
