"""uvicorn on a socket of ours, in a thread of ours: it neither catches signals nor touches anybody's logging."""

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import uvicorn

from connector_core.http.connections import Connection, OpenConnections
from connector_core.http.listening import App
from connector_core.ports import connection_bounds

MAX_HEAD_BYTES = 1024 * 1024
"""The largest request line with headers. A resource meta in a URL may hold a whole result: 100 kB, and a third more."""

_SECONDS_TO_ANSWER = 1
"""Seconds left for answers under way when the port closes: by then, calls have been drained."""


async def serve(app: App, listeners: Sequence[socket.socket], asked_to_stop: asyncio.Event) -> None:
    """Answer HTTP on listening sockets until the event is set."""
    config = uvicorn.Config(
        app,
        http=partial(Connection, OpenConnections(connection_bounds().http)),  # type: ignore[arg-type] # makes one
        ws="none",
        lifespan="auto",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,  # no header is trusted for where a request comes from
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_graceful_shutdown=_SECONDS_TO_ANSWER,
    )
    with _quiet():
        await _Server(config, asked_to_stop).serve(sockets=list(listeners))


class _Server(uvicorn.Server):
    """Waits for its stop instead of looking for it ten times a second."""

    def __init__(self, config: uvicorn.Config, asked_to_stop: asyncio.Event) -> None:
        super().__init__(config)
        self._asked_to_stop = asked_to_stop

    async def main_loop(self) -> None:
        """Return when it is time to stop."""
        await self._asked_to_stop.wait()


class _OfOtherThreads(logging.Filter):
    """Keeps uvicorn's chatter of this thread out: the program around the host may use uvicorn, and its levels are its own."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or record.thread != self._thread


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "uvicorn.access")]
    of_others = _OfOtherThreads()
    for logger in loggers:
        logger.addFilter(of_others)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(of_others)
