"""What all processes of one test session share: wheels of this checkout, and environments that have them."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.environments import ROOT, build_wheel, make_venv, run

INSIDE = Path(__file__).with_name("inside")
"""What is run inside of other environments."""


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


def bridged(shared: Path, name: str, bridge: str, requirements: list[str], script: str, *groups: str) -> Path:
    """Return the folder with an environment (`venv`) of connectors of others and a bridge, and with their `tasks`.

    Args:
        shared: the session's folder.
        name: the environment's.
        bridge: the plugin's folder in `connector_plugins`.
        requirements: the distributions of others.
        script: what writes the tasks, run in the environment.
        groups: which of them.
    """
    wheels = once(shared / "wheels", lambda folder: build_wheel(ROOT, folder))
    plugin = once(shared / f"wheel-{bridge}", lambda folder: build_wheel(ROOT / "connector_plugins" / bridge, folder))

    def make(folder: Path) -> None:
        (core,), (plugin_wheel,) = wheels.rglob("*.whl"), plugin.rglob("*.whl")
        both_generations = f"connector-core[v2] @ {core.as_uri()}"
        venv = make_venv(folder / "venv", *requirements, both_generations, plugin_wheel)
        (folder / "tasks").mkdir()
        # The first to import what is here compiles it, so that two servers that start at once do not.
        run(venv.python, INSIDE / script, folder / "tasks", *groups, PYTHONDONTWRITEBYTECODE="")

    return once(shared / name, make)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # ends with the process, however that ends
        yield
