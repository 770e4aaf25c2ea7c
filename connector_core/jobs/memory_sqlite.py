"""A memory in a SQLite file: it survives a restart of the one host that uses it."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from connector_core.errors import MemoryUnavailableError, SettingsError
from connector_core.jobs.steady_clock import SteadyClock

T = TypeVar("T")

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS memory (key TEXT PRIMARY KEY, value BLOB NOT NULL, ends REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS memory_ends ON memory (ends);
"""
_EXPIRED_CHECK_EVERY = 1000


class SqliteMemory:
    """Keeps up to `entries` values in `path`; the file's writes go through one thread, so they are in order.

    Raises:
        SettingsError: the file cannot be opened, or another host has it.
    """

    is_shared = False
    at_once = None

    def __init__(self, path: Path, entries: int, clock: Callable[[], float] | None = None) -> None:
        self.guarantees = f"Job memory: {path}. It survives a restart of this host; replicas do not share it."
        self._path = path
        self._entries = entries
        self._clock = clock or SteadyClock()
        self._writes = 0
        self._is_closed = False
        self._thread = ThreadPoolExecutor(1, "memory")
        try:
            self._database = self._thread.submit(_open, path).result()
            self._thread.submit(self._forget_old).result()
            status = path.stat()
            self._inode, self._size = status.st_ino, status.st_size
        except sqlite3.Error as error:
            self._thread.shutdown()
            raise SettingsError(
                f"the memory file {path} cannot be used ({error}): another host may have it open"
            ) from None

    async def get(self, key: str) -> bytes | None:
        """Return what is kept, if it is."""
        return await self._run(lambda: self._get(key))

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for so long."""
        await self._run(lambda: self._put(key, value, seconds))

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value unless there is one."""
        return await self._run(lambda: self._get(key) is None and self._put(key, value, seconds))

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        """Keep `new` if `old` is still what is kept."""
        return await self._run(lambda: self._get(key) == old and self._put(key, new, seconds))

    async def remove(self, key: str) -> None:
        """Forget a key."""
        await self._run(lambda: self._database.execute("DELETE FROM memory WHERE key = ?", (key,)))

    async def close(self) -> None:
        """Close the file."""
        if self._is_closed:
            return
        self._is_closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        if self._is_closed:
            raise MemoryUnavailableError(f"the memory file {self._path} is closed")
        try:
            # Shielded: a caller that goes must not leave a write half awaited.
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, self._checked, work))
        except (sqlite3.Error, OSError) as error:
            raise MemoryUnavailableError(f"the memory file {self._path} cannot be used: {error}") from error

    def _checked(self, work: Callable[[], T]) -> T:
        """Do something with the file as long as it is the one that was opened.

        SQLite keeps what it has read, and would go on for a while with a file that somebody has cut or taken away.

        Raises:
            OSError: it is not.
        """
        status = self._path.stat()
        if status.st_ino != self._inode or status.st_size < self._size:
            raise OSError("it was truncated or replaced while the host had it open; restart the host")
        self._size = status.st_size
        return work()

    def _get(self, key: str) -> bytes | None:
        row = self._database.execute(
            "SELECT value FROM memory WHERE key = ? AND ends > ?", (key, self._clock())
        ).fetchone()
        return None if row is None else bytes(row[0])

    def _put(self, key: str, value: bytes, seconds: float) -> bool:
        self._database.execute("INSERT OR REPLACE INTO memory VALUES (?, ?, ?)", (key, value, self._clock() + seconds))
        self._writes += 1
        if self._writes % _EXPIRED_CHECK_EVERY == 0:
            self._forget_old()
        return True

    def _forget_old(self) -> None:
        self._database.execute("DELETE FROM memory WHERE ends <= ?", (self._clock(),))
        self._database.execute(
            "DELETE FROM memory WHERE key IN (SELECT key FROM memory ORDER BY ends DESC LIMIT -1 OFFSET ?)",
            (self._entries,),
        )


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.executescript(_SCHEMA)
        database.execute("BEGIN IMMEDIATE")
        database.execute("COMMIT")
    except sqlite3.Error:
        database.close()
        raise
    return database
