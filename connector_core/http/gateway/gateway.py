"""Requests of the derived routes: checked, turned into calls of the servicers, and answered."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, TypeVar

from grpc import StatusCode
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from connector_core.http.gateway.guard import Guard, check_content_type
from connector_core.http.gateway.refusals import Refused, encoded, http_status, malformed, status_json
from connector_core.http.gateway.routes import Route, find
from connector_core.http.gateway.transcoding import SMALL_BYTES, answer_json, stream_request, unary_request
from connector_core.http.servicer_calls import CallFailed, ServedCalls
from connector_core.settings import Settings

T = TypeVar("T")

TIMEOUT_HEADER = "grpc-timeout"
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_JSON = b"application/json"
_JSON_LINES = b"application/x-ndjson"
_OFF = (
    "tasks are not served over HTTP here: start the host with --gateway tasks and a --gateway-token-file, "
    "or call it over gRPC"
)


class Gateway:
    """An ASGI application.

    Args:
        routes: what the protocol's options name.
        calls: the servicers.
        guard: checks who calls the routes that are about tasks.
        settings: what is served.
    """

    def __init__(self, routes: Sequence[Route], calls: ServedCalls, guard: Guard, settings: Settings) -> None:
        self._routes = routes
        self._calls = calls
        self._guard = guard
        self._with_tasks = settings.gateway == "tasks"
        self._limit = min(
            (settings.max_json_bytes, "max_json_bytes"), (settings.max_request_bytes, "max_request_bytes")
        )
        self._large = ThreadPoolExecutor(1, "large JSON")

    @property
    def served(self) -> list[Route]:
        """The routes that are on."""
        return [route for route in self._routes if self._with_tasks or not route.is_about_tasks]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; a client that goes away cancels its call, as over gRPC."""
        try:
            headers = Headers(scope=scope)
            route, request = await self._read(scope, headers, receive)
            answer = self._answer_stream if route.method.server_streaming else self._answer
            await _unless_gone(receive, answer(route, request, headers, send))
        except CallFailed as failure:
            await _send_failure(send, failure)
        except _GoneError:
            return

    async def _read(self, scope: Scope, headers: Headers, receive: Receive) -> tuple[Route, Any]:
        route, bound = find(self._routes, scope["method"], scope["raw_path"])
        if route.is_about_tasks:
            if not self._with_tasks:
                raise Refused(404, StatusCode.NOT_FOUND, _OFF)
            self._guard.check(headers, scope["server"][0])
        _timeout(headers)  # refused before the body is waited for
        body = b""
        if route.body:
            check_content_type(headers, is_stream=route.method.client_streaming)
            body = await _read_body(headers, receive, *self._limit)
        if route.method.client_streaming:
            return route, await self._aside(len(body), stream_request, route, body)
        return route, await self._aside(len(body), unary_request, route, bound, scope["query_string"], body)

    async def _aside(self, size: int, work: Callable[..., T], *arguments: Any) -> T:
        """Return what a function returns; on a large message it works in a thread, one at a time, as that takes seconds."""
        if size <= SMALL_BYTES:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._large, work, *arguments)

    async def _json(self, route: Route, raw: bytes) -> bytes:
        return await self._aside(len(raw), _encoded_answer, route, raw)

    async def _answer(self, route: Route, request: bytes, headers: Headers, send: Send) -> None:
        raw, trailing = await self._calls.unary(route.method, request, _timeout(headers), headers)
        told = [(name.encode(), value.encode("latin-1")) for name, value in trailing.items()]
        await _send(send, 200, await self._json(route, raw), told)

    async def _answer_stream(self, route: Route, request: bytes | list[bytes], headers: Headers, send: Send) -> None:
        """Send a line for each message: `{"result": MESSAGE}`, and where it ends otherwise than OK, `{"error": STATUS}`.

        The first one decides on the HTTP status.
        """
        async with aclosing(self._calls.stream(route.method, request, _timeout(headers), headers)) as answers:
            line = await self._next_line(route, answers)
            await send(_start(200, _JSON_LINES))
            while line:
                await send({"type": "http.response.body", "body": line, "more_body": True})
                try:
                    line = await self._next_line(route, answers)
                except CallFailed as failure:
                    error = encoded({"error": status_json(failure)}) + b"\n"
                    await send({"type": "http.response.body", "body": error, "more_body": True})
                    break
            await send({"type": "http.response.body", "body": b""})

    async def _next_line(self, route: Route, answers: AsyncIterator[bytes]) -> bytes:
        """Return the next line, nothing at the end."""
        raw = await anext(answers, None)
        return b"" if raw is None else b'{"result":' + await self._json(route, raw) + b"}\n"


class _GoneError(Exception):
    """The client has gone before it had sent its request."""


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    answering = asyncio.create_task(work)
    gone = asyncio.create_task(_until_gone(receive))
    try:
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        answering.cancel()
        gone.cancel()
        await asyncio.gather(answering, gone, return_exceptions=True)
    if not answering.cancelled():
        answering.result()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read_body(headers: Headers, receive: Receive, limit: int, setting: str) -> bytes:
    refusal = Refused(
        413, StatusCode.RESOURCE_EXHAUSTED, f"the body is larger than {limit:,} bytes (setting: {setting})"
    )
    if int(headers.get("content-length", "0")) > limit:
        raise refusal
    body = bytearray()
    is_complete = False
    while not is_complete:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        body += message.get("body", b"")
        if len(body) > limit:
            raise refusal
        is_complete = not message.get("more_body", False)
    return bytes(body)


def _timeout(headers: Headers) -> float | None:
    text = headers.get(TIMEOUT_HEADER)
    if text is None:
        return None
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise malformed(f"Grpc-Timeout is {text[:50]!r}; write up to eight digits and one of H, M, S, m, u, n: 5S")
    return int(found[1]) * _SECONDS[found[2]]


def _encoded_answer(route: Route, raw: bytes) -> bytes:
    return encoded(answer_json(route.method.output_type, raw))


def _start(status: int, content_type: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> Message:
    common = [(b"content-type", content_type), (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
    return {"type": "http.response.start", "status": status, "headers": [*common, *headers]}


async def _send(send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send(_start(status, _JSON, [length, *headers]))
    await send({"type": "http.response.body", "body": body})


async def _send_failure(send: Send, failure: CallFailed) -> None:
    more = failure.headers if isinstance(failure, Refused) else {}
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in more.items()]
    await _send(send, http_status(failure), encoded(status_json(failure)), headers)
