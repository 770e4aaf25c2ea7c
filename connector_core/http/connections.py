"""Connections of the HTTP port: how long each may keep the host waiting, and how many there are at the most."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

ASKING_SECONDS = 20.0
"""In which a connection has to bring a whole request, from its opening or from the answer before it."""

_READING_SECONDS = 60.0
"""In which a client has to take what an answer waits to send."""


class OpenConnections:
    """The connections that are open. One more than there may be costs the oldest that brings no request its own.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[Connection, None] = {}

    def add(self, connection: "Connection") -> None:
        """Count one that was opened, and make room for it."""
        self._open[connection] = None
        if len(self._open) > self._most:
            idle = next((one for one in self._open if one.is_idle), connection)
            self.discard(idle)
            idle.cut()

    def discard(self, connection: "Connection") -> None:
        """Count one no more."""
        self._open.pop(connection, None)


class Connection(H11Protocol):
    """uvicorn's connection, which by itself lets clients send their requests as slowly as they like, or none at all."""

    def __init__(self, connections: OpenConnections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._connections = connections
        self._asking: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """True if no whole request is being answered."""
        return self._asking is not None

    def cut(self) -> None:
        """End it, whatever it is doing."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._expect_request()
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._has_asked()
        self._has_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            self._has_asked()

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._has_read()
        self._reading = self.loop.call_later(_READING_SECONDS, self.cut)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._has_read()

    def _expect_request(self) -> None:
        self._has_asked()
        self._asking = self.loop.call_later(ASKING_SECONDS, self.cut)

    def _has_asked(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _has_read(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
