"""Statuses of calls that end while the server stops, held back until what was sent before them has arrived."""

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

_TICK = 0.02
"""Seconds between two looks, and for which a status is held at the least."""

_PATIENCE = 5.0
"""Seconds after which a status is sent whether its client acknowledges or not."""

_ESTABLISHED = "01"
_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))

Send = Callable[[], None]


class HeldStatuses:
    """Sends statuses late enough that the answers before them cannot be lost.

    When a server stops, core closes each connection as soon as the last of its calls has its status, and it closes both
    directions. Whatever the client sends from then on, a ping or a window's update, the kernel answers with a reset, and drops
    what it has not sent yet: the rest of a large answer, or the last of many small ones (measured: 20 calls that end at
    once lost three or four answers in each thirtieth stop). So the answer goes out first. Its status, which core waits for,
    follows when the client's side has acknowledged everything, and the last one of a connection goes by itself.

    Make it on the loop.

    Attributes:
        is_on: whether statuses are to be held.
    """

    def __init__(self, unacknowledged: Callable[[], Collection[int]] | None = None) -> None:
        self.is_on = False
        self._loop = asyncio.get_running_loop()
        self._unacknowledged = unacknowledged or clients_with_unacknowledged_bytes
        self._held: dict[int, list[tuple[float, Send]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Hold statuses from now on."""
        self.is_on = True

    def add(self, peer: str, send: Send) -> None:
        """Have a status sent in time; `peer` is the client's address as core writes it."""
        port = peer.rpartition(":")[2]
        client = int(port) if port.isdigit() else 0
        self._held.setdefault(client, []).append((time.monotonic(), send))
        self._look_later()

    def end(self) -> None:
        """Send all that is held, and hold no more."""
        self.is_on = False
        held, self._held = self._held, {}
        for statuses in held.values():
            for _, send in statuses:
                send()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_TICK, self._look)

    def _look(self) -> None:
        self._timer = None
        busy = self._unacknowledged()
        now = time.monotonic()
        for client, statuses in list(self._held.items()):
            if client in busy:
                ripe = [one for one in statuses if now - one[0] >= _PATIENCE]
            else:
                old = [one for one in statuses if now - one[0] >= _TICK / 2]
                ripe = old if len(statuses) == 1 else old[: len(statuses) - 1]
            left = [one for one in statuses if one not in ripe]
            if left:
                self._held[client] = left
            else:
                del self._held[client]
            for _, send in ripe:
                send()
        if self._held:
            self._look_later()


def clients_with_unacknowledged_bytes() -> Collection[int]:
    """Return the ports of connections' other ends that have not acknowledged everything; none, where that cannot be known.

    The kernel's table is read, as core's sockets must not be touched: a descriptor that is duplicated while core closes it
    stays in core's epoll set.
    """
    busy = set[int]()
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, _local, remote, state, queues, *_ = line.split()
            if state == _ESTABLISHED and int(queues.partition(":")[0], 16):
                busy.add(int(remote.rpartition(":")[2], 16))
    return busy
