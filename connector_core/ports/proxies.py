"""Proxies that gRPC's channels take from the environment: none for this machine, and named where one is taken."""

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXEMPT_VARIABLES = ("no_grpc_proxy", "no_proxy")
"""In the order in which gRPC's core looks for them; the first that is there counts, an empty one as well."""

_ENDPOINT = re.compile(
    r"(?:(?:dns|ipv4|ipv6|xds):(?://[^/]*/)?)?(?:\[(?P<address>[^\]]*)\]|(?P<name>[^:/]+))(?::\d+)?", re.IGNORECASE
)

NO_PROXY = ("grpc.enable_http_proxy", 0)
"""The argument of a channel to this machine: no proxy could reach what listens on its loopback."""


def proxy_options(endpoint: str) -> list[tuple[str, int]]:
    """Return the arguments of a channel to an endpoint that keep one to this machine past any proxy."""
    return [NO_PROXY] if _is_here(endpoint) else []


def proxy_of(endpoint: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the proxy that gRPC takes to an endpoint, without its password, and the variable that names it."""
    if _is_here(endpoint):
        return None
    host = _host(endpoint)
    exempt = next((environ[name] for name in _EXEMPT_VARIABLES if name in environ), "")
    if any(host.endswith(suffix) for suffix in map(str.strip, exempt.split(",")) if suffix):
        return None
    name = next((name for name in _PROXY_VARIABLES if name in environ), "")
    return (_without_user(environ[name]), name) if environ.get(name) else None


def _is_here(endpoint: str) -> bool:
    host = _host(endpoint)
    if endpoint.startswith("unix") or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(endpoint: str) -> str:
    found = _ENDPOINT.fullmatch(endpoint)
    return (found["address"] or found["name"] or "").lower().rstrip(".") if found else ""


def _without_user(proxy: str) -> str:
    try:
        parts = urlsplit(proxy)
    except ValueError:
        return "a proxy whose address cannot be read"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
