"""A client's stream of requests."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from grpc._cython import cygrpc

_NO_FLAGS = 0

_UNASKED = 2
"""Requests that are fetched before somebody asks: a sync call is a header and the inputs."""


class Requests:
    """Iterates over the requests of a call; one that is waited for in vain is there for the next who asks.

    No generator, which would have to be closed by those who read only what they need.

    Args:
        core: the call.
        read: bytes to a request, where not the bytes are wanted.
    """

    __slots__ = ("_arrived", "_core", "_fetched", "_has_ended", "_is_fetching", "_read", "_reader")

    def __init__(self, core: Any, read: Callable[[bytes], Any] | None) -> None:
        self._core = core
        self._read = read
        self._arrived: deque[bytes] = deque()
        self._fetched = 0
        self._has_ended = self._is_fetching = False
        self._reader: asyncio.Future[None] | None = None
        self._fetch()

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        while not self._arrived:
            if self._has_ended:
                raise StopAsyncIteration
            if not self._is_fetching:
                self._fetch()
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        raw = self._arrived.popleft()
        return raw if self._read is None else self._read(raw)

    def end(self) -> None:
        """The call is over: there is nothing more to fetch."""
        self._has_ended = True
        self._wake()

    def _fetch(self) -> None:
        self._is_fetching = True
        self._core.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._came)

    def _came(self, event: Any) -> None:
        self._is_fetching = False
        raw = event.batch_operations[0].message()
        if raw is None:
            self._has_ended = True
        else:
            self._arrived.append(raw)
            self._fetched += 1
            if self._fetched < _UNASKED and not self._has_ended:
                self._fetch()
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
