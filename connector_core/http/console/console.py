"""The console's routes: the page at `/`, and its events, for every client of the port except web pages of other origins.

A page that has its own name point to this machine (DNS rebinding) calls the host by that name. So a name has to be one that
the host knows; an address cannot be made to point elsewhere. Nobody is given leave to read from another origin (there is
no CORS) or to frame the page.
"""

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING

from grpc import StatusCode
from starlette.datastructures import Headers, QueryParams
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from connector_core.http.console.rows import View, view_of
from connector_core.http.face import ConsoleSource, HttpFace
from connector_core.http.gateway.guard import ALWAYS_ALLOWED, host_name, names_of
from connector_core.http.servicer_calls import CallFailed
from connector_core.observing.recent_calls import ANY, CALLERS, FAILED, OK, TASK_OPERATIONS, Filter
from connector_core.readiness import HostState

if TYPE_CHECKING:
    from connector_core.http.console.page import Page

MAX_STREAMS = 32
"""Pages that are kept up to date at once; further ones are asked to try again, and show the state of their loading."""

AT_MOST_SHOWN = 100
"""Calls on the page; the filter finds others among those that are kept."""

_PATIENCE = 1.0
_TURNS_BETWEEN_BEATS = 5
_LONGEST_TEXT = 200
_CODES = [code.name for code in StatusCode]


HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_OWN_PAGE = frozenset({"same-origin", "none"})


def make_console(face: HttpFace) -> "Console | None":
    """Put the console together, where there is one."""
    return None if face.console is None else Console(face, face.console)


class Console:
    """Serves the page.

    Args:
        face: the HTTP app's.
        source: what is shown.
    """

    def __init__(self, face: HttpFace, source: ConsoleSource) -> None:
        self._face = face
        self._source = source
        self._observer = source.observer
        self._names = names_of(face.settings)
        self._streams = 0
        self._drawing = asyncio.Lock()
        self._drawn: tuple[int, View, dict[str, str]] | None = None

    @property
    def routes(self) -> list[BaseRoute]:
        """The paths that are answered."""
        return [
            Route("/", self._show, middleware=[Middleware(GZipMiddleware)]),
            Route("/console/events", _Asgi(self._send_events), methods=["GET"]),
        ]

    @cached_property
    def _page(self) -> "Page":
        """Made for the first who looks, as what draws it takes memory: few hosts are looked at."""
        from connector_core.http.console.page import Page

        return Page(_CODES, self._source.scrub)

    async def _show(self, request: Request) -> Response:
        if reason := reason_to_refuse_page(request.headers, self._names):
            return PlainTextResponse(reason, 403, HEADERS)
        self._observer.look()
        wanted = _filter(request.query_params)
        view, parts = await self._shared()
        html = self._page.whole(view, {**parts, "calls": self._calls(wanted)}, wanted)
        security = {"Content-Security-Policy": policy(self._page.script_hash, self._page.style_hash)}
        return HTMLResponse(html, headers={**HEADERS, **security})

    async def _send_events(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if reason := reason_to_refuse_events(request.headers, self._names):
            await PlainTextResponse(reason, 403, HEADERS)(scope, receive, send)
            return
        if self._streams >= MAX_STREAMS:
            busy = f"{MAX_STREAMS} pages are kept up to date already; close one, or try again.\n"
            await PlainTextResponse(busy, 503, {**HEADERS, "Retry-After": "10"})(scope, receive, send)
            return
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        events = StreamingResponse(self._events(_filter(request.query_params)), 200, headers, "text/event-stream")
        self._streams += 1
        try:
            await events(scope, receive, send)
        finally:
            self._streams -= 1

    async def _events(self, wanted: Filter) -> AsyncIterator[str]:
        """Send the parts, and from then on those that have changed, until the port closes."""
        yield "retry: 1000\n\n"
        self._observer.look()
        sent: dict[str, str] = {}
        quiet = 0
        goes_on = not self._face.stopping.is_set()
        while goes_on:
            _view, shared = await self._shared()
            parts = {**shared, "calls": self._calls(wanted)}
            news = {name: html for name, html in parts.items() if sent.get(name) != html}
            sent, quiet = parts, 0 if news else quiet + 1
            if news or quiet % _TURNS_BETWEEN_BEATS == 0:
                yield _event("parts", {"build": self._page.build, "parts": news})
            goes_on = await self._observer.next_turn()
        yield _event("end", {})

    async def _shared(self) -> tuple[View, dict[str, str]]:
        """Return what is the same for all who look, drawn once a turn."""
        async with self._drawing:
            if self._drawn is None or self._drawn[0] != self._observer.turns:
                turn = self._observer.turns
                view = view_of(self._source, self._face.settings, self._face.metrics, await self._state())
                self._drawn = (turn, view, self._page.parts(view))
            return self._drawn[1:]

    async def _state(self) -> HostState | None:
        try:
            return await self._face.calls.ask(self._face.state, _PATIENCE)
        except (TimeoutError, CallFailed):
            return None

    def _calls(self, wanted: Filter) -> str:
        recent = self._source.recent
        calls, found = recent.newest(wanted, AT_MOST_SHOWN)
        return self._page.calls(calls, found, len(recent), wanted)


class _Asgi:
    """A method as an ASGI application: Starlette takes plain functions for ones that return a response."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _filter(query: QueryParams) -> Filter:
    """Read a filter; what nobody can choose on the page chooses nothing."""
    operation, status = query.get("operation", ANY), query.get("status", ANY)
    return Filter(
        text=query.get("q", "")[:_LONGEST_TEXT],
        operation=operation if operation in TASK_OPERATIONS else ANY,
        status=status if status in {OK, FAILED, CALLERS, *_CODES} else ANY,
    )


def _event(name: str, value: object) -> str:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n"


def policy(script_hash: str, style_hash: str) -> str:
    """Return the page's Content-Security-Policy: its own script, style and events, and nothing else from anywhere."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{script_hash}'",
            f"style-src '{style_hash}'",
            "connect-src 'self'",
            "img-src data:",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def reason_to_refuse_page(headers: Headers, hosts: frozenset[str]) -> str | None:
    """Say why a request does not get the page, if so."""
    host = headers.get("host", "")
    name = host_name(host)
    if name in ALWAYS_ALLOWED or name in hosts or _is_address(name):
        return None
    return (
        f"This host does not know itself as {host[:200]!r}, so its console is not shown: a web page could pretend that. "
        "Allow the name with the setting gateway_hosts (--gateway-hosts NAME).\n"
    )


def reason_to_refuse_events(headers: Headers, hosts: frozenset[str]) -> str | None:
    """Say why a request does not get the events, if so: as for the page, and only the page itself asks for them."""
    if headers.get("sec-fetch-site", "none") not in _OWN_PAGE:
        return "Only the console's own page gets its events.\n"
    return reason_to_refuse_page(headers, hosts)


def _is_address(name: str) -> bool:
    try:
        return not ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False
