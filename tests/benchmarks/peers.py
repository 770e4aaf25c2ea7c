"""The environments that servers are measured in: this checkout's wheel, and the peers' newest releases."""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.environments import ROOT, Venv, build_wheel, run, uv

CACHE = ROOT / ".benchmarks"
FLYTEKIT = ("flytekit", "prometheus-client", "grpcio-health-checking", "httpx")
FLYTE2 = ("flyte[connector]",)
PLUGINS = ("sleep", "process")


@dataclass(frozen=True)
class Environments:
    """A virtual environment for each."""

    ours: Venv
    bare: Venv
    flytekit: Venv
    flyte2: Venv

    def versions(self) -> dict[str, str]:
        """What is installed where, as far as it matters here."""
        wanted = {
            "connector-host": (self.ours, ("grpcio", "protobuf", "uvloop")),
            "flytekit": (self.flytekit, ("flytekit", "grpcio", "protobuf", "uvloop")),
            "flyte 2": (self.flyte2, ("flyte", "grpcio", "protobuf", "uvloop")),
        }
        return {name: _installed(venv, names) for name, (venv, names) in wanted.items()}


def make_environments(*, fresh: bool = False) -> Environments:
    """Make them, byte-compiled; those of the peers are kept from run to run unless `fresh`, ours is made anew."""
    folder = CACHE / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    core = f"connector-core @ {build_wheel(ROOT, folder).as_uri()}"
    plugins = [
        f"connector-plugin-{name} @ {build_wheel(ROOT / 'connector_plugins' / name, folder).as_uri()}"
        for name in PLUGINS
    ]
    return Environments(
        ours=_make("ours", (core, *plugins), fresh=True),
        bare=_make("bare", (core,), fresh=True),
        flytekit=_make("flytekit", FLYTEKIT, fresh=fresh),
        flyte2=_make("flyte2", FLYTE2, fresh=fresh),
    )


def _make(name: str, requirements: tuple[str, ...], *, fresh: bool) -> Venv:
    folder = CACHE / name
    stamp = folder / "made-of"
    made_of = hashlib.sha256(json.dumps([sys.version, *requirements]).encode()).hexdigest()
    if fresh or not stamp.exists() or stamp.read_text() != made_of:
        folder.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        run(uv(), "venv", "--quiet", "--clear", "--python", sys.executable, folder / "venv")
        python = folder / "venv" / "bin" / "python"
        run(uv(), "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *requirements)
        stamp.write_text(made_of)
    return Venv(folder / "venv")


def _installed(venv: Venv, names: tuple[str, ...]) -> str:
    code = f"""
import importlib.metadata as m
print(', '.join(f'{{name}} {{m.version(name)}}' for name in {names} if any(m.distributions(name=name))))
"""
    return run(venv.python, "-c", code, cwd=CACHE).stdout.strip()


def site_packages(venv: Venv) -> Path:
    """Return where its distributions are."""
    (found,) = venv.path.glob("lib/python3*/site-packages")
    return found
