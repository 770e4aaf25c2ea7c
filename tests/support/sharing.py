"""Folders that all processes of one test session share, each filled by the first that needs it."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def session_folder(factory: pytest.TempPathFactory, config: pytest.Config) -> Path:
    """Return the temporary folder that is the same one for every worker of pytest-xdist."""
    own = factory.getbasetemp()
    return own.parent if hasattr(config, "workerinput") else own


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Return the folder, which `make` fills once for all processes; one that comes meanwhile waits."""
    with _alone(folder.with_suffix(".lock")):
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a maker that failed has left
            folder.mkdir()
            make(folder)
            (folder / "made").touch()
    return folder


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # ends with the process, however that ends
        yield
