"""Environments of connectors of others, which all processes of one test session share."""

from pathlib import Path

from tests.support.environments import ROOT, build_wheel, make_venv, run
from tests.support.sharing import once

INSIDE = Path(__file__).with_name("inside")
"""What is run inside of other environments."""


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
