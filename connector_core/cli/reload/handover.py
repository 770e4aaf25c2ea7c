"""What a host gets from the parent that starts it anew: the HTTP port's sockets, and a pipe that ends with the parent."""

import os
import signal
import socket
from collections.abc import Sequence

import msgspec

from connector_core.processes import on_end_of_parent, without_inheritance

_VARIABLE = "CONNECTOR_HOST_HANDOVER"
"""For our own child; no setting (those have two underscores)."""


class Handover(msgspec.Struct, frozen=True):
    """The two, where there is such a parent."""

    http: Sequence[socket.socket] = ()
    lifeline: int | None = None

    def to_environment(self) -> dict[str, str]:
        """Return the variable that tells a child of them; it inherits the descriptors."""
        return {_VARIABLE: " ".join(map(str, (self.lifeline, *(one.fileno() for one in self.http))))}

    @classmethod
    def taken(cls) -> "Handover":
        """Take them, so that the children of plugins do not."""
        told = os.environ.pop(_VARIABLE, None)
        if told is None:
            return cls()
        lifeline, *http = map(int, told.split())
        without_inheritance((lifeline, *http))
        return cls([socket.socket(fileno=one) for one in http], lifeline)

    def end_with_parent(self) -> None:
        """Ask this process to stop when the parent has gone without a word; called on the serving loop."""
        if self.lifeline is not None:
            on_end_of_parent(self.lifeline, lambda: os.kill(os.getpid(), signal.SIGTERM))
