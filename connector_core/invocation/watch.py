"""A watch over event loops from a thread of its own: how late each loop is, and which code blocks it."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from connector_core.metrics import Gauge, Reading

_log = logging.getLogger(__name__)

_FRAMES = 12


@dataclass(slots=True)
class _Watched:
    """A loop, its thread, and the ping in flight to it."""

    name: str
    loop: asyncio.AbstractEventLoop
    thread: int
    lag: Reading
    pinged_at: float | None = None
    is_reported: bool = False

    def answered(self) -> None:
        """Take note of the ping's arrival; runs on the loop."""
        self.pinged_at = None


class LoopWatch:
    """Pings every loop a few times within `threshold` seconds, and reports one that does not answer for so long, once.

    Args:
        lag: a gauge by loop.
        threshold: seconds without an answer that are reported, with the task and the stack that run then.
    """

    def __init__(self, lag: Gauge, threshold: float) -> None:
        self._lag = lag
        self._threshold = threshold
        self._watched: list[_Watched] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop watch", daemon=True)

    def add(self, name: str, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        """Watch a loop that runs in the thread of this identity."""
        self._watched.append(_Watched(name, loop, thread, self._lag.labels(name)))
        if not self._thread.is_alive() and not self._closed.is_set():
            self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._threshold / 4):
            for watched in tuple(self._watched):
                self._look_at(watched)

    def _look_at(self, watched: _Watched) -> None:
        pinged_at, now = watched.pinged_at, time.monotonic()
        if pinged_at is None:
            watched.is_reported = False
            watched.lag.set(0)
            watched.pinged_at = now
            self._post(watched, watched.answered)
            return
        late = now - pinged_at
        watched.lag.set(late)
        if late >= self._threshold and not watched.is_reported:
            watched.is_reported = True
            _report(watched, late)

    def _post(self, watched: _Watched, callback: Callable[[], None]) -> None:
        try:
            watched.loop.call_soon_threadsafe(callback)
        except RuntimeError:  # closed
            self._watched.remove(watched)


def _report(watched: _Watched, late: float) -> None:
    task = asyncio.current_task(watched.loop)
    frame = sys._current_frames().get(watched.thread)
    stack = (
        "".join(traceback.format_stack(frame, limit=None)[-_FRAMES:]) if frame is not None else "(its thread is gone)\n"
    )
    _log.warning(
        "event loop of %s is blocked: no response for %.1f s; running: %s. Use `await`, or a plain `def` (it runs in a "
        "thread). Its stack:\n%s",
        watched.name,
        late,
        task.get_name() if task is not None else "a callback",
        stack.rstrip(),
    )
