"""The command line is the same on the oldest and the newest typer that may be installed, in environments of their own."""

from pathlib import Path

import pytest

from tests.long.test_oldest_grpcio import TEST_TOOLS, oldest
from tests.support.environments import ROOT, make_venv, run


@pytest.mark.long
@pytest.mark.parametrize("requirement", [oldest("typer"), "typer"])
def test_the_command_line_is_the_same_on(requirement: str, tmp_path: Path, core_wheel: Path) -> None:
    venv = make_venv(tmp_path / "venv", core_wheel, requirement, *TEST_TOOLS)
    result = run(venv.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_cli_app.py", cwd=ROOT)
    assert " passed" in result.stdout
    assert " skipped" not in result.stdout
