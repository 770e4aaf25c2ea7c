"""A memory in this process: nothing survives a restart, and each replica has its own."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

_AROUND_ENTRY = 300
"""Bytes that Python keeps around a key and a value, roughly."""

_LOOK_EVERY = 1.0
"""Seconds between sweeps for expired entries: each touches entries that nothing else has touched for long."""


class Entries:
    """A store in this process that never waits: up to `size` bytes; the least recently used entry is evicted first.

    What is over is never given again, and its room is taken back when nothing is left that was not used for longer: no order
    by ends is kept, which would cost more than all the rest (docs/explanation/performance.md).
    """

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self._size = self._room = size
        self._clock = clock
        self._looked_at = -math.inf
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        """Return what is kept, if it is."""
        if (entry := self._entries.get(key)) is None:
            return None
        if entry[1] <= self._clock():
            self.remove(key)
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for so long; one that is larger than the whole store is not kept."""
        now, takes = self._clock(), len(value) + _AROUND_ENTRY
        if key in self._entries:
            self.remove(key)
        if takes > self._size:
            return
        self._entries[key] = (value, now + seconds)
        self._room -= takes
        if self._room < 0 or now - self._looked_at > _LOOK_EVERY:
            self._make_room(now)

    def _make_room(self, now: float) -> None:
        self._looked_at = now
        while self._entries:
            oldest, (_, ends) = next(iter(self._entries.items()))
            if self._room >= 0 and ends > now:
                return
            self.remove(oldest)

    def add(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value unless there is one; return whether it was kept."""
        if key in self._entries and self.get(key) is not None:
            return False
        self.put(key, value, seconds)
        return True

    def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        """Keep `new` if `old` is still what is kept; return whether it was."""
        if self.get(key) != old:
            return False
        self.put(key, new, seconds)
        return True

    def remove(self, key: str) -> None:
        """Forget a key."""
        if (entry := self._entries.pop(key, None)) is not None:
            self._room += len(entry[0]) + _AROUND_ENTRY


class ProcessMemory:
    """A memory of up to `size` bytes in this process; the least recently used entry is evicted first."""

    guarantees = (
        "Job memory: this process only. "
        "After a restart a retried create may start a second job (`memory.kind` keeps it)."
    )
    is_shared = False

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.at_once = Entries(size, clock)

    async def get(self, key: str) -> bytes | None:
        """Return what is kept, if it is."""
        return self.at_once.get(key)

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for so long; one that is larger than the whole store is not kept."""
        self.at_once.put(key, value, seconds)

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value unless there is one."""
        return self.at_once.add(key, value, seconds)

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        """Keep `new` if `old` is still what is kept."""
        return self.at_once.replace(key, old, new, seconds)

    async def remove(self, key: str) -> None:
        """Forget a key."""
        self.at_once.remove(key)

    async def close(self) -> None:
        """Nothing is open."""
