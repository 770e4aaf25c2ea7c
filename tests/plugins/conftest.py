"""A folder for fake distributions, on the path for one test."""

from pathlib import Path

import pytest

from tests.support.distributions import SitePackages


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SitePackages:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return SitePackages(folder)
