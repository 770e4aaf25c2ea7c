"""Access to the console: open to whoever reaches the port, but to no web page of somebody else's.

A page that has its own name point to this machine (DNS rebinding) calls the host by that name. So a name has to be one that
the host knows; an address cannot be made to point elsewhere. Nobody is given leave to read from another origin (there is
no CORS) or to frame the page.
"""

import ipaddress

from starlette.datastructures import Headers

from connector_core.http.gateway.guard import ALWAYS_ALLOWED, host_name

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_OWN_PAGE = frozenset({"same-origin", "none"})


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
