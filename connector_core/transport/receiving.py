"""A client's stream of requests."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from grpc._cython.cygrpc import ReceiveMessageOperation

from connector_core.transport.sending import NO_FLAGS, Outbox

_UNASKED = 2
"""Requests that are fetched before somebody asks: a sync call is a header and the inputs."""


class Requests:
    """Iterates over the requests of a call; one that is waited for in vain is there for the next who asks.

    No generator, which would have to be closed by those who read only what they need.

    Args:
        core: the call.
        outbox: when that is closed, nothing more is fetched unasked.
        read: bytes to a request, where not the bytes are wanted.
        arrived: called when all that is fetched unasked has come.
    """

    __slots__ = (
        "_arrived",
        "_core",
        "_fetched",
        "_has_arrived",
        "_has_ended",
        "_is_fetching",
        "_is_over",
        "_outbox",
        "_read",
        "_reader",
    )

    def __init__(
        self,
        core: Any,
        outbox: Outbox,
        read: Callable[[bytes], Any] | None,
        arrived: Callable[[], None],
    ) -> None:
        self._core = core
        self._outbox = outbox
        self._read = read
        self._has_arrived: Callable[[], None] | None = arrived
        self._arrived: deque[bytes] = deque()
        self._fetched = 0
        self._has_ended = self._is_fetching = self._is_over = False
        self._reader: asyncio.Future[None] | None = None
        self._fetch()

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        while not self._arrived:
            if self._is_over:
                await cancel_again()
            if self._has_ended:
                raise StopAsyncIteration
            if not self._is_fetching:
                self._fetch()
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        raw = self._arrived.popleft()
        return raw if self._read is None else self._read(raw)

    def end(self) -> None:
        """The call is over: there is nothing more to fetch, and what came last was not meant to be the end."""
        self._is_over = True
        self._has_arrived = None
        self._wake()

    def _fetch(self) -> None:
        self._is_fetching = True
        self._core.start_server_batch((ReceiveMessageOperation(NO_FLAGS),), self._came)

    def _came(self, event: Any) -> None:
        raw = event.batch_operations[0].message()
        if self._has_arrived is not None and (raw is None or self._fetched + 1 == _UNASKED):
            self._has_arrived()
            # It belongs to the call, which has these: kept, it would leave each call to the garbage collector.
            self._has_arrived = None
        if raw is None:  # at the requests' end, and where the client has gone, which is told next
            self._outbox.loop.call_soon(self._come_to_an_end)
            return
        self._is_fetching = False
        self._arrived.append(raw)
        self._fetched += 1
        if self._fetched < _UNASKED and not self._is_over and not self._outbox.is_closed:
            self._fetch()
        self._wake()

    def _come_to_an_end(self) -> None:
        if not self._is_over:
            self._has_ended = True
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


async def cancel_again() -> NoReturn:
    """Cancel who goes on with a call that is over; if that one does not mind, others have their turns at least."""
    await asyncio.sleep(0)
    raise asyncio.CancelledError
