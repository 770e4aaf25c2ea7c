"""A memory in this process: nothing survives a restart, and each replica has its own."""

import time
from collections.abc import Callable

from cachetools import TLRUCache

_Entry = tuple[bytes, float]


class ProcessMemory:
    """Keeps up to `size` bytes; what was not used for longest goes first."""

    guarantees = (
        "what is remembered of jobs is lost with this process: a create that is repeated after a restart, "
        "or at another replica, starts a second job unless the connector passes the idempotency key on"
    )
    is_shared = False

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries: TLRUCache[str, _Entry] = TLRUCache(
            size, ttu=lambda _key, entry, now: now + entry[1], timer=clock, getsizeof=_size
        )

    async def get(self, key: str) -> bytes | None:
        """Return what is kept, if it is."""
        try:  # the cache's own get() looks twice
            return self._entries[key][0]
        except KeyError:
            return None

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for so long; one that is larger than the whole store is not kept."""
        try:
            self._entries[key] = (value, seconds)
        except ValueError:
            self._entries.pop(key, None)

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value unless there is one."""
        if key in self._entries:
            return False
        await self.put(key, value, seconds)
        return True

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        """Keep `new` if `old` is still what is kept."""
        if await self.get(key) != old:
            return False
        await self.put(key, new, seconds)
        return True

    async def remove(self, key: str) -> None:
        """Forget a key."""
        self._entries.pop(key, None)

    async def close(self) -> None:
        """Nothing is open."""


def _size(entry: _Entry) -> int:
    return len(entry[0]) + 300  # what Python keeps around a key and a value, roughly
