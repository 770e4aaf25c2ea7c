"""The HTTP client: the only module that sends anything, and only to what an endpoint's URL and networks allow."""

import asyncio
import contextlib
import ipaddress
import json
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpcore
import httpx
import msgspec

from connector_core import (
    BackendUnavailableError,
    InvalidInputError,
    PermissionDeniedError,
    RateLimitedError,
    get_secret,
)
from connector_plugin_http.config import Endpoint, SecretRef, origin_of
from connector_plugin_http.failures import retry_after
from connector_plugin_http.guard import Guard, Resolver
from connector_plugin_http.picking import Answer

MAX_REQUEST_BYTES = 1024**2
_MOST_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class NotSentError(BackendUnavailableError):
    """The request did not reach the backend, so that nothing can have come of it."""


class Request(msgspec.Struct, frozen=True):
    """A request to send: a path below the endpoint's URL (or `target`, a path and query of its host), and the rest."""

    method: str
    path: str = ""
    target: str = ""
    query: Mapping[str, str] = msgspec.field(default_factory=dict)
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: Any = None
    timeout: float | None = None


class Client:
    """Sends requests to one endpoint.

    Args:
        name: the endpoint's name.
        endpoint: the operator's settings of it.
        resolve: what resolves names; the system unless given.
    """

    def __init__(self, name: str, endpoint: Endpoint, resolve: Resolver | None = None) -> None:
        self.name = name
        self._endpoint = endpoint
        self._resolve = resolve
        self._http: httpx.AsyncClient | None = None
        self._not_before = 0.0

    async def close(self) -> None:
        """Close all connections."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def send(self, request: Request) -> Answer:
        """Send a request and return its answer, whatever its status.

        Redirects are followed as long as they stay at the endpoint.

        Raises:
            InvalidInputError: the request is not one that can be sent.
            PermissionDeniedError: it, or where it is redirected to, is not the endpoint's.
            RateLimitedError: the backend asked for a pause that is not over; nothing was sent.
            BackendUnavailableError: there is no whole answer; `NotSentError` where nothing can have come of it.
        """
        left = self._not_before - time.monotonic()
        if left > 0:
            raise RateLimitedError(
                f"endpoint {self.name} asked for a pause; {left:.0f} s of it are left", retry_after=left
            )
        content = _content(request.body)
        target = request.target or self._endpoint.base_path + request.path
        method = request.method
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await self._once(method, self._url(target, request.query), request, content)
            if answer.status not in _REDIRECTS or (answer.status < 307 and method not in {"GET", "HEAD"}):
                self._note_pause(answer)
                return answer
            target = self.target_of(answer)
            request = msgspec.structs.replace(request, query={})
        raise BackendUnavailableError(f"endpoint {self.name} redirected more than {_MOST_REDIRECTS} times")

    def target_of(self, answer: Answer) -> str:
        """Return the path and query that an answer's `Location` leads to.

        Raises:
            PermissionDeniedError: it is not at this endpoint.
            BackendUnavailableError: there is none.
        """
        location = answer.headers.get("location", "")
        if not location or not location.isprintable():
            raise BackendUnavailableError(f"endpoint {self.name} answered {answer.status} without a usable Location")
        scheme, host, port = self._endpoint.origin
        authority = f"[{host}]" if ":" in host else host
        url = urljoin(f"{scheme}://{authority}:{port}{answer.target}", location)
        return self.own_target(url, "it answers with a redirect or Location to")

    def own_target(self, url: str, what: str) -> str:
        """Return the path and query of a URL that is at this endpoint.

        Raises:
            PermissionDeniedError: it is not.
        """
        try:
            parts, origin = urlsplit(url), origin_of(url)
        except ValueError:  # a port that is not a number, brackets that do not match
            raise InvalidInputError(f"{url[:200]!r} is not a URL") from None
        is_here = origin == self._endpoint.origin and not parts.username and not parts.password
        if not is_here or "\\" in url or not url.isprintable() or not _is_below(parts.path, self._endpoint.base_path):
            raise PermissionDeniedError(
                f"endpoint {self.name}: {what} {url[:200]!r}, which is not below {self._endpoint.url}",
                error_code="NotAtEndpoint",
            )
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def _url(self, target: str, query: Mapping[str, str]) -> httpx.URL:
        path = target.partition("?")[0]
        if not _is_below(path, self._endpoint.base_path):
            raise InvalidInputError(f"{path[:200]!r} is not a path below {self._endpoint.url}")
        scheme, host, port = self._endpoint.origin
        try:
            url = httpx.URL(scheme=scheme, host=host, port=port, raw_path=_quoted(target or "/"))
        except httpx.InvalidURL as error:  # a host in octal, say, that the system might still make an address of
            raise InvalidInputError(f"endpoint {self.name}: {error}") from None
        return url.copy_merge_params(dict(query)) if query else url

    async def _once(self, method: str, url: httpx.URL, request: Request, content: bytes | None) -> Answer:
        http = self._opened()
        headers = httpx.Headers({"Accept": "application/json, */*;q=0.5"})
        if content is not None:
            headers["Content-Type"] = "application/json"
        headers.update(dict(request.headers))
        headers.update(self._own_headers())
        headers["Accept-Encoding"] = "identity"  # an answer is bounded by what comes, not by what it would unpack to
        seconds = min(request.timeout or self._endpoint.timeout, self._endpoint.timeout)
        try:
            async with asyncio.timeout(seconds), _said(self.name):
                sent = http.build_request(method, url, headers=headers, content=content)
                answer = await http.send(sent, stream=True)
                try:
                    return await self._read(answer)
                finally:
                    await answer.aclose()
        except TimeoutError:
            raise BackendUnavailableError(f"endpoint {self.name} did not answer within {seconds:g} s") from None

    async def _read(self, answer: httpx.Response) -> Answer:
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise BackendUnavailableError(
                f"endpoint {self.name} answered in {answer.headers['content-encoding']!r}, which was not asked for"
            )
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > self._endpoint.max_answer_bytes:
                raise BackendUnavailableError(
                    f"endpoint {self.name} answers more than {self._endpoint.max_answer_bytes} bytes; the operator may "
                    f"raise `max_answer_bytes` in [plugins.http.endpoints.{self.name}]",
                    error_code="AnswerTooLarge",
                )
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status_code, headers, bytes(body), answer.request.url.raw_path.decode("ascii"))

    def _own_headers(self) -> dict[str, str]:
        """Look the secrets up, each time: they may be rotated."""
        headers = {
            name: value if isinstance(value, str) else value.prefix + _secret(value)
            for name, value in self._endpoint.headers.items()
        }
        if basic := self._endpoint.basic:
            user = f"{basic.user}:{get_secret(basic.secret, basic.group).get_secret_value()}"
            headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
        return headers

    def _note_pause(self, answer: Answer) -> None:
        if answer.status in {429, 503} and (pause := retry_after(answer)):
            self._not_before = time.monotonic() + pause

    def _opened(self) -> httpx.AsyncClient:
        if self._http is None:
            networks = [ipaddress.ip_network(text) for text in self._endpoint.private_networks]
            pool = httpcore.AsyncConnectionPool(
                ssl_context=_ssl_context(self._endpoint),
                max_connections=self._endpoint.max_connections,
                keepalive_expiry=30.0,
                network_backend=Guard(self.name, networks, self._resolve),
            )
            self._http = httpx.AsyncClient(
                transport=_PoolTransport(pool),
                timeout=httpx.Timeout(self._endpoint.timeout, connect=min(5.0, self._endpoint.timeout)),
                trust_env=False,  # a proxy of the environment would resolve names itself, past the guard
                follow_redirects=False,
            )
        return self._http


class _PoolTransport(httpx.AsyncBaseTransport):
    """The bridge between httpx and a pool whose connections the guard opens."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        assert isinstance(request.stream, httpx.AsyncByteStream)  # noqa: S101 - what httpx's own transport relies on
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                request.method, url, headers=request.headers.raw, content=request.stream, extensions=request.extensions
            )
        )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_PoolStream(answer), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _PoolStream(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._answer.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._answer.aclose()


@contextlib.asynccontextmanager
async def _said(name: str) -> AsyncIterator[None]:
    """Turn the client's exceptions into errors of the host's."""
    try:
        yield
    except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as error:
        raise NotSentError(f"endpoint {name} cannot be reached: {_words(error)}") from None
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise BackendUnavailableError(f"endpoint {name} gave no whole answer: {_words(error)}") from None
    except (httpx.InvalidURL, UnicodeEncodeError, httpcore.UnsupportedProtocol) as error:
        raise InvalidInputError(f"endpoint {name}: the request cannot be sent: {error}") from None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _secret(reference: SecretRef) -> str:
    return get_secret(reference.secret, reference.group).get_secret_value()


def _ssl_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    if endpoint.origin[0] != "https":
        return None
    if endpoint.ca_file is not None:
        return ssl.create_default_context(cafile=str(endpoint.ca_file))
    return httpx.create_ssl_context(trust_env=False)


def _content(body: Any) -> bytes | None:
    if body is None:
        return None
    try:
        content = json.dumps(body, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInputError(f"the body cannot be written as JSON: {error}") from None
    if len(content) > MAX_REQUEST_BYTES:
        raise InvalidInputError(f"the body is {len(content)} bytes; a request carries {MAX_REQUEST_BYTES} at most")
    return content


def _quoted(target: str) -> bytes:
    """Encode what cannot stand in a URL and leave what is encoded already."""
    return quote(target, safe="/%?:@!$&'()*+,;=~[]-._").encode()


def _is_below(path: str, base: str) -> bool:
    """Return whether a path is the base or below it, without `..` in whatever spelling."""
    lowered = path.lower().replace("%2e", ".")
    if any(segment in {".", ".."} for segment in lowered.replace("\\", "/").replace("%5c", "/").split("/")):
        return False
    return not path.startswith("//") and (path == base or path.startswith(f"{base}/"))
