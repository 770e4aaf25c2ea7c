"""Eager tasks: started at once, made a task only when they have to wait, and independent of their waiters."""

import asyncio
import contextvars
import sys
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

if sys.version_info >= (3, 12):

    def begin(work: Coroutine[Any, Any, T]) -> "T | asyncio.Task[T]":
        """Run a coroutine up to its first wait; return what it came to, or the task that goes on with it.

        It runs as that task from its first step on, for all that it can see, and takes no turn of the loop if it does not wait.
        """
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
        return task.result() if task.done() else task

else:
    from asyncio.tasks import _enter_task, _leave_task  # documented, for tasks of other makes than asyncio's

    def begin(work: Coroutine[Any, Any, T]) -> "T | asyncio.Task[T]":
        """Run a coroutine up to its first wait; return what it came to, or the task that goes on with it.

        It runs as that task from its first step on, for all that it can see, and takes no turn of the loop if it does not wait.
        """
        loop = asyncio.get_running_loop()
        caller = asyncio.current_task(loop)
        context, begun = contextvars.copy_context(), _Begun(work)
        task = asyncio.Task(begun, loop=loop, context=context)  # whose own first step is the loop's next turn
        if caller is not None:
            _leave_task(loop, caller)
        _enter_task(loop, task)
        try:
            begun.wait_for(context.run(work.send, None))
        except StopIteration as ended:
            begun.is_over = True
            answer: T = ended.value
            return answer
        except BaseException:
            begun.is_over = True
            raise
        finally:
            _leave_task(loop, task)
            if caller is not None:
                _enter_task(loop, caller)
        return task


async def is_over(running: "asyncio.Task[Any]", timeout: float | None) -> bool:
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
