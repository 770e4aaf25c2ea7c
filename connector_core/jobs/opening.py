"""From the settings to a memory."""

from connector_core.jobs.memory import Memory
from connector_core.jobs.memory_process import ProcessMemory
from connector_core.settings import MemorySettings

_BYTES_AN_ENTRY = 1000


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
