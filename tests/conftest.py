"""Fixtures that tests in several folders use."""

from pathlib import Path

import pytest

from tests.support.environments import ROOT, build_wheel


@pytest.fixture(scope="session")
def core_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of connector-core, built from this checkout."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("core"))
