"""Real wheels in real virtual environments."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def uv() -> str:
    """Return uv's path; a test that needs it is skipped without."""
    found = os.environ.get("UV") or shutil.which("uv")  # `uv run` says where it is itself
    if found is None:
        pytest.skip("uv is not installed: pip install uv")
    return found


BRIDGE_OFF = {"CONNECTOR_HOST__BLOCK_PLUGIN": "flytekit"}
"""Keeps hosts of this environment from importing flytekit, which takes seconds; its own tests turn it on."""


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process' environment without what would reach into another host or environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CONNECTOR_HOST_", "COV_CORE", "COVERAGE", "PYTEST")) and name != "VIRTUAL_ENV"
    }
    return {**kept, **BRIDGE_OFF, **more}


def environment_for(program: str | Path, **more: str) -> dict[str, str]:
    """Return the environment for a program, which may be another environment's, where no bridge is installed."""
    environment = clean_environment(**more)
    if Path(program).parent != Path(sys.executable).parent:
        for name in BRIDGE_OFF.keys() - more.keys():
            del environment[name]
    return environment


def run(*command: str | Path, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is part of the failure when its exit code is not 0."""
    result = try_to_run(*command, cwd=cwd, **more)
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
    return result


def try_to_run(*command: str | Path, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its exit code."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment_for(command[0], **more),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def build_wheel(folder: Path, out: Path) -> Path:
    """Build the wheel of a package folder and return its path."""
    own = Path(tempfile.mkdtemp(dir=out))
    run(uv(), "build", "--wheel", "--no-build-logs", "--out-dir", own, folder)
    (wheel,) = own.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Venv:
    """A virtual environment."""

    path: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"

    def script(self, name: str) -> Path:
        """Return one of its console scripts."""
        return self.path / "bin" / name

    def install(self, *requirements: str | Path) -> None:
        """Install wheels, folders or requirements."""
        run(uv(), "pip", "install", "--quiet", "--python", self.python, *requirements)

    def take_over(self, model: "Venv") -> None:
        """Have what a relocatable environment has, compiled as it is there: much sooner than by installing it."""

        def link(source: str, target: str) -> None:
            if not Path(target).exists():
                Path(target).hardlink_to(source)

        interpreter = shutil.ignore_patterns("python*", "activate*", "pip")
        library = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        for folder, ignored in (("bin", interpreter), (library, None)):
            shutil.copytree(
                model.path / folder, self.path / folder, ignore=ignored, dirs_exist_ok=True, copy_function=link
            )


def make_venv(path: Path, *requirements: str | Path) -> Venv:
    """Make an environment with these things installed in it."""
    run(uv(), "venv", "--quiet", "--python", sys.executable, path)
    venv = Venv(path)
    if requirements:
        venv.install(*requirements)
    return venv


def make_model(path: Path, *requirements: str | Path) -> Venv:
    """Make an environment that others can take over; it takes longer than another, since all of it is compiled."""
    run(uv(), "venv", "--quiet", "--relocatable", "--python", sys.executable, path)
    venv = Venv(path)
    venv.install("--compile-bytecode", *requirements)
    return venv


def write_plugin(folder: Path, name: str, code: str, *, version: str = "1.0", requires: str = "connector-core") -> Path:
    """Write a plugin's package, `connector-plugin-NAME`, whose module is `code`; return its folder."""
    module = f"connector_plugin_{name}"
    (folder / "src" / module).mkdir(parents=True)
    (folder / "src" / module / "__init__.py").write_text(textwrap.dedent(code))
    (folder / "pyproject.toml").write_text(
        textwrap.dedent(
            f"""\
            [build-system]
            requires = ["hatchling"]
            build-backend = "hatchling.build"

            [project]
            name = "connector-plugin-{name}"
            version = "{version}"
            dependencies = ["{requires}"]

            [project.entry-points."connector_core.plugins"]
            {name} = "{module}"

            [tool.hatch.build.targets.wheel]
            packages = ["src/{module}"]
            """
        )
    )
    return folder
