"""Access to the routes that run tasks over HTTP: any web page can send requests to a port of the machine that shows it.

Such a page neither knows the token, nor may set an `Authorization` header or this content type without leave that is never
given (there is no CORS here), nor can it keep its own name out of `Host` (which undoes DNS rebinding) or `Origin`.
"""

import hmac
import re

from grpc import StatusCode
from starlette.datastructures import Headers

from connector_core.http.gateway.refusals import Refused
from connector_core.settings import Settings

ALWAYS_ALLOWED = frozenset({"localhost", "127.0.0.1", "::1"})
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - names to refuse, not to listen on
_HOST = re.compile(
    r"\[(?P<address>[0-9a-f:.]+)\](:\d+)?|(?P<name>[\w.-]+)(:\d+)?|(?P<bare>[0-9a-f]*:[0-9a-f:.]*:[0-9a-f.]*)",
    re.IGNORECASE,
)
UNARY_TYPES = ("application/json",)
STREAM_TYPES = ("application/json", "application/x-ndjson")


class Guard:
    """Checks of the requests for routes that are about tasks.

    Args:
        settings: the names by which this host may be called.
        tokens: what a caller has to bring, one of them.
    """

    def __init__(self, settings: Settings, tokens: tuple[bytes, ...]) -> None:
        self._hosts = ALWAYS_ALLOWED | (names_of(settings) - _WILDCARDS)
        self._tokens = tokens

    def check(self, headers: Headers, called_address: str) -> None:
        """Let a request pass.

        Args:
            headers: the request's.
            called_address: the address of this machine that the connection was made to.

        Raises:
            Refused: it comes from where it must not, or without a token.
        """
        host = headers.get("host", "")
        if host_name(host) not in self._hosts | {called_address}:
            raise Refused(
                403,
                StatusCode.PERMISSION_DENIED,
                f"the Host header {host!r} is not one of this gateway (setting: gateway_hosts)",
            )
        for origin in headers.getlist("origin"):
            if origin.partition("://")[2] != host:
                raise Refused(403, StatusCode.PERMISSION_DENIED, f"pages of {origin!r} may not call this gateway")
        if not self._has_token(headers):
            raise Refused(
                401,
                StatusCode.UNAUTHENTICATED,
                "send a token of the host's gateway_token_file as `Authorization: Bearer TOKEN`",
                {"WWW-Authenticate": "Bearer"},
            )

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        brought = token.strip().encode("latin-1")
        # All are compared, each in constant time: how long it takes says nothing about how near a guess is.
        matches = [hmac.compare_digest(brought, known) for known in self._tokens]
        return scheme.lower() == "bearer" and any(matches)


def check_content_type(headers: Headers, *, is_stream: bool) -> None:
    """Let a request with a body pass.

    Raises:
        Refused: the body does not say that it is JSON; web pages may send other kinds without asking.
    """
    given = headers.get("content-type", "")
    kind, _, parameters = given.partition(";")
    allowed = STREAM_TYPES if is_stream else UNARY_TYPES
    charset = parameters.replace(" ", "").lower()
    if kind.strip().lower() not in allowed or charset not in {"", "charset=utf-8"}:
        raise Refused(
            415, StatusCode.INVALID_ARGUMENT, f"the body's Content-Type is {given!r}; send {' or '.join(allowed)}"
        )


def names_of(settings: Settings) -> frozenset[str]:
    """Return the names and addresses by which callers may call this host, as the settings have them."""
    return frozenset(map(host_name, (settings.host, *settings.gateway_hosts))) - {""}


def host_name(host: str) -> str:
    """Return the name or address in a `Host` header or a setting, without port and brackets; nothing if it has none."""
    found = _HOST.fullmatch(host)
    return (found["address"] or found["name"] or found["bare"]).lower() if found else ""
