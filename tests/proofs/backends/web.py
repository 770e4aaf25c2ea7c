"""An HTTP application that listens on loopback and keeps what it was asked."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from connector_core.http.listening import App, HttpServer
from connector_core.ports import Address, Port

_KEPT_HEADERS = ("accept", "authorization", "content-type", "openai-organization", "x-team")


@dataclass(frozen=True)
class Asked:
    """One request, without what differs from one connection to the next."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Log:
    """The requests of which there was word, in their order."""

    entries: list[Asked] = field(default_factory=list)

    async def keep(self, request: Request) -> Any:
        """Enter a request; return its body, read as JSON where it has one."""
        body = await request.body()
        read = json.loads(body) if body else None
        url = f"{request.url.path}?{request.url.query}"
        headers = {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
        self.entries.append(Asked(request.method, url, headers, read))
        return read

    def take(self) -> list[Asked]:
        """Return the entries, and begin anew."""
        taken, self.entries = self.entries, []
        return taken


@contextmanager
def listening(app: App) -> Iterator[str]:
    """Serve an application in a thread until the block ends; gives its address as `http://...`."""
    port = Port("HTTP", Address("127.0.0.1", 0))
    server = HttpServer(port)
    server.start(lambda: app, asyncio.new_event_loop)
    try:
        yield port.url
    finally:
        server.close(10)
