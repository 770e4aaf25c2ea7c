"""The HTTP port: taken at start-up, so that a busy one is found before anything serves; served when somebody connects."""

import asyncio
import contextlib
import errno
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from connector_core.errors import AddressInUseError

Beside = Callable[[], Coroutine[Any, Any, None]]

_log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
"""An ASGI application."""


class HttpServer:
    """Holds the HTTP port from its making until `close`; connections wait in its queue until `start`.

    Args:
        host: the address to listen on.
        port: the port; 0 takes a free one.
        bound: a socket that listens there already, for this one to use and close.

    Attributes:
        port: where it listens.
        stopping: is set, in the thread that serves, when it is time to stop.

    Raises:
        AddressInUseError: the port cannot be bound.
    """

    def __init__(self, host: str, port: int, bound: socket.socket | None = None) -> None:
        self._socket = bound or bind(host, port)
        self.port: int = self._socket.getsockname()[1]
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
            make_app: called then, in the thread.
            new_loop: makes the thread's loop.
            beside: runs on that loop from now on, until it stops.
        """
        self._loop = new_loop()
        arguments = (make_app, self._loop, beside)
        self._thread = threading.Thread(target=self._run, args=arguments, name="http", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Stop listening, and wait up to `timeout` seconds for the thread to end; answers under way have one second."""
        if self._thread is None or self._loop is None:
            self._socket.close()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended before
            self._loop.call_soon_threadsafe(self.stopping.set)
        self._thread.join(timeout)
        if self._thread.is_alive():
            _log.warning("the thread that serves HTTP did not end within %g s and was left behind", timeout)

    def _run(self, make_app: Callable[[], App], loop: asyncio.AbstractEventLoop, beside: Beside | None) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._serve(make_app, beside))
        except BaseException:
            _log.critical("the HTTP port %d is not served: the host has a bug", self.port, exc_info=True)
            raise
        finally:
            loop.close()
            self._socket.close()

    async def _serve(self, make_app: Callable[[], App], beside: Beside | None) -> None:
        runs_beside = asyncio.create_task(beside()) if beside else None
        await self._somebody()
        if not self.stopping.is_set():
            from connector_core.http.serving import serve

            await serve(make_app(), self._socket, self.stopping)
        if runs_beside is not None:
            await runs_beside

    async def _somebody(self) -> None:
        """Wait until somebody connects, or it is time to stop."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        stopping = asyncio.create_task(self.stopping.wait())
        stopping.add_done_callback(lambda _: woken.set())
        loop.add_reader(self._socket, woken.set)
        await woken.wait()
        loop.remove_reader(self._socket)
        stopping.cancel()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        AddressInUseError: the port cannot be bound.
    """
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        # As bytes: a text is looked at by a codec that takes longer to import than this file, and raises what is no OSError.
        name = host.encode() if host.isascii() else host
        family, *_, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # Like gRPC's, a socket on [::] also takes IPv4.
        is_dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=128, dualstack_ipv6=is_dual)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(
                f"the HTTP port {shown} is taken by another process: stop it, or choose another with --http-port"
            ) from None
        raise AddressInUseError(
            f"the HTTP port {shown} cannot be bound: choose with --http-port and --host ({error})"
        ) from None
