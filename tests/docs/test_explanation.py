"""The explanation names the layers that there are, and every decision has its parts."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.environments import ROOT

EXPLANATION = ROOT / "docs" / "explanation"
DECISIONS = sorted((EXPLANATION / "decisions").glob("0*.md"))


def test_the_layers_are_those_that_the_linter_holds() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    held = [set(layer.replace(" ", "").split("|")) for layer in contracts[0]["layers"]]
    text = (EXPLANATION / "architecture.md").read_text().split("## Layers")[1]
    told = [set(re.findall(r"`(\w+)`", cell)) for cell in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)]
    assert told == held


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_context_decision_and_consequences(page: Path) -> None:
    text = page.read_text()
    assert re.match(rf"# {int(page.stem[:4])}\. \S", text)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_decisions_are_numbered_and_listed_once_by_theme_with_their_status() -> None:
    assert [int(page.stem[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    index = (EXPLANATION / "decisions" / "index.md").read_text()
    rows = dict(re.findall(r"^\| \[\d+\. [^\]]+\]\((\S+\.md)\) \| (.*) \|$", index, re.MULTILINE))
    assert sorted(rows) == [page.name for page in DECISIONS]
    for page in DECISIONS:
        replaced = re.search(r"^Replaced by \[decision (\d+)\]\((\S+)\)", page.read_text(), re.MULTILINE)
        assert rows[page.name] == (f"replaced by [{replaced[1]}]({replaced[2]})" if replaced else "holds"), page.name


def test_what_the_maintainers_page_names_is_there() -> None:
    text = (EXPLANATION / "maintaining.md").read_text()
    named = re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)*(?:\.py|/))`", text)
    assert len(named) > 20
    missing = [path for path in named if not ((ROOT / "connector_core" / path).exists() or (ROOT / path).exists())]
    assert missing == []


def test_an_operation_needs_no_place_that_the_maintainers_page_leaves_out() -> None:
    """Deadlines of operations are settings by the table alone."""
    from connector_core.operations import OPERATIONS
    from connector_core.settings import DeadlineSettings

    with_deadline = {name for name, operation in OPERATIONS.items() if operation.deadline is not None}
    assert set(DeadlineSettings.__struct_fields__) == with_deadline
