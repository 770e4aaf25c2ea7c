"""The job memory: a small key-value store, bounded in number and time."""

from typing import Protocol

from connector_core.jobs.memory_process import Entries, ProcessMemory
from connector_core.settings import MemorySettings

_BYTES_AN_ENTRY = 1000


class Memory(Protocol):
    """Keeps bytes by key for a while; losing them may cost a guarantee, never a running job.

    Three implementations: in the process (the default), in a SQLite file (survives a restart), in Redis (shared by
    replicas). Each method raises `MemoryUnavailableError` when the memory cannot be reached.
    """

    guarantees: str
    """The guarantees of this store, in a sentence or two that the host prints at start."""

    is_shared: bool
    """True if other hosts may write to it at the same time."""

    @property
    def at_once(self) -> Entries | None:
        """The same without waiting, where it is kept in this process."""

    async def get(self, key: str) -> bytes | None:
        """Return what is kept, if it is."""

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for so long, in place of what was there."""

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value unless there is one; return whether it was kept. No two callers can both succeed."""

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        """Keep `new` if `old` is still what is kept; return whether it was. Two callers never replace the same value."""

    async def remove(self, key: str) -> None:
        """Forget a key."""

    async def close(self) -> None:
        """Close files and connections; a second call does nothing."""


def open_memory(settings: MemorySettings) -> Memory:
    """Open the memory that the settings choose.

    Raises:
        SettingsError: it cannot be opened.
    """
    if settings.kind == "sqlite":
        from connector_core.jobs.memory_sqlite import SqliteMemory

        return SqliteMemory(settings.path, settings.entries)
    if settings.kind == "redis":
        from connector_core.jobs.memory_redis import RedisMemory

        return RedisMemory(settings.url.get_secret_value())
    return ProcessMemory(settings.entries * _BYTES_AN_ENTRY)
