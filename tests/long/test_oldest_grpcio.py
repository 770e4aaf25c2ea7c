"""The server on gRPC's core works with the oldest grpcio that may be installed, in an environment of its own."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.environments import ROOT, make_venv, run

TEST_TOOLS = ("hypothesis", "psutil", "pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist")


def oldest(name: str) -> str:
    """Return the lowest version of a dependency that this project allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (requirement,) = (one for one in map(Requirement, project["dependencies"]) if one.name == name)
    (bound,) = (one.version for one in requirement.specifier if one.operator == ">=")
    return f"{name}=={bound}"


@pytest.mark.long
def test_the_transport_works_with_the_oldest_grpcio(tmp_path: Path, core_wheel: Path) -> None:
    venv = make_venv(tmp_path / "venv", core_wheel, oldest("grpcio"), *TEST_TOOLS)
    tests = sorted((ROOT / "tests" / "grpc").glob("test_transport*.py"))
    assert tests
    result = run(venv.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=ROOT)
    assert " passed" in result.stdout
    assert " skipped" not in result.stdout
