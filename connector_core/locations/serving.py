"""Calls that a host makes, run in this process: an answer, an error, or pieces that the host asks for one by one."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, cast

from connector_core.errors import BackendUnavailableError, ConnectorError, IllegalAnswerError, PluginCallError
from connector_core.invocation import LocalPlaces
from connector_core.invocation.places import Place
from connector_core.locations.crossing import read_offer, read_request, write_answer, write_error
from connector_core.locations.heads import CallHead, PlaceHead, from_json, to_json
from connector_core.locations.wire import TO_LOCATION, Frame, FrameReader, Kind, WireError, encode
from connector_core.observing.call_records import REQUEST
from connector_core.secrets import SecretSource

_log = logging.getLogger(__name__)

_Place = Place | str
"""A place, or why there is none."""


class Serving(asyncio.Protocol):
    """The location's end of the wire.

    Args:
        places: makes the places of connectors.
        loaded: the connectors that were loaded, by origin.
        failures: why plugins failed to load, by name.
        secrets: takes note of those that callers bring.
        max_bytes: bytes that a frame may have.

    Attributes:
        stopped: is set when the host has asked for the end, or has gone.
    """

    def __init__(
        self,
        places: LocalPlaces,
        loaded: frozenset[tuple[str, str]],
        failures: Mapping[str, str],
        secrets: SecretSource,
        max_bytes: int,
    ) -> None:
        self.stopped = asyncio.Event()
        self._made = places
        self._loaded = loaded
        self._failures = failures
        self._secrets = secrets
        self._max_bytes = max_bytes
        self._reader = FrameReader(TO_LOCATION, max_bytes)
        self._transport: asyncio.WriteTransport | None = None
        self._places: dict[int, _Place] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._asked: dict[int, asyncio.Event] = {}
        self._does: Mapping[Kind, Callable[[Frame], None]] = {
            Kind.PLACE: self._place,
            Kind.CALL: self._begin,
            Kind.NEXT: self._next,
            Kind.CANCEL: self._cancel,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are of no class of asyncio's

    def data_received(self, data: bytes) -> None:
        """Do what the host asks for."""
        try:
            for frame in self._reader.feed(data):
                self._does[frame.kind](frame)
        except (WireError, KeyError) as error:
            _log.critical("the host has broken the wire: %s; this location ends", error)
            self.stop()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """End as well: nobody is left to answer."""
        self.stop()

    def stop(self) -> None:
        """Take no more calls."""
        self.stopped.set()

    def announce(self, secret: str) -> None:
        """Tell the host of a secret, before any answer that could hold it."""
        self._send(Kind.SECRETS, head=secret.encode(errors="surrogateescape"))

    async def close(self) -> None:
        """Give up calls, and close the places."""
        for task in self._calls.values():
            task.cancel()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)
        for place in self._places.values():
            if not isinstance(place, str):
                await place.close()

    def _place(self, frame: Frame) -> None:
        head: PlaceHead = from_json(frame.head, PlaceHead)
        description = head.description
        if description.origin in self._loaded:
            self._places[frame.call] = self._made.place(description, head.limits)
            return
        plugin = description.plugin.name
        why = self._failures.get(plugin, f"it brings no connector {description.name!r} any more")
        self._places[frame.call] = f"plugin {plugin!r} failed to load again: {why}"

    def _begin(self, frame: Frame) -> None:
        head: CallHead = from_json(frame.head, CallHead)
        place = self._places[head.place]
        if head.streams:
            self._asked[frame.call] = asyncio.Event()
        task = asyncio.create_task(self._answer(frame, head, place))
        self._calls[frame.call] = task
        task.add_done_callback(partial(self._ended, frame.call))

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        self._calls.pop(number, None)
        if task.cancelled():  # before its first step, so that it could not say so itself
            self._send(Kind.END, number)

    def _next(self, frame: Frame) -> None:
        if (asked := self._asked.get(frame.call)) is not None:
            asked.set()

    def _cancel(self, frame: Frame) -> None:
        if (task := self._calls.get(frame.call)) is not None:
            task.cancel()

    async def _answer(self, frame: Frame, head: CallHead, place: _Place) -> None:
        """Run a call to its end, and say so exactly once, whatever that was."""
        number = frame.call
        try:
            if isinstance(place, str):
                raise BackendUnavailableError(place)
            end = math.inf if head.seconds is None else time.monotonic() + head.seconds
            offer = read_offer(head, frame.body)
            if head.connection is not None:
                self._secrets.note_brought(offer.connection.secrets.values())  # type: ignore[attr-defined] # of offers that have one
            REQUEST.set(read_request(head))
            del frame
            if head.streams:
                await self._stream(number, head.operation, place.stream(head.operation, offer, end))
                self._send(Kind.END, number)
            else:
                self._send_answer(Kind.ANSWER, number, head.operation, await place.invoke(head.operation, offer, end))
        except ConnectorError as error:
            self._send(Kind.ERROR, number, to_json(write_error(error)))
        except asyncio.CancelledError:
            self._send(Kind.END, number)
        except Exception as error:  # noqa: BLE001 - this package's own; the host must not wait for ever
            _log.exception("internal error in a location")
            told = PluginCallError(f"internal error in the location: {type(error).__name__}")
            self._send(Kind.ERROR, number, to_json(write_error(told)))
        finally:
            self._asked.pop(number, None)

    async def _stream(self, number: int, operation: str, pieces: AsyncIterator[Any]) -> None:
        """Send piece after piece, each when the host has asked for it; the first one is asked for by the call."""
        asked = self._asked[number]
        try:
            async for piece in pieces:
                self._send_answer(Kind.PIECE, number, operation, piece)
                await asked.wait()
                asked.clear()
        finally:
            if (close := getattr(pieces, "aclose", None)) is not None:
                await close()

    def _send_answer(self, kind: Kind, number: int, operation: str, answer: Any) -> None:
        head, parts = write_answer(operation, answer)
        encoded = to_json(head)
        if (size := len(encoded) + sum(map(len, parts))) > self._max_bytes:
            raise IllegalAnswerError(
                f"{operation}() gave {size:,} bytes, and {self._max_bytes:,} can be passed on "
                "(settings: max_request_bytes, max_answer_bytes)",
            )
        self._send(kind, number, encoded, parts)

    def _send(self, kind: Kind, number: int = 0, head: bytes = b"", parts: list[bytes] | None = None) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(encode(kind, number, head, parts or ()))
