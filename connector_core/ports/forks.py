"""Forked children of this process: they keep none of its ports' sockets.

Plugin code forks, by itself or in a library. A child that lives on would keep the ports taken when the host has stopped, and
connections open that the host has closed.
"""

import os
import socket
import weakref
from pathlib import Path
from typing import Protocol

_DESCRIPTORS = Path("/dev/fd")


class Numbered(Protocol):
    """A port."""

    @property
    def number(self) -> int:
        """Its number."""


class _Kept:
    """The ports that are open: module state, since Python's hooks of forks are the process', and cannot be taken back."""

    def __init__(self) -> None:
        self._ports = weakref.WeakSet[Numbered]()
        self._is_hooked = False

    def add(self, port: Numbered) -> None:
        self._ports.add(port)
        if not self._is_hooked:
            self._is_hooked = True
            os.register_at_fork(after_in_child=self._close_all)

    def discard(self, port: Numbered) -> None:
        self._ports.discard(port)

    def _close_all(self) -> None:
        numbers = {port.number for port in self._ports}
        if not numbers:
            return
        null = os.open(os.devnull, os.O_RDWR)
        for entry in list(_DESCRIPTORS.iterdir()):
            descriptor = int(entry.name)
            if _local_port(descriptor) in numbers:
                # Not closed: objects that know it by its number would close what got that number next.
                os.dup2(null, descriptor, inheritable=False)
        os.close(null)


_KEPT = _Kept()


def keep_from_children(port: Numbered) -> None:
    """Have children that are forked from now on close all sockets of this port, gRPC's core's as well."""
    _KEPT.add(port)


def forget(port: Numbered) -> None:
    """Leave children what they inherit of this port: it is closed."""
    _KEPT.discard(port)


def _local_port(descriptor: int) -> int | None:
    """Return the port that a socket is bound to; `None` for other descriptors, and where the port is another process'."""
    try:
        looked_at = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        name = looked_at.getsockname()
        return int(name[1]) if looked_at.family in {socket.AF_INET, socket.AF_INET6} else None
    except OSError:
        return None
    finally:
        looked_at.detach()
