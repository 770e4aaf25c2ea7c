"""The bounded number of threads that queries run in."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from connector_core.errors import TransientError
from connector_plugin_duckdb.stop import Stop

T = TypeVar("T")

WATCH_SECONDS = 0.5
INTERRUPT_SECONDS = 0.05


class Workers:
    """Runs each query in a thread of its own, at most `places` at a time; further ones wait for their turn.

    The threads are daemons: one that is stuck in a transfer must not keep the host from ending. DuckDB itself cannot hold
    one, since its process is killed where it hears no interrupt.
    """

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._running: dict[asyncio.Future[Any], Stop] = {}

    async def run(self, work: Callable[[Stop], T], watch: Callable[[], Exception | None]) -> T:
        """Run `work` in a thread and return its answer.

        When the caller is cancelled, the thread is stopped and its end awaited, so that nothing runs on unseen.

        Args:
            work: what to do; it looks at the `Stop` that it is given.
            watch: called now and then in another thread; what it returns is the reason to stop the work.
        """
        await self._places.acquire()
        stop = Stop()
        ended = _InThread(work, stop).begin()
        self._running[ended] = stop
        ended.add_done_callback(self._forget)
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=WATCH_SECONDS)
                if not ended.done() and (reason := await asyncio.to_thread(watch)) is not None:
                    await _end(ended, stop, reason)
            return ended.result()
        finally:
            await _end(ended, stop, TransientError("the call ended before its query"))

    async def close(self, timeout: float) -> None:
        """Stop all queries and wait for their threads, at most `timeout` seconds."""
        stopping = [_end(ended, stop, TransientError("the host is closing")) for ended, stop in self._running.items()]
        if stopping:
            await asyncio.wait([asyncio.ensure_future(one) for one in stopping], timeout=timeout)

    def _forget(self, ended: asyncio.Future[Any]) -> None:
        del self._running[ended]
        self._places.release()
        if not ended.cancelled():
            ended.exception()  # whoever was cancelled does not look any more


async def _end(ended: asyncio.Future[Any], stop: Stop, reason: Exception) -> None:
    while not ended.done():
        # Again and again: DuckDB forgets an interrupt that comes between two statements, and its process is killed by one
        # that comes a second after the first.
        stop.request(reason)
        await asyncio.wait({ended}, timeout=INTERRUPT_SECONDS)


class _InThread(Generic[T]):
    def __init__(self, work: Callable[[Stop], T], stop: Stop) -> None:
        self._work = work
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[T] = self._loop.create_future()
        self._context = contextvars.copy_context()  # get_secret() reads where it looks from the context
        self._thread = threading.Thread(target=self._run, name="duckdb-query", daemon=True)

    def begin(self) -> asyncio.Future[T]:
        """Start the thread; the future is done when it ends."""
        self._thread.start()
        return self._future

    def _run(self) -> None:
        try:
            answer, error = self._context.run(self._work, self._stop), None
        except BaseException as raised:  # noqa: BLE001 - it is raised again where the answer is awaited
            answer, error = None, raised
        try:
            self._loop.call_soon_threadsafe(self._settle, answer, error)
        except RuntimeError:  # the loop was closed meanwhile, and nobody waits
            return

    def _settle(self, answer: Any, error: BaseException | None) -> None:
        self._thread.join()  # it has nothing left to do; and Python must not end while it does that
        if self._future.done():
            return
        if error is None:
            self._future.set_result(answer)
        else:
            self._future.set_exception(error)
