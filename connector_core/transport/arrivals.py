"""Calls whose request has not arrived yet, and cuts of those for which that takes too long."""

import asyncio
from typing import Protocol

_LOOKS = 10
"""Looks within the time that a request has."""


class Arriving(Protocol):
    """A call that waits for its client."""

    def cut_late(self, seconds: float) -> None:
        """End it: its request did not arrive in so many seconds."""


class Arrivals:
    """Bounds how long calls wait for their requests: a client that sends none would keep their room for ever.

    Args:
        seconds: in which a request has to arrive; `None` for no bound.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._since: dict[Arriving, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Arriving) -> None:
        """Wait for a call's request."""
        if self._seconds is None:
            return
        self._since[call] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look, self._seconds)

    def discard(self, call: Arriving) -> None:
        """Wait no longer: it has arrived, or the call is over."""
        self._since.pop(call, None)

    def close(self) -> None:
        """Look no more."""
        self._since.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, seconds: float) -> None:
        last = self._loop.time() - seconds
        late = list[Arriving]()
        for call, since in self._since.items():  # the oldest first
            if since > last:
                break
            late.append(call)
        for call in late:
            self.discard(call)
            call.cut_late(seconds)
        self._timer = self._loop.call_later(seconds / _LOOKS, self._look, seconds) if self._since else None
