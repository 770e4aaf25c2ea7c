"""The machine that is measured on, and which of its cores serve and which call."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

CORES = tuple(sorted(os.sched_getaffinity(0)))
CALLING = CORES[-1:]
SERVING = CORES[:1]
"""One core each, so that a rate is what one core gives; on a machine with a single core they are the same."""


@contextmanager
def on_cores(cores: tuple[int, ...]) -> Iterator[None]:
    """Run this thread, and what is started in the block, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe() -> str:
    """Say what was measured on."""
    return f"{len(CORES)} cores of {_processor()}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def taken_by_others() -> float:
    """Return the percentage of all cores that is busy while nothing is measured, over a second."""
    return float(psutil.cpu_percent(interval=1.0))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
