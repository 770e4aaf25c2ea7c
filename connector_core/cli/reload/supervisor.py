"""The parent of a host that is started anew when a source changes: it keeps the ports, and passes signals on."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from importlib.util import cache_from_source
from pathlib import Path
from typing import Literal

from connector_core.cli.reload.gate import Gate
from connector_core.cli.reload.handover import Handover, Line, concerning
from connector_core.cli.reload.sources import Sources, Watcher
from connector_core.cli.report import reach_of
from connector_core.errors import SetupError
from connector_core.ports import Address, Port
from connector_core.processes import Child, Lifeline
from connector_core.settings import Settings

_STEPS = ((signal.SIGTERM, 0.5), (signal.SIGTERM, 10.0), (signal.SIGKILL, None))
"""A second SIGTERM ends the patience with calls under way: their author waits for the new host."""
_PLUGINS_FAILED = 3
_ENDED_BY_US = 128 + signal.SIGTERM
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
        loop = asyncio.get_running_loop()
        for number in _STOPS:
            loop.add_signal_handler(number, self._stop)
        lifeline = Lifeline()
        try:
            await self._follow()
            return await self._serve(lifeline)
        finally:
            lifeline.close()
            await self._ports.close()
            await self._watcher.close()

    def _stop(self) -> None:
        self._asked_to_stop.set()
        if self._child is not None:
            # Not SIGINT: before a host has its handlers, that would be a traceback of whatever it imports.
            self._child.signal(signal.SIGTERM)

    async def _serve(self, lifeline: Lifeline) -> int:
        is_first = True
        while not self._asked_to_stop.is_set():
            with contextlib.closing(Line()) as line:
                child = self._child = await self._start(lifeline, line, is_again=not is_first)
                changed = await self._until_it_is_to_end(child, line)
                self._ports.gate.hold()
                if changed:
                    _say_changed(changed)
                # With some patience for its calls, and if need be without.
                code = await (child.wait() if self._asked_to_stop.is_set() else child.end(*_STEPS))
            if self._asked_to_stop.is_set():
                return 0 if code == _ENDED_BY_US else code
            if not changed:
                if code == 0 or (is_first and code != _PLUGINS_FAILED):  # its time was over, or it cannot be started
                    return code
                _say(f"the host has ended with {code}; it is started again when a source changes")
                changed = await self._until_something_changes()
                _say_changed(changed)
            await self._take_up(changed)
            is_first = False
        return 0

    async def _start(self, lifeline: Lifeline, line: Line, *, is_again: bool) -> Child:
        http = [one.fileno() for one in self._ports.http]
        handover = Handover(http, lifeline.inherited, line.theirs.fileno(), self._ports.grpc_at, is_again)
        return await Child.start(
            [sys.executable, "-P", "-m", "connector_core.cli", *self._arguments],
            environment=handover.to_environment(),
            inherited=handover.descriptors,
        )

    async def _until_it_is_to_end(self, child: Child, line: Line) -> Sequence[Path]:
        """Return what has changed that concerns the host; nothing when it has ended, or this process was asked to stop."""
        async with asyncio.TaskGroup() as tasks:
            over = [tasks.create_task(child.wait()), tasks.create_task(self._asked_to_stop.wait())]
            changing = tasks.create_task(self._until_it_is_outdated(line))
            await asyncio.wait([*over, changing], return_when=asyncio.FIRST_COMPLETED)
            for task in (*over, changing):
                task.cancel()
        return changing.result() if not changing.cancelled() else ()

    async def _until_it_is_outdated(self, line: Line) -> Sequence[Path]:
        """Let callers in when the host serves, and return what changes of what it has imported."""
        starting = asyncio.create_task(self._open(line))
        try:
            while True:
                changed = await self._until_something_changes()
                if self._watcher.settings in changed:
                    return changed
                state = await line.state() if starting.done() and starting.result() else None
                if outdated := concerning(changed, state):
                    return outdated
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)

    async def _open(self, line: Line) -> bool:
        try:
            state = await line.started()
        except (OSError, EOFError):
            return False
        self._ports.gate.open(state.port)
        return True

    async def _until_something_changes(self) -> Sequence[Path]:
        stopping = asyncio.create_task(self._asked_to_stop.wait())
        changing = asyncio.create_task(self._watcher.wait())
        try:
            await asyncio.wait([stopping, changing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, changing):
                task.cancel()
        return self._watcher.taken()

    async def _take_up(self, changed: Sequence[Path]) -> None:
        """Read the settings anew and see what to watch, again and again until they hold."""
        while not self._asked_to_stop.is_set():
            for source in changed:
                _forget_bytecode(source)
            try:
                await self._follow()
            except SetupError as error:
                _say(str(error))
                changed = await self._until_something_changes()
            else:
                return

    async def _follow(self) -> None:
        settings = self._read_settings()
        await self._ports.follow(settings)
        await self._watcher.follow(Sources.of(settings, self._config))


class _Ports:
    """The host's ports, the same ones for all of them, on which callers wait for the next one."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.grpc_at = ""
        self.http: Sequence[socket.socket] = ()
        self._wanted: dict[str, Address] = {}
        self._open: dict[str, Port] = {}

    async def follow(self, settings: Settings) -> None:
        """Take the ports that the settings name.

        Raises:
            AddressInUseError: one of them cannot be bound.
        """
        if port := self._changed("HTTP", Address(settings.host, settings.http_port)):
            self.http = port.listen()
        if port := self._changed("gRPC", Address(settings.host, settings.port)):
            await self.gate.listen([one.dup() for one in port.listen()])
            self.grpc_at = reach_of(port)

    def _changed(self, serves: Literal["gRPC", "HTTP"], wanted: Address) -> Port | None:
        if self._wanted.get(serves) == wanted:
            return None
        port = Port(serves, wanted)
        port.reserve()
        if former := self._open.get(serves):
            former.close()
        self._wanted[serves], self._open[serves] = wanted, port
        return port

    async def close(self) -> None:
        """Let go of the ports."""
        await self.gate.close()
        for port in self._open.values():
            port.close()


def _forget_bytecode(source: Path) -> None:
    """A source that changes twice within a second, and keeps its size, would be taken for the compiled one."""
    with contextlib.suppress(OSError, NotImplementedError):
        Path(cache_from_source(str(source))).unlink()


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _say_changed(changed: Sequence[Path]) -> None:
    if changed:
        _say(f"{', '.join(map(_shown, changed))} changed: restarting")


def _say(text: str) -> None:
    print(f"connector-host: {text}", file=sys.stderr, flush=True)
