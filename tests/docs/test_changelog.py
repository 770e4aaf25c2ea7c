"""The changelog's fragments are ones that towncrier takes."""

import re
import sys

import pytest

from tests.support.environments import ROOT, run

pytest.importorskip("towncrier", reason="the changelog is made with it")

FRAGMENTS = [path for path in (ROOT / "docs" / "changelog.d").iterdir() if path.name != "README.md"]


def test_every_fragment_is_in_the_draft() -> None:
    draft = run(sys.executable, "-m", "towncrier", "build", "--draft", "--version", "1.2.3", cwd=ROOT).stdout
    assert "# connector-host 1.2.3" in draft
    said = re.sub(r"\s+", " ", draft)
    assert [path.name for path in FRAGMENTS if re.sub(r"\s+", " ", path.read_text()).strip() not in said] == []


def test_the_changelog_has_the_place_for_them() -> None:
    assert "<!-- towncrier release notes start -->" in (ROOT / "docs" / "changelog.md").read_text()
