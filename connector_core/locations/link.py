"""The host's end of the wire to one process of a location: calls in flight, each waiting for its next frame."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import cast

from connector_core.errors import BackendUnavailableError
from connector_core.locations.process import LocationProcess
from connector_core.locations.wire import Frame, Kind, WireError, encode
from connector_core.secrets import SecretSource

_SECONDS_TO_END = 2.0
"""Seconds in which a process that has closed its end of the wire has to end by itself, as one does that dies."""


class Link(asyncio.Protocol):
    """Sends calls to a location's process and hands its answers to those who wait for them.

    Args:
        process: the process.
        secrets: takes note of those that its plugins have got.

    Attributes:
        places: the numbers of the places that the process has been told of.
        is_stopping: whether the process has been asked to end.
    """

    def __init__(self, process: LocationProcess, secrets: SecretSource) -> None:
        self._process = process
        self._secrets = secrets
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._cancelled: set[int] = set()
        self._numbers = count(1)
        self._ended_with = ""
        self.places: set[int] = set()
        self.is_stopping = False

    async def open(self) -> None:
        """Take over the process' socket, on the running loop, and listen for its end."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self, sock=self._process.end)
        self._take_all(self._process.early)
        self._process.exit.add_done_callback(lambda _exit: _call(loop, self._process_has_ended))

    @property
    def is_open(self) -> bool:
        """Return whether calls can be sent."""
        return not self._ended_with

    def begin(self, head: bytes, parts: Sequence[bytes]) -> int:
        """Send a call; return its number, for `answer`.

        Raises:
            BackendUnavailableError: the process has ended.
        """
        if self._ended_with:
            raise BackendUnavailableError(self._ended_with)
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self.send(Kind.CALL, number, head, parts)
        return number

    async def answer(self, number: int) -> Frame:
        """Return the next frame of a call.

        Raises:
            BackendUnavailableError: the process has ended.
        """
        return await self._waiting[number]

    def next(self, number: int) -> None:
        """Ask for the next piece of a call's answer."""
        if self._ended_with:
            raise BackendUnavailableError(self._ended_with)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self.send(Kind.NEXT, number)

    def end(self, number: int) -> None:
        """Let go of a call; one that is not over yet is cancelled."""
        future = self._waiting.pop(number, None)
        if future is None or self._ended_with:
            return
        if not future.done() or future.cancelled() or future.result().kind is Kind.PIECE:
            self._cancelled.add(number)
            self.send(Kind.CANCEL, number)

    def send(self, kind: Kind, number: int = 0, head: bytes = b"", parts: Sequence[bytes] = ()) -> None:
        """Send a frame; what is sent to a process that has ended is lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(encode(kind, number, head, parts))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way there."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are of no class of asyncio's

    def data_received(self, data: bytes) -> None:
        """Hand on what has arrived; a process that breaks the wire is ended."""
        try:
            frames = self._process.reader.feed(data)
        except WireError as error:
            self.break_off(error)
            return
        self._take_all(frames)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """End a process that has closed its end; whether it has ended is told by its exit, and by nothing else."""
        if not self.is_stopping:
            why = "has closed its end of the wire, and was ended"
            asyncio.get_running_loop().call_later(_SECONDS_TO_END, self._process.kill, why)

    def close(self) -> None:
        """Let go of the socket."""
        if self._transport is not None:
            self._transport.abort()

    def _take_all(self, frames: Sequence[Frame]) -> None:
        try:
            for frame in frames:
                self._take(frame)
        except WireError as error:
            self.break_off(error)

    def _take(self, frame: Frame) -> None:
        if frame.kind is Kind.SECRETS:
            self._secrets.note(frame.head.decode(errors="surrogateescape"))
            return
        if frame.call in self._cancelled:
            if frame.kind is not Kind.PIECE:
                self._cancelled.discard(frame.call)
            return
        future = self._waiting.get(frame.call)
        if future is None or (future.done() and not future.cancelled()):
            raise WireError(f"a frame of kind {frame.kind.name} about call {frame.call}, which is not in flight")
        if not future.done():
            future.set_result(frame)
        elif frame.kind is not Kind.PIECE:  # its caller has just gone, and there is nothing left to cancel
            del self._waiting[frame.call]

    def break_off(self, error: WireError) -> None:
        """End a process that has sent what it may not."""
        self._process.kill(f"has broken the wire: {error}")

    def _process_has_ended(self) -> None:
        self._ended_with = self._process.reason()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(BackendUnavailableError(self._ended_with))
        self.close()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Have a function called on a loop, from a thread; one that has closed needs nothing any more."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        return
