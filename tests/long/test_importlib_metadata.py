"""Plugins are found alike with the oldest and the newest importlib-metadata, in environments of their own."""

from pathlib import Path

import pytest

from tests.long.test_oldest_grpcio import TEST_TOOLS, oldest
from tests.support.environments import ROOT, make_venv, run


@pytest.mark.long
@pytest.mark.parametrize("requirement", [oldest("importlib-metadata"), "importlib-metadata"], ids=["oldest", "newest"])
def test_plugins_are_found_on_damaged_paths(tmp_path: Path, core_wheel: Path, requirement: str) -> None:
    venv = make_venv(tmp_path / "venv", core_wheel, requirement, *TEST_TOOLS)
    tests = [ROOT / "tests" / "plugins" / name for name in ("test_broken_distributions.py", "test_discovery.py")]
    result = run(venv.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=ROOT)
    assert " passed" in result.stdout
    assert " skipped" not in result.stdout
