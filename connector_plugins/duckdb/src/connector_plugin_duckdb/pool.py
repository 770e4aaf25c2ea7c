"""The query processes of a connector: started ahead of need, lent to one query at a time, used again while clean."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from connector_core.errors import BackendUnavailableError, TransientError
from connector_plugin_duckdb.process import Limits, QueryProcess
from connector_plugin_duckdb.stop import Stop

IDLE_SECONDS = 60.0
"""Seconds for which an idle process beyond the first waits for a query before it is ended."""


class Pool:
    """Lends processes to threads; usable from several of them.

    One process waits at any time, and up to `most` where that many were needed at once in the last minute.

    Args:
        limits: what each process gets.
        most: how many queries run at the same time.
    """

    def __init__(self, limits: Limits, most: int) -> None:
        self._limits = limits
        self._most = most
        self._lock = threading.Lock()
        self._idle: list[QueryProcess] = []
        self._busy = 0
        self._starting = 0
        self._is_closed = False
        # All are started by this one thread, since the kernel ends a process with the thread that started it.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="duckdb-starter")

    def warm_up(self) -> None:
        """Start the first process and wait until it takes queries.

        Raises:
            BackendUnavailableError: it does not start.
        """
        with self.lend(Stop()):
            return

    @contextmanager
    def lend(self, stop: Stop) -> Iterator[QueryProcess]:
        """Lend a process that takes one query; a stop interrupts that.

        Raises:
            BackendUnavailableError: none can be started.
        """
        process, is_clean = self._take_ready(stop), False
        try:
            with stop.interrupting(process.interrupt):
                try:
                    yield process
                finally:
                    is_clean = process.close_query()
        finally:
            self._give(process, is_clean)

    def trim(self, now: float | None = None) -> bool:
        """End the processes that have waited for too long, but the last one; say whether more than one is left."""
        end = (time.monotonic() if now is None else now) - IDLE_SECONDS
        with self._lock:
            old = [one for one in self._idle[:-1] if one.idle_since <= end]
            self._idle = [one for one in self._idle if one not in old]
            more = len(self._idle) > 1
        for process in old:
            process.discard()
        return more

    def close(self) -> None:
        """End all processes that are not lent, and start no more."""
        with self._lock:
            self._is_closed = True
        self._starter.shutdown()
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.discard()

    def _take_ready(self, stop: Stop) -> QueryProcess:
        """Take a process that takes queries: another one where the first was ended while it waited or started."""
        try:
            return self._ready(self._take(), stop)
        except BackendUnavailableError:
            stop.check()
            return self._ready(self._take(), stop)

    def _ready(self, process: QueryProcess, stop: Stop) -> QueryProcess:
        try:
            with stop.interrupting(process.interrupt):
                process.wait_until_ready()
        except BaseException:
            self._give(process, False)
            raise
        return process

    def _take(self) -> QueryProcess:
        dead = []
        with self._lock:
            if self._is_closed:
                raise TransientError("the host is closing")
            found = None
            while self._idle and found is None:
                process = self._idle.pop()
                if process.is_alive:
                    found = process
                else:
                    dead.append(process)
            self._busy += 1
        for process in dead:
            process.discard()
        try:
            if found is None:
                found = self._starter.submit(QueryProcess, self._limits).result()
        except BaseException as error:
            with self._lock:
                self._busy -= 1
            if isinstance(error, OSError | RuntimeError):  # no descriptors, no memory; or it was closed meanwhile
                raise BackendUnavailableError(f"a process for the query cannot be started: {error}") from error
            raise
        self._start_spare()
        return found

    def _give(self, process: QueryProcess, is_clean: bool) -> None:
        with self._lock:
            self._busy -= 1
            is_kept = is_clean and not self._is_closed
            if is_kept:
                process.idle_since = time.monotonic()
                self._idle.append(process)
        if not is_kept:
            process.discard()
            self._start_spare()

    def _start_spare(self) -> None:
        """See to it that a process waits, if there may be one more."""
        with self._lock:
            has_one = self._idle or self._starting
            if self._is_closed or has_one or self._busy >= self._most:
                return
            self._starting += 1
        with suppress(RuntimeError):  # it was closed meanwhile
            self._starter.submit(self._spare)

    def _spare(self) -> None:
        try:
            process = QueryProcess(self._limits)
        except BaseException:
            with self._lock:
                self._starting -= 1
            raise
        with self._lock:
            self._starting -= 1
            process.idle_since = time.monotonic()
            if is_kept := not self._is_closed:
                self._idle.insert(0, process)  # those that have run a query go first
        if not is_kept:
            process.discard()
