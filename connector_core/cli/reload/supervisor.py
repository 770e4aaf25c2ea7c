"""The parent of a host that is started anew when a source changes: it keeps the ports, and passes signals on."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from connector_core.cli.reload.handover import Handover
from connector_core.cli.reload.sources import Sources, Watcher
from connector_core.errors import SetupError
from connector_core.ports import Address, Port
from connector_core.processes import Child, Lifeline
from connector_core.settings import Settings

_STEPS = ((signal.SIGTERM, 0.5), (signal.SIGTERM, 10.0), (signal.SIGKILL, None))
"""A second SIGTERM ends the patience with calls under way: their author waits for the new host."""
_PLUGINS_FAILED = 3
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def supervise(arguments: Sequence[str], read_settings: Callable[[], Settings], config: Path | None) -> int:
    """Serve, and serve anew after each change; return the exit code of the host that served last.

    Args:
        arguments: the command line of the host.
        read_settings: reads its settings, again for each start.
        config: the settings file that was named.

    Raises:
        SetupError: the settings do not hold, or the HTTP port is taken.
    """
    return asyncio.run(_Supervisor(arguments, read_settings, config).run())


class _Supervisor:
    def __init__(self, arguments: Sequence[str], read_settings: Callable[[], Settings], config: Path | None) -> None:
        self._arguments = arguments
        self._read_settings = read_settings
        self._config = config
        self._ports = _Ports()
        self._watcher = Watcher()
        self._child: Child | None = None
        self._asked_to_stop = asyncio.Event()

    async def run(self) -> int:
        """Return when there is nothing more to serve."""
        await self._follow()
        loop = asyncio.get_running_loop()
        for number in _STOPS:
            loop.add_signal_handler(number, self._stop, number)
        lifeline = Lifeline()
        try:
            return await self._serve(lifeline)
        finally:
            lifeline.close()
            self._ports.close()
            await self._watcher.close()

    def _stop(self, number: signal.Signals) -> None:
        self._asked_to_stop.set()
        if self._child is not None:
            self._child.signal(signal.SIGTERM if number == signal.SIGHUP else number)

    async def _serve(self, lifeline: Lifeline) -> int:
        is_first = True
        while True:
            child = self._child = await self._start(lifeline)
            await self._until_something_happens(child)
            # With some patience for its calls, and if need be without.
            code = await (child.wait() if self._asked_to_stop.is_set() else child.end(*_STEPS))
            if self._asked_to_stop.is_set() or (
                is_first and code not in {0, _PLUGINS_FAILED} and not self._watcher.news
            ):
                return code
            if not self._watcher.news:
                if code == 0:  # its time was over
                    return code
                _say(f"the host has ended with {code}; it is started again when a source changes")
                await self._until_something_happens()
            await self._take_up_changes()
            if self._asked_to_stop.is_set():
                return code
            is_first = False

    async def _start(self, lifeline: Lifeline) -> Child:
        handover = Handover(self._ports.http, lifeline.inherited)
        return await Child.start(
            [sys.executable, "-P", "-m", "connector_core.cli", *self._arguments, *self._ports.arguments],
            environment=handover.to_environment(),
            inherited=(lifeline.inherited, *(one.fileno() for one in self._ports.http)),
        )

    async def _until_something_happens(self, child: Child | None = None) -> None:
        """Return when a source has changed, this process was asked to stop, or the child has ended."""
        happenings: list[Coroutine[Any, Any, object]] = [self._asked_to_stop.wait(), self._watcher.wait()]
        if child is not None:
            happenings.append(child.wait())
        waits = [asyncio.create_task(one) for one in happenings]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()

    async def _take_up_changes(self) -> None:
        """Read the settings anew and see what to watch, again and again until they hold."""
        while not self._asked_to_stop.is_set():
            changed = self._watcher.taken()
            _say(f"{', '.join(map(_shown, changed))} changed: restarting")
            for source in changed:
                _forget_bytecode(source)
            try:
                await self._follow()
            except SetupError as error:
                _say(str(error))
                await self._until_something_happens()
            else:
                return

    async def _follow(self) -> None:
        settings = self._read_settings()
        self._ports.follow(settings)
        await self._watcher.follow(Sources.of(settings, self._config))


class _Ports:
    """The host's ports: the same ones for all of them, and for HTTP sockets in which callers wait for the next one."""

    def __init__(self) -> None:
        self._wanted: Address | None = None
        self._grpc: int | None = None
        self._http: Port | None = None
        self.http: Sequence[socket.socket] = ()
        self.arguments: Sequence[str] = ()

    def follow(self, settings: Settings) -> None:
        """Take the ports that the settings name.

        Raises:
            AddressInUseError: the HTTP port cannot be bound.
        """
        wanted = Address(settings.host, settings.http_port)
        if self._wanted != wanted:
            port = Port("HTTP", wanted)
            self.http = port.listen()
            self.close()
            self._wanted, self._http = wanted, port
        if settings.port == 0 and self._grpc is None:
            free = Port("gRPC", Address(settings.host, 0))  # gRPC takes no socket from outside: it is chosen, not kept
            free.reserve()
            self._grpc = free.number
            free.close()
        self.arguments = ["--port", str(self._grpc)] if settings.port == 0 else []

    def close(self) -> None:
        """Let go of the HTTP port."""
        if self._http is not None:
            self._http.close()


def _forget_bytecode(source: Path) -> None:
    """A source that changes twice within a second, and keeps its size, would be taken for the compiled one."""
    with contextlib.suppress(OSError, NotImplementedError):
        Path(cache_from_source(str(source))).unlink()


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _say(text: str) -> None:
    print(f"connector-host: {text}", file=sys.stderr, flush=True)
