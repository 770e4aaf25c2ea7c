"""What holds for all tests, of the core and of the plugins: how many processes run them, and what flytekit needs."""

import os
import sys
from pathlib import Path

import pytest

_FEW = 3
"""Files that are run sooner by one process than others are started: a worker costs a second and more."""

_MOST = 8
"""Workers, each of which imports all tests and what they need: 8 s of CPU and half a gigabyte."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many workers `-n auto`, the default, starts."""
    named = [Path(argument.split("::")[0]) for argument in config.args]
    if len(named) <= _FEW and all(path.suffix == ".py" for path in named):
        return 0
    # Two more than cores: much of the time, a test waits for a process that it has started.
    return min((os.cpu_count() or 1) + 2, _MOST)


def pytest_configure() -> None:
    """Name the image that flytekit's tasks run in: it knows none for Python 3.13, and its server does not start without."""
    if sys.version_info >= (3, 13):
        os.environ.setdefault("FLYTE_INTERNAL_IMAGE", "flytekit:tests")
