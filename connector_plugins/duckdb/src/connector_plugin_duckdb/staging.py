"""Queries' private folders, and the sweeping of those that a host has left behind."""

import fcntl
import logging
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

PREFIX = "connector-duckdb-host-"
_LOCK = "lock"

_log = logging.getLogger("connector_plugin_duckdb")


class StagingRoot:
    """The folder of one connector in which its queries have theirs, locked for as long as the connector lives.

    The lock is the kernel's, so it ends with the process however that ends: a folder whose lock can be had is nobody's
    any more. Before a connector makes its folder it removes those.

    Args:
        parent: where the folder is made; the system's folder for temporary files if not given.
    """

    def __init__(self, parent: Path | None) -> None:
        self._parent = Path(tempfile.gettempdir()) if parent is None else parent
        self._opening = threading.Lock()
        self._numbers = count()
        self._folder: Path | None = None
        self._descriptor = -1

    def open(self) -> Path:
        """Return the folder; the first call sweeps and makes it."""
        with self._opening:
            if self._folder is None:
                sweep(self._parent)
                self._folder, self._descriptor = _make(self._parent)
            return self._folder

    def staging(self) -> "Staging":
        """Return the folder of one query, which is not made yet."""
        return Staging(self, next(self._numbers))

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        with self._opening:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                os.close(self._descriptor)
                self._folder = None


class Staging:
    """A query's private folder, which is gone when the query is over."""

    def __init__(self, root: StagingRoot, number: int) -> None:
        self._root = root
        self._number = number
        self.folder = Path()

    def __enter__(self) -> Self:
        folder = self._root.open() / str(self._number)
        for name in ("inputs", "outputs", "temp"):
            (folder / name).mkdir(parents=True)
        self.folder = folder
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def size(self) -> int:
        """Return how many bytes are in the folder."""
        if self.folder == Path():
            return 0
        return sum(_size(Path(folder) / name) for folder, _folders, names in os.walk(self.folder) for name in names)


def sweep(parent: Path) -> None:
    """Remove the folders below `parent` that connectors of this user have left behind."""
    try:
        found = [one for one in parent.iterdir() if one.name.startswith(PREFIX)]
    except OSError:
        return  # making the folder says why
    for folder in found:
        with suppress(OSError):  # it is being made or removed by another host, or is not ours
            _sweep_one(folder)


def _sweep_one(folder: Path) -> None:
    information = folder.lstat()
    if not folder.is_dir() or folder.is_symlink() or information.st_uid != os.getuid():
        return
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        folder.rmdir()  # empty: its host ended while it made it, or is making it now and then makes another
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where somebody has it
        size = sum(_size(Path(place) / name) for place, _folders, names in os.walk(folder) for name in names)
        shutil.rmtree(folder, ignore_errors=True)
        _log.info("staging folder removed: its host has ended; folder=%s bytes=%d", folder, size)
    finally:
        os.close(descriptor)


def _make(parent: Path) -> tuple[Path, int]:
    """Make a folder and lock it, once more if another host took it for one that was left behind."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / _LOCK).exists():
                return folder, descriptor
        os.close(descriptor)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512  # what it takes on the disk: DuckDB's files may have holes
    except OSError:
        return 0
