"""How start-up grows with the number of installed distributions that bring a plugin."""

import compileall
import textwrap
from pathlib import Path

from tests.benchmarks.figures import Effort, Figures, add
from tests.benchmarks.peers import CACHE
from tests.benchmarks.servers import Servers, Target, running

COUNTS = (0, 10, 100, 500, 2000)

_OURS = """
    from ours import NoopConnector
    from connector_core import hookimpl

    @hookimpl
    def register_connectors():
        connector = NoopConnector(1)
        connector.name = connector.task_type_name = "many_{number}"
        return [connector]
"""
_FLYTEKIT = """
    from flytekit.extend.backend.base_connector import ConnectorRegistry
    from flytekit_noop import NoopConnector

    ConnectorRegistry.register(NoopConnector("many_{number}"))
"""
_FLYTE2 = """
    from flyte.connectors import ConnectorRegistry
    from flyte2_noop import NoopConnector

    ConnectorRegistry.register(NoopConnector("many_{number}"))
"""
_KINDS = {
    "ours": ("connector_core.plugins", _OURS),
    "flytekit": ("flytekit.plugins", _FLYTEKIT),
    "flyte2": ("flyte.connectors", _FLYTE2),
}


def measure(make: Servers, effort: Effort) -> dict[str, Figures]:
    """Start each server beside each number of distributions, in turn."""
    figures: Figures = {}
    targets = {
        "ours": make.ours("ours"),
        "flytekit": make.flytekit("flytekit_noop"),
        "flyte2": make.flyte2("flyte2_noop"),
    }
    counts = COUNTS[:3] if effort.is_quick else COUNTS
    for _ in range(min(3, effort.rounds)):
        for kind, target in targets.items():
            seconds = {count: _start(target, kind, count) for count in counts}
            values = {str(count): took for count, took in seconds.items()}
            each = {f"{n} each": (took - seconds[0]) / n * 1e3 for n, took in seconds.items() if n >= 100}
            add(figures, target.name, {**values, **each})
    return {"plugins": figures}


def _start(target: Target, kind: str, count: int) -> float:
    with running(target.with_settings(PYTHONPATH=str(distributions(kind, count)))) as server:
        return server.seconds_to_serving


def distributions(kind: str, count: int) -> Path:
    """Return a folder with so many installed distributions, byte-compiled; it is kept from run to run."""
    folder = CACHE / "distributions" / f"{kind}-{count}"
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            _install(folder, kind, number)
        compileall.compile_dir(folder, quiet=1)
        (folder / "complete").touch()
    return folder


def _install(folder: Path, kind: str, number: int) -> None:
    group, code = _KINDS[kind]
    name, module = f"many-plugin-{number}", f"many_plugin_{number}"
    (folder / f"{module}.py").write_text(textwrap.dedent(code).format(number=number))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nmany_{number} = {module}\n")
