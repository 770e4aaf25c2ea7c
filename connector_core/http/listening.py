"""The thread that serves HTTP: it listens at once, and imports what serving takes when somebody connects."""

import asyncio
import builtins
import contextlib
import io
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping, Sequence
from typing import Any

from connector_core.ports import Port

Beside = Callable[[], Coroutine[Any, Any, None]]

_log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
"""An ASGI application."""


class HttpServer:
    """Serves a port in a thread of its own.

    Args:
        port: where to listen; it is closed in the end.

    Attributes:
        stopping: is set, in the thread that serves, when it is time to stop.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self._sockets: Sequence[socket.socket] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.stopping = asyncio.Event()

    def start(
        self,
        make_app: Callable[[], App],
        new_loop: Callable[[], asyncio.AbstractEventLoop],
        beside: Beside | None = None,
    ) -> None:
        """Serve in a thread, which imports what that takes when somebody connects for the first time.

        Args:
            make_app: called then, in the thread; again after a pause, where it raises.
            new_loop: makes the thread's loop.
            beside: runs on that loop from now on, until it stops.

        Raises:
            AddressInUseError: the port cannot be listened on.
        """
        self._sockets = self._port.listen()
        self._loop = new_loop()
        arguments = (make_app, self._loop, beside)
        self._thread = threading.Thread(target=self._run, args=arguments, name="http", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Stop listening, and wait up to `timeout` seconds for the thread to end; answers under way have one second."""
        if self._thread is None or self._loop is None:
            self._port.close()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended before
            self._loop.call_soon_threadsafe(self.stopping.set)
        self._thread.join(timeout)
        if self._thread.is_alive():
            _log.warning("HTTP thread left behind: did not end within %g s", timeout)

    def _run(self, make_app: Callable[[], App], loop: asyncio.AbstractEventLoop, beside: Beside | None) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._serve(make_app, beside))
        except BaseException:
            _log.critical("HTTP port not served: internal error in the host: port %d", self._port.number, exc_info=True)
            raise
        finally:
            loop.close()
            self._port.close()

    async def _serve(self, make_app: Callable[[], App], beside: Beside | None) -> None:
        runs_beside = asyncio.create_task(beside()) if beside else None
        pause = _FIRST_PAUSE
        while not (self.stopping.is_set() or await self._somebody()):
            try:
                await self._serve_app(make_app)
            except (Exception, SystemExit):  # noqa: BLE001 - whatever keeps it from being served
                # Descriptors that are short are a matter of time, and so may be what else keeps modules from being imported.
                _log.exception("HTTP port not served, will retry: port %d, in %g s", self._port.number, pause)
                await self._stopping_within(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        if runs_beside is not None:
            await runs_beside

    async def _serve_app(self, make_app: Callable[[], App]) -> None:
        with _own_open():
            from connector_core.http.serving import serve

            app = make_app()
        await serve(app, self._sockets, self.stopping)

    async def _stopping_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()

    async def _somebody(self) -> bool:
        """Wait for a connection or the stop; return whether it is the stop."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        stopping = asyncio.create_task(self.stopping.wait())
        stopping.add_done_callback(lambda _: woken.set())
        for listener in self._sockets:
            loop.add_reader(listener, woken.set)
        await woken.wait()
        for listener in self._sockets:
            loop.remove_reader(listener)
        stopping.cancel()
        return self.stopping.is_set()


@contextlib.contextmanager
def _own_open() -> Iterator[None]:
    """Import with the interpreter's own `open`: plugins run before this, and may have put theirs in its place."""
    current = builtins.open
    builtins.open = io.open
    try:
        yield
    finally:
        builtins.open = current
