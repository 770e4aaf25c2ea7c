"""A port of the host: reserved before anything starts, open when it is served."""

import errno
import socket
import sys
from collections.abc import Sequence
from typing import Literal, Protocol

from connector_core.errors import AddressInUseError
from connector_core.ports.addresses import Address, SocketAddress, resolve
from connector_core.ports.forks import forget, keep_from_children

_OPTIONS = {"gRPC": "--port", "HTTP": "--http-port"}
_BACKLOG = 128

_TRIES = 20
"""Free ports that are tried until one is free at each of a name's addresses."""

_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""A name may stand for addresses that this machine has not: `localhost` is often `::1`, too, where IPv6 is off."""


class GrpcListener(Protocol):
    """The interface of the gRPC server that a port is given to."""

    def add_insecure_port(self, address: str) -> int:
        """Listen without TLS, and return the port; `RuntimeError` where it cannot be bound."""


class Port:
    """One port, with all the addresses that its host name stands for.

    A reserved port is bound and not listening: nobody else can take it, and clients that connect are refused at once instead of
    waiting for a host that is still starting. gRPC and HTTP differ only in what `give_to` and `listen` do to open it.

    Args:
        serves: what is served there.
        address: where; port 0 takes a free one.
        given: sockets that listen there already, in which callers may wait; they are this port's to close.
    """

    def __init__(self, serves: Literal["gRPC", "HTTP"], address: Address, given: Sequence[socket.socket] = ()) -> None:
        self._serves = serves
        self._asked = address
        self._sockets = list(given)
        self._bound = [Address.of(one) for one in given]
        if given:
            keep_from_children(self)

    @property
    def number(self) -> int:
        """The port's number: the requested one, until it is reserved."""
        return self._bound[0].port if self._bound else self._asked.port

    @property
    def address(self) -> Address:
        """The host as requested, and the port's number."""
        return Address(self._asked.host, self.number)

    @property
    def url(self) -> str:
        """The URL of HTTP here, without a path."""
        return f"http://{self.address}"

    @property
    def addresses(self) -> Sequence[Address]:
        """The numeric addresses at which it is reserved or open."""
        return tuple(self._bound)

    @property
    def is_local(self) -> bool:
        """True if only this machine can reach it."""
        return all(address.is_loopback for address in self._bound)

    def __str__(self) -> str:
        """Write the address, and what it stands for where that is not the same."""
        if self._asked.is_wildcard:
            families = " and ".join("IPv6" if ":" in address.host else "IPv4" for address in self._bound)
            return f"{self.address} (all addresses, {families})"
        numbers = [address.host for address in self._bound]
        return (
            f"{self.address} ({' and '.join(numbers)})"
            if numbers not in ([], [self._asked.host])
            else f"{self.address}"
        )

    def reserve(self) -> None:
        """Bind it, so that a taken port is found before anything else has started; nothing, where that is done.

        Raises:
            AddressInUseError: it is taken, or this machine has no such address.
        """
        if self._sockets:
            return
        try:
            self._sockets = self._bind()
        except OSError as error:
            raise self._refusal(error) from None
        self._bound = [Address.of(one) for one in self._sockets]
        keep_from_children(self)

    def listen(self) -> Sequence[socket.socket]:
        """Open the port, and return the sockets that listen, which stay this port's to close.

        Raises:
            AddressInUseError: it is taken, or this machine has no such address.
        """
        self.reserve()
        try:
            for bound in self._sockets:
                _allow_successors(bound)
                bound.listen(_BACKLOG)
        except OSError as error:
            self.close()
            raise self._refusal(error) from None
        return tuple(self._sockets)

    def give_to(self, server: GrpcListener) -> None:
        """Have a gRPC server open the port in this one's place: its core takes addresses, not sockets.

        Raises:
            AddressInUseError: it is taken, or this machine has no such address.
        """
        self.reserve()
        if sys.platform == "linux":
            # The server can bind beside a socket that does not listen: the port is not free for a moment.
            for bound in self._sockets:
                _allow_successors(bound)
        else:
            self._close_sockets()
        try:
            # Core's wildcard is one socket for both families.
            for address in self._bound[:1] if self._asked.is_wildcard else self._bound:
                server.add_insecure_port(str(address))
        except RuntimeError as error:
            raise self._refusal(error) from None
        finally:
            self._close_sockets()

    def close(self) -> None:
        """Give up the port, as far as it is not a server's."""
        forget(self)
        self._close_sockets()

    def _close_sockets(self) -> None:
        for bound in self._sockets:
            bound.close()
        self._sockets = []

    def _bind(self) -> list[socket.socket]:
        for tries_left in reversed(range(_TRIES)):
            bound: list[socket.socket] = []
            try:
                self._bind_each(bound)
            except OSError as error:
                for one in bound:
                    one.close()
                # A port that is free at the first address need not be free at the second.
                if self._asked.port or error.errno != errno.EADDRINUSE or not tries_left:
                    raise
            else:
                return bound
        raise AssertionError("the last try raises")

    def _bind_each(self, bound: list[socket.socket]) -> None:
        missing: OSError | None = None
        for family, at in resolve(self._asked):
            port = bound[0].getsockname()[1] if bound else at[1]
            try:
                bound.append(_bind((family, (at[0], port, *at[2:]))))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
        if not bound and missing is not None:
            raise missing

    def _refusal(self, error: Exception) -> AddressInUseError:
        option = _OPTIONS[self._serves]
        subject = f"the {self._serves} port {self._asked}"
        if isinstance(error, OSError) and error.errno != errno.EADDRINUSE:
            return AddressInUseError(f"{subject} cannot be bound: choose with {option} and --host ({error})")
        return AddressInUseError(f"{subject} is taken by another process: stop it, or choose another with {option}")


def _bind(where: SocketAddress) -> socket.socket:
    """Return a socket that is bound, alone if possible.

    Without SO_REUSEADDR not even another host that is starting can bind the port. That fails while connections of a
    former process linger (TIME_WAIT); then two hosts that start at the same time find out when the second one listens.
    """
    try:
        return _bind_with(where, reuse=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    return _bind_with(where, reuse=True)


def _bind_with(where: SocketAddress, *, reuse: bool) -> socket.socket:
    family, at = where
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
        bound.bind(at)
    except OSError:
        bound.close()
        raise
    return bound


def _allow_successors(bound: socket.socket) -> None:
    """Let others bind while this one does not listen, and while its connections linger after its end."""
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
