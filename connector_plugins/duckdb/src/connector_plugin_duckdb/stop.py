"""Early ends of queries: requested on the event loop, obeyed in the query's thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stop:
    """One query's request to stop; `reason` is what the thread then raises."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interrupt: Callable[[], None] | None = None
        self._reason: Exception | None = None

    def request(self, reason: Exception) -> None:
        """Ask the thread to stop; the first reason stays."""
        with self._lock:
            self._reason = self._reason or reason
            if self._interrupt is not None:
                self._interrupt()

    def check(self) -> None:
        """Raise the reason, if the thread was asked to stop."""
        if self._reason is not None:
            raise self._reason

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Within this context a request also calls `interrupt`, which ends what the thread is busy with."""
        with self._lock:
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._lock:  # from here on nobody touches what the caller now closes
                self._interrupt = None
