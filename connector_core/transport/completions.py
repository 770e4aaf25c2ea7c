"""Completed operations of gRPC's core, brought to the loop by the thread that has time for it."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any

from grpc._cython.cygrpc import CompletionQueue, CompletionType

_NOTHING_THERE = CompletionType.queue_timeout
_SHUT_DOWN = CompletionType.queue_shutdown

_AT_ONCE = 64
"""Completions that are handled in one turn of the loop, before timers and sockets have theirs."""

_PAUSE_ALONE = 0.01
"""Seconds between two looks at the queue where no thread waits for it."""

_NOW = 0
"""A deadline that has passed: what is there is returned, and nothing waited for."""


class Completions:
    """Calls, on the loop, what each operation of gRPC's core was begun with: a function that takes the completed event.

    Core keeps completed operations in a queue that is waited for in a thread. A thread that handed over each of them would
    fight with the loop for the interpreter. So the thread waits only while the loop has nothing to do: it takes the first
    completion, wakes the loop with it, and leaves the queue to the loop until that finds it empty.

    Make it on the loop.

    Args:
        failed: called on the loop where the thread ends by an exception, after which nothing is called any more.

    Attributes:
        queue: where core's operations complete.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self.queue = CompletionQueue()
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._first: list[Any] = []
        self._waiters_turn = threading.Semaphore(0)
        self._is_closed = False
        self._waiter = threading.Thread(target=self._wait, name="grpc completions", daemon=True)

    def start(self) -> None:
        """Begin to call, in a copy of this context."""
        self._context = contextvars.copy_context()
        self._waiter.start()
        self._waiters_turn.release()

    def close(self) -> None:
        """Call what is left, and end; nothing may be begun any more."""
        self._is_closed = True
        self.queue.shutdown()
        self._waiters_turn.release()
        self._waiter.join()
        self._take_first()
        while (event := self.queue.poll()).completion_type != _SHUT_DOWN:
            self._call(event)

    def _wait(self) -> None:
        try:
            self._wait_by_turns()
        except Exception as error:  # noqa: BLE001 - whatever it was
            with contextlib.suppress(RuntimeError):  # the loop was closed under the server
                self._loop.call_soon_threadsafe(self._go_on_alone, error, context=self._context)

    def _go_on_alone(self, error: Exception) -> None:
        """Say that the thread has ended, and look for completions without it, so that the server can be stopped."""
        self._failed(error)
        self._look()

    def _look(self) -> None:
        if self._is_closed:
            return
        while (event := self.queue.poll(_NOW)).completion_type != _NOTHING_THERE:
            self._call(event)
        self._loop.call_later(_PAUSE_ALONE, self._look, context=self._context)

    def _wait_by_turns(self) -> None:
        while True:
            self._waiters_turn.acquire()
            if self._is_closed:
                return
            event = self.queue.poll()
            if event.completion_type == _SHUT_DOWN:
                return
            self._first.append(event)
            del event  # an event that lives on while the next is waited for keeps its call alive
            try:
                self._loop.call_soon_threadsafe(self._run, context=self._context)
            except RuntimeError:  # the loop was closed under the server
                return

    def _run(self) -> None:
        if self._is_closed:
            return
        was_idle = not self._take_first()
        poll, call = self.queue.poll, self._call
        for _ in range(_AT_ONCE):
            event = poll(_NOW)
            if event.completion_type == _NOTHING_THERE:
                break
            was_idle = False
            call(event)
        if was_idle:
            self._waiters_turn.release()
        else:  # what was called has begun other operations, or will in this turn of the loop
            self._loop.call_soon(self._run, context=self._context)

    def _take_first(self) -> bool:
        if not self._first:
            return False
        self._call(self._first.pop())
        return True

    def _call(self, event: Any) -> None:
        try:
            event.tag(event)
        except Exception as error:  # noqa: BLE001 - one call's trouble is not the others'
            self._loop.call_exception_handler(
                {"message": "completion of a call could not be handled", "exception": error}
            )
