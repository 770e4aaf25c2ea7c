"""The tutorial does what it says, from an empty environment to an installed package."""

import pytest

from tests.support.environments import ROOT
from tests.support.markdown import Reader, blocks

TUTORIAL = ROOT / "docs" / "tutorial" / "first-connector.md"


@pytest.mark.slow
def test_following_the_tutorial_ends_with_a_served_package(newcomer: Reader) -> None:
    newcomer.follow(TUTORIAL)


def test_the_tutorial_leaves_nothing_out() -> None:
    assert [block.where for block in blocks(TUTORIAL) if block.is_shown_only] == []
