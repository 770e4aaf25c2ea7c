"""Messages between a host and the parent that restarts it: descriptors first, then the files that the host has imported."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from connector_core.processes import on_end_of_parent, without_inheritance

_VARIABLE = "CONNECTOR_HOST_HANDOVER"
"""For our own child; no setting (those have two underscores)."""
_STANDARD = str(Path(os.__file__).parent)
_QUESTION = b"?\n"
_PATIENCE = 2.0
"""Seconds for an answer of a host, whose loop may be blocked."""


class HostState(msgspec.Struct, frozen=True):
    """The state of a serving host, for its parent.

    Attributes:
        port: where its gRPC is, on this machine.
        imported: the files of the modules that it has imported.
        is_whole: whether each plugin is loaded, and each connector started.
    """

    port: int
    imported: Collection[str]
    is_whole: bool


class Handover(msgspec.Struct, frozen=True):
    """The things that a host gets from such a parent; empty without one.

    Attributes:
        http: the descriptors of the HTTP port's sockets.
        lifeline: the descriptor that tells of the parent's end.
        line: the descriptor of a socket on which the host tells its state.
        grpc_at: where clients reach its gRPC port, which is the parent's; empty for its own one.
        is_again: whether another host was there before it.
    """

    http: Sequence[int] = ()
    lifeline: int | None = None
    line: int | None = None
    grpc_at: str = ""
    is_again: bool = False

    def to_environment(self) -> dict[str, str]:
        """Return the variable that tells a child of them; it inherits the descriptors."""
        return {_VARIABLE: msgspec.json.encode(self).decode()}

    @property
    def descriptors(self) -> Sequence[int]:
        """All that is inherited."""
        return [one for one in (self.lifeline, self.line, *self.http) if one is not None]

    @classmethod
    def taken(cls) -> "Handover":
        """Take them, so that the children of plugins do not."""
        text = os.environ.pop(_VARIABLE, None)
        if text is None:
            return cls()
        handover = msgspec.json.decode(text, type=cls)
        without_inheritance(handover.descriptors)
        return handover

    def http_sockets(self) -> Sequence[socket.socket]:
        """Return the sockets of the HTTP port."""
        return [socket.socket(fileno=one) for one in self.http]

    def end_with_parent(self) -> None:
        """Ask this process to stop when the parent has died; called on the serving loop."""
        if self.lifeline is not None:
            on_end_of_parent(self.lifeline, lambda: os.kill(os.getpid(), signal.SIGTERM))

    def tell(self, port: int, *, is_whole: bool) -> None:
        """Tell the parent that this host serves, and again whenever it asks; called on the serving loop."""
        if self.line is None:
            return
        line, loop = self.line, asyncio.get_running_loop()

        def send() -> None:
            state = HostState(port, imported_files(), is_whole)
            os.write(line, msgspec.json.encode(state) + b"\n")

        def answer() -> None:
            try:
                if os.read(line, len(_QUESTION)):
                    send()
                    return
            except OSError:
                pass
            loop.remove_reader(line)  # the parent has gone

        send()
        loop.add_reader(line, answer)


def imported_files() -> list[str]:
    """Return the files of this process' modules, but for installed ones and Python's."""
    files = {getattr(module, "__file__", None) for module in tuple(sys.modules.values())}
    return sorted(os.path.realpath(file) for file in files if file and not _is_installed(file))


def _is_installed(file: str) -> bool:
    return f"{os.sep}site-packages{os.sep}" in file or file.startswith(_STANDARD)


class Line:
    """The parent's end of what a host tells."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def started(self) -> HostState:
        """Wait until the host serves, and return its state.

        Raises:
            EOFError: it has ended before.
        """
        self.theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=self._ours, limit=16 * 1024 * 1024)
        return await self._next()

    async def state(self) -> HostState | None:
        """Ask for the host's state as it is now; `None` where it does not answer."""
        assert self._writer is not None  # noqa: S101 - it has started
        try:
            self._writer.write(_QUESTION)
            async with asyncio.timeout(_PATIENCE):
                return await self._next()
        except (OSError, EOFError, TimeoutError):
            return None

    async def _next(self) -> HostState:
        assert self._reader is not None  # noqa: S101 - it has started
        line = await self._reader.readline()
        if not line:
            raise EOFError
        return msgspec.json.decode(line, type=HostState)

    def close(self) -> None:
        """Close it."""
        if self._writer is not None:
            self._writer.close()
        else:
            self._ours.close()
        self.theirs.close()


def concerning(changed: Iterable[Path], state: HostState | None) -> Sequence[Path]:
    """Return for which of these files a host has to be started again: for all of them where it is not whole."""
    if state is None or not state.is_whole:
        return list(changed)
    return [path for path in changed if str(path) in state.imported]
