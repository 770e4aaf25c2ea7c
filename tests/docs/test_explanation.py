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


def test_decisions_are_numbered_and_listed() -> None:
    assert [int(page.stem[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    index = (EXPLANATION / "decisions" / "index.md").read_text()
    assert re.findall(r"\((\S+\.md)\)", index) == [page.name for page in DECISIONS]
