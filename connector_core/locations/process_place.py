"""The place of a connector that runs in a location: calls cross to its process, limits and deadlines are held here."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from connector_core.description import ConnectorDescription
from connector_core.errors import BackendUnavailableError, CapacityExceededError, ConnectorError
from connector_core.invocation.faults import too_late
from connector_core.invocation.offers import Offer
from connector_core.invocation.places import CallLimits
from connector_core.locations.crossing import read_answer, read_error, write_call
from connector_core.locations.heads import AnswerHead, ErrorHead, PlaceHead, from_json, to_json
from connector_core.locations.link import Link
from connector_core.locations.wire import Frame, Kind, WireError
from connector_core.operations import LIFECYCLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connector_core.locations.location import Location

_LONGEST = 10.0 * 365 * 86_400
"""Seconds that stand for ever."""


class ProcessPlace:
    """Runs one connector's operations in the process of its location.

    The host counts calls in flight, so that a location that is dead or hangs takes no more of the host than its limits;
    threads, their queue and batches are the location's.

    Args:
        location: where.
        number: by which calls name this place.
        description: the connector, as the host lists it.
        limits: those of its calls.
    """

    def __init__(
        self, location: "Location", number: int, description: ConnectorDescription, limits: CallLimits
    ) -> None:
        self._location = location
        self._number = number
        self._description = description
        self._limits = limits
        self._in_flight = {True: 0, False: 0}
        self._head = to_json(PlaceHead(description, _finite(limits)))

    async def invoke(self, operation: str, offer: Offer, end: float) -> Any:
        """Run one operation; see `Place`."""
        with self._counted(operation), self._naming(operation):
            async with self._bounded(operation, end):
                link = await self._link(operation, end)
                number = self._begin(link, operation, offer, end, streams=False)
                try:
                    return self._read(link, await link.answer(number))
                finally:
                    link.end(number)

    async def stream(self, operation: str, offer: Offer, end: float) -> AsyncIterator[Any]:
        """Run one operation that may yield; see `Place`."""
        with self._counted(operation), self._naming(operation):
            async with self._bounded(operation, end):
                link = await self._link(operation, end)
            number = self._begin(link, operation, offer, end, streams=True)
            try:
                while True:
                    async with self._bounded(operation, end):
                        frame = await link.answer(number)
                    if frame.kind is Kind.END:
                        return
                    yield self._read(link, frame)
                    link.next(number)
            finally:
                link.end(number)

    async def close(self) -> None:
        """Let go of nothing: the location ends with the host."""

    def _begin(self, link: Link, operation: str, offer: Offer, end: float, *, streams: bool) -> int:
        if self._number not in link.places:
            link.places.add(self._number)
            link.send(Kind.PLACE, self._number, self._head)
        head, parts = write_call(self._number, operation, offer, end, streams=streams)
        return link.begin(to_json(head), parts)

    async def _link(self, operation: str, end: float) -> Link:
        if operation in LIFECYCLE:
            return await self._location.linked(end)
        return await self._location.ready(end)

    def _read(self, link: Link, frame: Frame) -> Any:
        try:
            if frame.kind is Kind.ERROR:
                head: ErrorHead = from_json(frame.head, ErrorHead)
                raise read_error(head)
            if frame.kind is Kind.END:
                raise BackendUnavailableError(f"{self._location.title} is stopping")
            return read_answer(from_json(frame.head, AnswerHead), frame.body)
        except WireError as error:
            link.break_off(error)
            raise BackendUnavailableError(f"{self._location.title} has broken the wire: {error}") from None

    @contextmanager
    def _naming(self, operation: str) -> "Iterator[None]":
        """Have errors name plugin and operation, also where no code of the plugin has run."""
        try:
            yield
        except ConnectorError as error:
            error.plugin = error.plugin or self._description.plugin.name
            error.operation = error.operation or operation
            raise

    @contextmanager
    def _counted(self, operation: str) -> "Iterator[None]":
        """Count a call that is in flight.

        Raises:
            CapacityExceededError: as many as may be are.
        """
        is_blocking = self._description.operations[operation].is_blocking
        limits = self._limits
        limit, settings = (
            (limits.workers + limits.queue, "workers, queue") if is_blocking else (limits.in_flight, "in_flight")
        )
        if operation not in LIFECYCLE and self._in_flight[is_blocking] >= limit:
            raise CapacityExceededError(
                f"connector {self._description.name!r} has {limit} calls in flight, as many as it may (setting: {settings})",
                plugin=self._description.plugin.name,
                operation=operation,
            )
        self._in_flight[is_blocking] += 1
        try:
            yield
        finally:
            self._in_flight[is_blocking] -= 1

    def _bounded(self, operation: str, end: float) -> "_Bounded":
        return _Bounded(self._description.plugin.name, operation, end)


def _finite(limits: CallLimits) -> CallLimits:
    """Return limits that JSON can say, which has no infinity."""
    deadlines = {operation: min(seconds, _LONGEST) for operation, seconds in limits.deadlines.items()}
    return replace(limits, wait=min(limits.wait, _LONGEST), deadlines=deadlines)


class _Bounded:
    """Ends a wait at its deadline, with the error that calls in the host get."""

    def __init__(self, plugin: str, operation: str, end: float) -> None:
        self._plugin = plugin
        self._operation = operation
        left = None if end == math.inf else max(0.0, end - time.monotonic())
        self._timeout = asyncio.timeout(left)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise too_late(self._plugin, self._operation) from None
