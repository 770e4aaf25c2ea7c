"""What is begun at once is done at once if it waits for nothing, and is a task like any other if it does."""

import asyncio
import contextlib
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, TypeVar

import pytest

from connector_core.jobs.eager import begin, is_over

T = TypeVar("T")

NOTE: ContextVar[str] = ContextVar("note", default="the caller's")


async def answer() -> str:
    return "done"


async def fail() -> None:
    raise LookupError("no")


async def cancel() -> None:
    raise asyncio.CancelledError


def begun(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Begin what has to wait."""
    running = begin(work)
    assert isinstance(running, asyncio.Task)
    return running


async def test_what_waits_for_nothing_is_done_without_a_turn_of_the_loop() -> None:
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    assert begin(answer()) == "done"
    assert turns == []


async def test_what_fails_without_waiting_has_failed() -> None:
    with pytest.raises(LookupError, match="no"):
        begin(fail())


async def test_what_is_cancelled_without_waiting_is_cancelled() -> None:
    with pytest.raises(asyncio.CancelledError):
        begin(cancel())


async def test_nothing_is_left_of_what_did_not_wait() -> None:
    for work in (answer, fail, cancel):
        with contextlib.suppress(LookupError, asyncio.CancelledError):
            begin(work())
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_waits_goes_on_with_what_it_has_waited_for() -> None:
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        first = await gate
        await asyncio.sleep(0)
        return first

    running = begun(work())
    assert not running.done()
    gate.set_result("open")
    assert await running == "open"


async def test_what_fails_after_a_wait_has_failed() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        await fail()

    with pytest.raises(LookupError):
        await begun(work())


async def test_what_it_waits_for_may_fail() -> None:
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            return await gate
        except LookupError as error:
            return f"caught {error.args[0]}"

    running = begun(work())
    gate.set_exception(LookupError("it"))
    assert await running == "caught it"


async def test_it_is_one_task_from_its_first_step_on_and_its_caller_is_itself_again() -> None:
    async def work() -> list[object]:
        seen = [asyncio.current_task()]
        await asyncio.sleep(0)
        return [*seen, asyncio.current_task()]

    caller = asyncio.current_task()
    running = begun(work())
    assert asyncio.current_task() is caller
    assert await running == [running, running]


async def test_its_first_step_is_a_tasks_where_nothing_waits_either() -> None:
    async def work() -> object:
        return asyncio.current_task()

    caller = asyncio.current_task()
    assert begin(work()) not in (None, caller)
    assert asyncio.current_task() is caller


async def test_a_time_limit_that_begins_before_the_first_wait_holds_after_it() -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return "too late"
        return "in time"

    assert await begun(work()) == "too late"


async def test_tasks_that_belong_together_may_be_begun_before_the_first_wait() -> None:
    async def work() -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, number)) for number in (1, 2)]
        return sum(task.result() for task in tasks)

    assert await begun(work()) == 3


async def test_it_has_a_context_of_its_own() -> None:
    async def work() -> str:
        NOTE.set(f"{NOTE.get()}, then its own")
        await asyncio.sleep(0)
        return NOTE.get()

    NOTE.set("the caller's")
    running = begun(work())
    assert NOTE.get() == "the caller's"
    assert await running == "the caller's, then its own"


async def test_a_callback_of_the_loop_may_begin_it_as_well() -> None:
    told: asyncio.Future[asyncio.Task[None]] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: told.set_result(begun(asyncio.sleep(0))))
    await (await told)
    assert asyncio.current_task() is not None


async def test_one_that_is_cancelled_at_once_has_what_it_waits_for_cancelled() -> None:
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            return await gate
        except asyncio.CancelledError:
            return "cleaned up"

    running = begun(work())
    running.cancel()
    assert await running == "cleaned up"
    assert gate.cancelled()


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_one_that_is_cancelled_at_its_first_wait_ends(turns: int) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        await asyncio.Event().wait()

    running = begun(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


async def test_what_has_been_cancelled_by_its_own_code_before_its_first_wait_ends_there() -> None:
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return await gate

    running = begun(work())
    await asyncio.wait([running])
    assert running.cancelled()


async def test_several_may_wait_for_the_same_thing_first() -> None:
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        return await gate

    running = [begun(work()) for _ in range(3)]
    asyncio.get_running_loop().call_soon(gate.set_result, "open")
    assert await asyncio.gather(*running) == ["open"] * 3


class Odd:
    """Awaits what no loop can wait for."""

    def __await__(self) -> Generator[Any, Any, str]:
        try:
            yield "nothing to wait for"
        except RuntimeError as error:
            return str(error)
        return "it was taken for something"


async def test_code_that_waits_for_what_nobody_can_wait_for_is_told_so() -> None:
    async def work() -> str:
        odd: Awaitable[str] = Odd()
        return await odd

    assert "bad yield" in await begun(work())


async def test_who_waits_hears_of_the_end_and_of_the_end_of_his_patience() -> None:
    gate = asyncio.Event()
    running = begun(gate.wait())
    assert not await is_over(running, 0)
    assert not await is_over(running, 0.001)
    waits = asyncio.create_task(is_over(running, None))
    await asyncio.sleep(0)
    gate.set()
    assert await waits
    assert await is_over(running, 0)


async def test_what_somebody_waits_for_goes_on_without_him() -> None:
    gate = asyncio.Event()
    running = begun(gate.wait())
    waits = asyncio.create_task(is_over(running, 60))
    await asyncio.sleep(0)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    gate.set()
    assert await running


async def test_who_is_cancelled_in_the_moment_of_the_end_has_not_heard_of_it() -> None:
    gate = asyncio.Event()
    running = begun(gate.wait())
    waits = asyncio.create_task(is_over(running, 60))
    await asyncio.sleep(0)
    running.add_done_callback(lambda _ended: waits.cancel())
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waits
