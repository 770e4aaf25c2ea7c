"""A thread that writes the log, so that code that logs does not wait for its reader."""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO

from connector_core.hostlog.entries import Entry
from connector_core.hostlog.rendering import Render

_MAX_WAITING_BYTES = 16 * 1024 * 1024
_MAX_BATCH = 200

_GATHERING = 0.005
"""Seconds for which a line waits for others: where each call is logged, waking for each line would cost more than the line."""


class Writer:
    """Renders and writes lines in the order in which they were logged.

    What waits is bounded: when nobody reads the stream, further lines are dropped, and the first line that can be written
    again says how many.

    Args:
        stream: where to.
        render: renders a line, and must not raise.
        dropped: makes the entry that says how many lines were dropped.
        room: bytes, roughly, that may wait.
    """

    def __init__(
        self,
        stream: TextIO,
        render: Render,
        dropped: Callable[[int], Entry],
        room: int = _MAX_WAITING_BYTES,
    ) -> None:
        self._stream = stream
        self._descriptor = _duplicate(stream)
        self._render = render
        self._make_dropped = dropped
        self._room = room
        self._is_direct = False
        self._reset()

    def _reset(self) -> None:
        # Its lock is reentrant: a finalizer that logs may run in the middle of `put`.
        self._changed = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._weight = 0
        self._unsaid = 0
        self._is_writing = False
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def put(self, entry: Entry) -> None:
        """Have a line written, soon, or drop it; from any thread."""
        if self._is_direct:
            self._write([entry])
            return
        with self._changed:
            if self._weight + entry.weight > self._room:
                self.dropped += 1
                self._unsaid += 1
                return
            self._say_dropped()
            self._append(entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was logged is written, for so many seconds at the most; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._is_writing, timeout)

    def close(self, timeout: float) -> None:
        """Write what waits; later lines are written at once, in the thread that logs them."""
        if self.flush(timeout):
            self._is_direct = True
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def after_fork(self) -> None:
        """In a child process there is no thread, and what waits is the parent's to write."""
        self._reset()
        self._is_direct = True

    def _append(self, entry: Entry) -> None:
        self._waiting.append(entry)
        self._weight += entry.weight

    def _say_dropped(self) -> None:
        if self._unsaid:
            unsaid, self._unsaid = self._unsaid, 0
            self._append(self._make_dropped(unsaid))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                are_few = len(self._waiting) < _MAX_BATCH
            if are_few:
                time.sleep(_GATHERING)
            with self._changed:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
                self._is_writing = True
            self._write(batch)
            with self._changed:
                self._weight -= sum(entry.weight for entry in batch)
                if not self._waiting:
                    self._say_dropped()
                self._is_writing = False
                self._changed.notify_all()

    def _write(self, batch: Sequence[Entry]) -> None:
        try:
            for chunk in _chunks(f"{self._render(entry)}\n" for entry in batch):
                _write_all(self._stream if self._descriptor is None else self._descriptor, chunk)
        except (OSError, ValueError):
            return  # its reader has gone, or it is closed: there is nobody to tell


def _chunks(lines: Iterable[str]) -> Iterator[bytes]:
    """Put lines together as far as the kernel writes them in one piece, so that child processes' lines do not get into them.

    A lone surrogate, which stands for a byte that is not UTF-8, becomes the escape that JSON has for it.
    """
    chunk = b""
    for line in lines:
        raw = line.encode(errors="backslashreplace")
        if chunk and len(chunk) + len(raw) > select.PIPE_BUF:
            yield chunk
            chunk = b""
        chunk += raw
    yield chunk


def _duplicate(stream: TextIO) -> int | None:
    """Return a descriptor of our own, which stays open when a plugin closes the stream; none, where the stream has none."""
    try:
        return os.dup(stream.fileno())
    except (OSError, ValueError, AttributeError):  # a stream of a test, or of a program around the host
        return None


def _write_all(target: TextIO | int, raw: bytes) -> None:
    """Write past the stream's own buffer, whose lock others hold who print to a pipe that nobody reads."""
    if not isinstance(target, int):
        target.write(raw.decode())
        target.flush()
        return
    left = memoryview(raw)
    while left:
        try:
            left = left[os.write(target, left) :]
        except BlockingIOError:  # somebody has made the terminal non-blocking
            select.select([], [target], [])
