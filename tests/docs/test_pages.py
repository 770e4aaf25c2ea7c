"""Every page that has something to run holds when a reader follows it."""

from pathlib import Path

import pytest

from tests.support.environments import ROOT
from tests.support.markdown import Reader, blocks

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
HAVE_TESTS_OF_THEIR_OWN = {DOCS / "tutorial" / "first-connector.md", DOCS / "how-to" / "move-from-flytekit.md"}


def claims_something(page: Path) -> bool:
    return any(block.is_run or block.is_file for block in blocks(page))


def name(page: Path) -> str:
    return str(page.relative_to(DOCS))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if claims_something(page) and page not in HAVE_TESTS_OF_THEIR_OWN], ids=name
)
def test_following_the_page_leads_where_it_says(reader: Reader, page: Path) -> None:
    reader.follow(page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_is_in_a_block_that_says_what_it_is(page: Path) -> None:
    known = {"python", "shell", "output", "toml", "json", "yaml", "text"}
    assert [block.where for block in blocks(page) if block.language not in known] == []
