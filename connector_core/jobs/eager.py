"""Work that is begun at once, goes on as a task only where it has to wait, and goes on whoever waits for it."""

import asyncio
import contextvars
import sys
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

if sys.version_info >= (3, 12):

    def begin(work: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
        """Run a coroutine up to its first wait, and have a task go on with it from there.

        It runs as that task from its first step on, for all that it can see. What does not wait is done when this returns, and
        has taken no turn of the loop.
        """
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)

else:
    from asyncio.tasks import _enter_task, _leave_task  # documented, for tasks of other makes than asyncio's

    def begin(work: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
        """Run a coroutine up to its first wait, and have a task go on with it from there.

        It runs as that task from its first step on, for all that it can see. What does not wait is done when this returns, and
        has taken no turn of the loop.
        """
        loop, caller = asyncio.get_running_loop(), asyncio.current_task()
        context, begun = contextvars.copy_context(), _Begun(work)
        task = asyncio.Task(begun, loop=loop, context=context)  # whose own first step is the loop's next turn
        if caller is not None:
            _leave_task(loop, caller)
        _enter_task(loop, task)
        try:
            begun.wait_for(context.run(work.send, None))
        except BaseException as ended:  # noqa: BLE001 - whatever it is, it goes to whoever waits
            begun.is_over = True
            return _over(loop.create_future(), ended)
        finally:
            _leave_task(loop, task)
            if caller is not None:
                _enter_task(loop, caller)
        return task


async def is_over(running: "asyncio.Future[Any]", timeout: float | None) -> bool:
    """Wait, for so many seconds, until something is over that goes on if its waiter goes; return whether it is."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()
    wake = partial(_wake, woken)
    running.add_done_callback(wake)
    timer = None if timeout is None else loop.call_later(timeout, wake)
    try:
        await woken  # not `wait_for`, which loses a cancellation that comes together with the end
    finally:
        if timer is not None:
            timer.cancel()
        running.remove_done_callback(wake)
    return running.done()


def _wake(woken: "asyncio.Future[None]", _ended: object = None) -> None:
    if not woken.done():
        woken.set_result(None)


def _over(outcome: "asyncio.Future[T]", ended: BaseException) -> "asyncio.Future[T]":
    if isinstance(ended, StopIteration):
        outcome.set_result(ended.value)
    elif isinstance(ended, asyncio.CancelledError):
        outcome.cancel()
    else:
        outcome.set_exception(ended)
    return outcome


class _Begun(Coroutine[Any, Any, Any]):
    """A coroutine that has run up to its first wait, for a task that takes it for one that has not begun.

    Attributes:
        is_over: whether it has ended without waiting, so that the task has nothing to do.
    """

    __slots__ = ("_first", "_work", "is_over")

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self._first: Any = None
        self.is_over = False

    def wait_for(self, first: Any) -> None:
        """Take down what it waits for first, without the mark of being awaited: that is for the task to see and take off."""
        self._first = first
        if asyncio.isfuture(first):
            first._asyncio_future_blocking = False

    def send(self, value: Any) -> Any:
        """Take a step: the first one has been taken, so the task is only told what it has to wait for."""
        if self.is_over:
            raise StopIteration
        if self._first is None:
            return self._work.send(value)
        first, self._first = self._first, None
        if asyncio.isfuture(first):
            first._asyncio_future_blocking = True
        return first

    def throw(self, *error: Any) -> Any:
        """Take a step with an error: what it waits for has failed, or the task was cancelled."""
        if self.is_over:
            raise StopIteration
        if asyncio.isfuture(self._first) and self._first.cancel():
            return self.send(None)  # a task that is cancelled passes that on to what it waits for
        self._first = None
        return self._work.throw(*error)

    def close(self) -> None:
        """End it, as a coroutine that nobody goes on with."""
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()
