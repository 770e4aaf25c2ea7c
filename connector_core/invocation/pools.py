"""A bounded pool of daemon threads with a bounded queue, for one connector's blocking code."""

import threading
from collections import deque
from collections.abc import Callable

from connector_core.errors import CapacityExceededError

Work = Callable[[], None]


class BlockingPool:
    """Runs work in at most `size` threads and lets at most `queue` pieces of it wait.

    Not `concurrent.futures.ThreadPoolExecutor`: that one has no bound on its queue, cannot withdraw what waits without
    walking it, and joins its threads at interpreter exit, so that one that hangs would hang the exit. Threads are started
    when they are needed and kept.
    """

    def __init__(self, name: str, size: int, queue: int) -> None:
        self.name = name
        self.size = size
        self.queue = queue
        self._ready = threading.Condition()
        self._waiting: deque[Work] = deque()
        self._idle = 0
        self._threads = 0
        self._closed = False

    def submit(self, work: Work) -> None:
        """Have `work`, which must not raise, called in a thread.

        Raises:
            CapacityExceededError: all threads are busy and the queue is full.
        """
        with self._ready:
            if self._closed:
                raise CapacityExceededError(f"{self.name} is closed")
            if len(self._waiting) >= self._idle:
                self._make_room()
            self._waiting.append(work)
            self._ready.notify()

    def withdraw(self, work: Work) -> bool:
        """Take back work that waits; return whether it had not begun."""
        with self._ready:
            try:
                self._waiting.remove(work)
            except ValueError:
                return False
            return True

    @property
    def busy(self) -> int:
        """How many threads have work in hand."""
        return self._threads - self._idle

    @property
    def waiting(self) -> int:
        """How many pieces of work wait for a thread."""
        return len(self._waiting)

    def close(self) -> None:
        """Let idle threads end, and busy ones after the work they have in hand."""
        with self._ready:
            self._closed = True
            self._waiting.clear()
            self._ready.notify_all()

    def _make_room(self) -> None:
        if self._threads < self.size:
            self._threads += 1
            threading.Thread(target=self._run, name=f"{self.name}-{self._threads}", daemon=True).start()
        elif len(self._waiting) - self._idle >= self.queue:
            raise CapacityExceededError(
                f"{self.name} is full: {self.size} threads are busy and {self.queue} calls wait (settings: workers, queue)"
            )

    def _run(self) -> None:
        while (work := self._next()) is not None:
            work()
            del work  # an idle thread must not keep the last call's arguments alive

    def _next(self) -> Work | None:
        with self._ready:
            self._idle += 1
            while not self._waiting and not self._closed:
                self._ready.wait()
            self._idle -= 1
            return self._waiting.popleft() if self._waiting else None
