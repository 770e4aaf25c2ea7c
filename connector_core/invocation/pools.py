"""Bounded pools of daemon threads for blocking code, and a plugin's `asyncio.to_thread`, which runs in them."""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, NamedTuple, ParamSpec, TypeVar

from connector_core.errors import CapacityExceededError
from connector_core.invocation.fork_guard import end_if_child_of

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[[], Any]


class _Piece(NamedTuple):
    work: Work
    then: Work


def _nothing() -> None:
    """The follow-up of work that nobody waits for: nothing."""


class BlockingPool:
    """Runs work in at most `size` threads and lets at most `queue` pieces of it wait.

    Not `concurrent.futures.ThreadPoolExecutor`: its queue has no bound, it cannot withdraw what waits without
    walking it, and joins its threads at interpreter exit, so that one that hangs would hang the exit. Threads are started
    when they are needed and kept.
    """

    def __init__(self, name: str, size: int, queue: int) -> None:
        self.name = name
        self.size = size
        self.queue = queue
        self._ready = threading.Condition()
        self._waiting: deque[_Piece] = deque()
        self._busy = 0
        self._threads = 0
        self._closed = False
        self._process = os.getpid()

    def submit(self, work: Work, then: Work = _nothing, *, is_bounded: bool = True) -> None:
        """Have `work`, which must not raise, called in a thread, and `then` when that thread counts as free again.

        A caller that waits for `then` can therefore submit the next piece. `is_bounded=False` is for what
        must be done even if the queue is full.

        Raises:
            CapacityExceededError: all threads are busy and the queue is full.
        """
        with self._ready:
            if self._closed:
                raise CapacityExceededError(f"{self.name} is closed")
            taken = self._busy + len(self._waiting)
            if is_bounded and taken >= self.size + self.queue:
                raise CapacityExceededError(
                    f"{self.name} is full: {self.size} threads are busy and {self.queue} calls wait "
                    "(settings: workers, queue)"
                )
            if self._threads <= min(taken, self.size - 1):
                threading.Thread(target=self._run, name=f"{self.name}-{self._threads + 1}", daemon=True).start()
                self._threads += 1
            self._waiting.append(_Piece(work, then))
            self._ready.notify()

    def withdraw(self, work: Work) -> bool:
        """Take back work that waits; return whether it had not begun."""
        with self._ready:
            for piece in self._waiting:
                if piece.work == work:
                    self._waiting.remove(piece)
                    return True
            return False

    @property
    def busy(self) -> int:
        """The number of busy threads."""
        return self._busy

    @property
    def waiting(self) -> int:
        """The length of the queue: calls that wait for a thread."""
        return len(self._waiting)

    def close(self) -> None:
        """Let idle threads end, and busy ones after the work they have in hand."""
        with self._ready:
            self._closed = True
            self._waiting.clear()
            self._ready.notify_all()

    def _run(self) -> None:
        while (piece := self._next()) is not None:
            piece.work()
            end_if_child_of(self._process)
            with self._ready:
                self._busy -= 1
            piece.then()
            del piece  # an idle thread must not keep the last call's arguments alive

    def _next(self) -> _Piece | None:
        with self._ready:
            while not self._waiting:
                if self._closed:
                    return None
                self._ready.wait()
            self._busy += 1
            return self._waiting.popleft()


POOL_OF_CALL: ContextVar[BlockingPool | None] = ContextVar("connector_core.pool_of_call", default=None)
"""The pool of the connector whose call runs."""


class PoolExecutor(ThreadPoolExecutor):
    """The default executor of a plugin's loop.

    Work goes into the pool of the connector whose call hands it over, so that each keeps to its own threads, and into
    `pool` where no call does.

    It is a `ThreadPoolExecutor` because asyncio takes nothing else, and runs nothing of a plugin's in threads of that: their
    number would be asyncio's choice and not the operator's, and the interpreter would wait at its exit for code that hangs.

    Args:
        pool: for what no call hands over; `None` on the loop that serves, where that is not a plugin's, and is run as ever.
    """

    def __init__(self, pool: BlockingPool | None) -> None:
        super().__init__(thread_name_prefix="asyncio")  # as asyncio calls its own
        self._pool = pool

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in the pool.

        Raises:
            CapacityExceededError: the pool is full.
        """
        pool = POOL_OF_CALL.get() or self._pool
        if pool is None:
            return super().submit(fn, *args, **kwargs)
        future: Future[T] = Future()
        # `asyncio.to_thread` carries the context over by itself, `run_in_executor` does not.
        work = partial(_run, future, partial(copy_context().run, fn, *args, **kwargs))
        future.add_done_callback(lambda ended: ended.cancelled() and pool.withdraw(work))
        pool.submit(work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End idle threads; nothing waits for a plugin's code, and what runs of it is left behind."""
        super().shutdown(wait, cancel_futures=cancel_futures)


def _run(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        answer = function()
    except BaseException as error:  # noqa: BLE001 - the code that awaits it gets whatever it is
        future.set_exception(error)
    else:
        future.set_result(answer)
