"""Addresses: what a host name comes to on this machine, and how an address is written."""

import ipaddress
import socket
from collections.abc import Sequence
from typing import NamedTuple

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound

SocketAddress = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]
"""The parameters of a bound socket."""


class Address(NamedTuple):
    """A host, which is a name or an address of either family, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, bound: socket.socket) -> "Address":
        """Return the address that a socket is bound to."""
        host, port, *_ = bound.getsockname()
        return cls(host, port)

    @property
    def is_wildcard(self) -> bool:
        """True if it stands for all addresses of this machine."""
        return self.host in _WILDCARDS

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def resolve(address: Address) -> Sequence[SocketAddress]:
    """Return all that an address comes to here, each once, in the resolver's order.

    A wildcard of either family stands for both, as in gRPC's core, which knows no other kind. They are two sockets, so that
    HTTP's callers have IPv4 addresses, not ones of IPv6 that IPv4's are written into.

    Raises:
        OSError: it comes to nothing.
    """
    if address.is_wildcard:
        return [(socket.AF_INET, (_WILDCARDS[0], address.port)), (socket.AF_INET6, (_WILDCARDS[1], address.port))]
    # As bytes: a text is looked at by a codec that takes longer to import than this file, and raises what is not an OSError.
    name = address.host.encode() if address.host.isascii() else address.host
    found = socket.getaddrinfo(name, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, at) for family, _, _, _, at in found))  # type: ignore[misc] # of these two families
