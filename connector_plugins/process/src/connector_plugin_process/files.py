"""Reading from a job's folder, in which the job's own command can put anything: links, pipes, folders, endless files."""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

RECORD_BYTES = 64 * 1024


@contextlib.contextmanager
def regular_file(path: Path) -> Iterator[int | None]:
    """Open a file for reading; None for anything else: a link is not followed, a pipe not waited for."""
    try:
        # Without O_NONBLOCK the open itself waits for a writer where the name is a pipe's.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield handle if stat.S_ISREG(os.fstat(handle).st_mode) else None
    finally:
        os.close(handle)


def read_bytes(path: Path, size: int = RECORD_BYTES, offset: int = 0) -> bytes | None:
    """Return at most `size` bytes of a regular file; None where there is none."""
    with regular_file(path) as handle:
        return None if handle is None else os.pread(handle, size, offset)


def size_of(path: Path) -> int:
    """Return the length of a regular file; 0 where there is none."""
    with regular_file(path) as handle:
        return 0 if handle is None else os.fstat(handle).st_size


def exists(path: Path) -> bool:
    """Return whether the name is taken, by whatever."""
    return os.path.lexists(path)


def is_folder(path: Path) -> bool:
    """Return whether this is a folder itself, and not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def create_mark(path: Path) -> None:
    """Make an empty file unless the name is taken."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def remove(path: Path) -> None:
    """Remove a file or a whole folder, also one whose folders were made unreadable; links are not followed."""
    if not is_folder(path):
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if exists(path):
        for folder, below, _ in os.walk(path):
            for name in ("", *below):
                inner = Path(folder, name)
                if is_folder(inner):
                    inner.chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
