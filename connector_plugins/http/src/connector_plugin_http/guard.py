"""A guard on addresses: a name is resolved once, its addresses are checked, and those are connected to.

Checking a name and then handing the name to a client would let DNS answer twice; a URL's spelling (octal, decimal, mapped
into IPv6) proves nothing either. So what is checked is the very address that is connected to.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpcore

from connector_core import PermissionDeniedError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

# Prefixes in which an IPv6 address stands for an IPv4 one, by the bit at which that begins.
_EMBEDDING = {
    ipaddress.IPv6Network("::ffff:0:0/96"): 96,
    ipaddress.IPv6Network("::/96"): 96,
    ipaddress.IPv6Network("64:ff9b::/96"): 96,
    ipaddress.IPv6Network("64:ff9b:1::/48"): 96,
    ipaddress.IPv6Network("2002::/16"): 16,
}
_TEREDO = ipaddress.IPv6Network("2001::/32")


class ForbiddenAddressError(PermissionDeniedError):
    """An endpoint's name leads to an address that the operator has not allowed."""


def plain(text: str) -> Address:
    """Return an address; one that stands for an IPv4 address in the form of an IPv6 one is the IPv4 address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and int(address) > 1:
        for network, first in _EMBEDDING.items():
            if address in network:
                return ipaddress.IPv4Address(int(address) >> (96 - first) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Return whether an address is one of the internet's: not private, local, link-local, shared, reserved or for many."""
    if isinstance(address, ipaddress.IPv6Address) and address in _TEREDO:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


class Guard(httpcore.AsyncNetworkBackend):
    """Opens connections to addresses that are public or in one of the operator's networks, and to no others.

    Args:
        name: the endpoint, for messages.
        networks: networks that are allowed although they are not public.
        resolve: what resolves names; the system unless given.
    """

    def __init__(self, name: str, networks: Iterable[Network] = (), resolve: Resolver | None = None) -> None:
        self._name = name
        self._networks = tuple(networks)
        self._resolve = resolve or resolve_by_system
        self._backend = httpcore.AnyIOBackend()

    def check(self, host: str, text: str) -> str:
        """Return the address if it may be connected to.

        Raises:
            ForbiddenAddressError: it may not.
        """
        address = plain(text)
        if is_public(address) or any(address.version == one.version and address in one for one in self._networks):
            return text
        raise ForbiddenAddressError(
            f"endpoint {self._name}: {host} is at {address}, which is not a public address; the operator allows it by "
            f'`private_networks = ["{address}"]` in [plugins.http.endpoints.{self._name}]',
            error_code="ForbiddenAddress",
        )

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve a name, check all its addresses, and connect to the first that answers.

        Raises:
            ForbiddenAddressError: one of the addresses may not be connected to.
            httpcore.ConnectError: the name is unknown, or no address answers.
        """
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"the name {host} cannot be resolved: {error}") from None
        # One that is not allowed among others is refused as a whole: which one is asked must not be a matter of luck.
        checked = [self.check(host, address) for address in addresses]
        failure: Exception = httpcore.ConnectError(f"the name {host} has no address")
        for address in checked:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Sleep, as the pool asks for."""
        await self._backend.sleep(seconds)


async def resolve_by_system(host: str, port: int) -> list[str]:
    """Return a name's addresses, as the system resolves them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
