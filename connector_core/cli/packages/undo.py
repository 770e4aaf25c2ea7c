"""A change of the environment that is undone unless it is accepted, file by file: exact, and without any index.

Installers undo what they do not bring to its end, but not what turns out to be bad afterwards; and to install the former
versions again takes an index that still has them, and finds another build or none for what came from a file.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from importlib_metadata import Distribution
from packaging.utils import NormalizedName, canonicalize_name

from connector_core.cli.packages.installed import Set, files_of, found, installed_now, own_folders, site_packages
from connector_core.processes import undisturbed

_BYTECODE = "__pycache__"


@contextmanager
def locked(on_wait: Callable[[], None]) -> Iterator[None]:
    """Be the only one that changes this environment in this way; `on_wait` is called if another one is at it."""
    folder = os.open(site_packages()[0], os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


class NotPutBackError(Exception):
    """The environment is not as it was; the message says what differs."""


class Undoable:
    """A change of these distributions, of which those that are there now are kept aside; `with` it, change them, `accept`.

    Args:
        names: the canonical names of the distributions that may change.
        on_undo: called before the environment is put back.

    Raises:
        NotPutBackError: at the end of the block, when not all could be undone.
    """

    def __init__(self, names: Collection[NormalizedName], on_undo: Callable[[], None]) -> None:
        self._names = names
        self._on_undo = on_undo
        self._is_accepted = False
        self._stack = contextlib.ExitStack()
        self.before: Set = {}

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.before = installed_now()
            self._files = {path for folder in own_folders() for path in _walk(folder)}
            self._folders = {path.parent for path in self._files}
            self._kept = _Kept.of(_distributions(self._names))
            stack.callback(self._kept.forget)
            self._stack = stack.pop_all()
        return self

    def accept(self) -> None:
        """Keep the change."""
        self._is_accepted = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _where: TracebackType | None
    ) -> None:
        with undisturbed(), self._stack:
            if not self._is_accepted and not self._is_untouched():
                self._on_undo()
                self._put_back()

    def _is_untouched(self) -> bool:
        files = {path for folder in own_folders() for path in _walk(folder)}
        return files == self._files and self._kept.is_in_place()

    def _put_back(self) -> None:
        now = installed_now()
        differing = {name for name in {*self.before, *now} if self.before.get(name) != now.get(name)}
        added = {path for one in _distributions(differing) for path in files_of(one) if path not in self._kept.files}
        # Beside what is written down, what an installer that was interrupted had not yet written down.
        added |= {path for folder in own_folders() for path in _walk(folder)} - self._files
        added -= self._files
        touched = {path.parent for path in (*added, *self._kept.files)}
        for path in added:
            path.unlink(missing_ok=True)
        for folder in touched:
            shutil.rmtree(folder / _BYTECODE, ignore_errors=True)  # of a source with another text, perhaps
        self._kept.restore()
        for folder in sorted(touched, key=lambda one: len(one.parts), reverse=True):
            self._remove_if_empty(folder)
        self._verify()

    def _remove_if_empty(self, folder: Path) -> None:
        inside = own_folders()
        with contextlib.suppress(OSError):  # not empty, or gone already
            while any(folder.is_relative_to(one) and folder != one for one in inside) and folder not in self._folders:
                folder.rmdir()
                folder = folder.parent

    def _verify(self) -> None:
        now = installed_now()
        differing = [name for name in {*self.before, *now} if self.before.get(name) != now.get(name)]
        missing = [str(path) for path in self._files if not os.path.lexists(path)]
        if not differing and not missing and self._kept.is_in_place():
            return
        wanted = " ".join(one.requirement for name in sorted(differing) if (one := self.before.get(name)))
        raise NotPutBackError(
            f"the environment could not be put back: {', '.join(sorted([*differing, *missing])) or 'some files'} "
            f"differ from before. {f'To mend it, install {wanted}' if wanted else 'Look at it with pip list.'}"
        )


@dataclass(frozen=True)
class _Kept:
    """Files that were put aside: under other names for the same data where the disk allows that, else as copies."""

    folder: Path
    files: dict[Path, Path]

    @classmethod
    def of(cls, distributions: Iterator[Distribution]) -> "_Kept":
        folder = _new_folder()
        files: dict[Path, Path] = {}
        try:
            for one in distributions:
                for path in files_of(one):
                    if path.is_file() or path.is_symlink():
                        files[path] = _put_aside(path, folder / str(len(files)))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(folder, files)

    def is_in_place(self) -> bool:
        return all(os.path.lexists(path) and _mark(path) == _mark(aside) for path, aside in self.files.items())

    def restore(self) -> None:
        for path, aside in self.files.items():
            if not os.path.lexists(path) or not os.path.samestat(path.lstat(), aside.lstat()):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                _put_aside(aside, path)

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _distributions(names: Collection[NormalizedName]) -> Iterator[Distribution]:
    return (one for one in found() if canonicalize_name(one.name) in names)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != _BYTECODE]
        yield from (Path(parent, name) for name in files)


def _put_aside(path: Path, where: Path) -> Path:
    try:
        os.link(path, where, follow_symlinks=False)
    except OSError:  # another disk, or one without links
        shutil.copy2(path, where, follow_symlinks=False)
    return where


def _mark(path: Path) -> tuple[int, int]:
    of = path.lstat()
    return of.st_size, of.st_mtime_ns


def _new_folder() -> Path:
    beside = site_packages()[0].parent  # on the disk of the files themselves
    writable = os.access(beside, os.W_OK)
    return Path(tempfile.mkdtemp(prefix=".connector-host-", dir=beside if writable else None))
