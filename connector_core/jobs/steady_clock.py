"""A wall clock that does not jump: what is remembered of jobs must not end because somebody has set the machine's time."""

import time
from collections.abc import Callable


class SteadyClock:
    """Seconds since the epoch as they were when this was made, and as they have passed since.

    It can be compared with the clocks of other hosts and of earlier lives, as a monotonic clock cannot, and goes on evenly
    when NTP, a suspended machine or an operator sets the time, as the wall clock does not.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def __call__(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._offset + self._monotonic()
