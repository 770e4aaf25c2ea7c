"""The pictures that the documentation shows are there, described, and small."""

import re
from pathlib import Path

import pytest

from tests.support.environments import ROOT


@pytest.mark.parametrize("path", ["README.md", "docs/how-to/see-what-the-host-is-doing.md"])
def test_the_pictures_of_a_page_are_there_and_small(path: str) -> None:
    page: Path = ROOT / path
    named = re.findall(r"!\[[^\]]+\]\(([^)]+\.png)\)", page.read_text())
    sizes = {name: (page.parent / name).stat().st_size for name in named}
    assert sizes
    assert max(sizes.values()) < 200_000
