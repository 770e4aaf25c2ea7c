"""Messages and docstrings are in the plain English that operators read at three in the morning."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.environments import ROOT

SOURCES = [
    *(path for path in (ROOT / "connector_core").rglob("*.py") if "template" not in path.parts),
    *(ROOT / "connector_plugins").glob("*/src/**/*.py"),
]
QUESTION = re.compile(r"(What|Who|Whom|Whose|How|Whether|Why|Where|When|Which)\b")
"""Openings that leave a docstring without a subject or an imperative: "How many calls wait." """

MARKS = {
    "is not a": re.compile(r"(?<!there )\b(is|are) no (?!longer\b|more\b)\w", re.IGNORECASE),
    "is blocked": re.compile(r"\b(comes?|came|coming) round\b"),
    "see its log": re.compile(r"\b(says|said) more\b"),
    "blocks it": re.compile(r"\bkeeps? (it|them) to (itself|himself|themselves)\b"),
    "is dealt with": re.compile(r"\b(be|is|are) seen to\b"),
}
"""By what to write instead; "there is no" is plain English, and so is "is no longer"."""


def texts(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Yield line, text and whether it is a docstring of each text; what an f-string puts in reads as `X`."""
    docstrings: set[ast.expr] = set()
    parts: set[ast.expr] = set()
    for node in ast.walk(tree):
        for statement in getattr(node, "body", ()) if isinstance(getattr(node, "body", ()), list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                docstrings.add(statement.value)
        if isinstance(node, ast.JoinedStr):
            parts.update(value for value in node.values if isinstance(value, ast.Constant))
            pieces = [str(value.value) if isinstance(value, ast.Constant) else "X" for value in node.values]
            yield node.lineno, "".join(pieces), False
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            yield node.lineno, node.value, node in docstrings


def mistakes(source: str) -> list[str]:
    """Return what is to be written otherwise, with its line."""
    found = []
    for line, text, is_docstring in texts(ast.parse(source)):
        plain = " ".join(text.split())
        if is_docstring and QUESTION.match(plain):
            found.append(f"{line}: opens with a question word; name the thing, or say what to do: {plain[:80]}")
        found += [f"{line}: {plain[:80]}; rather: {better}" for better, mark in MARKS.items() if mark.search(plain)]
    return found


def test_messages_and_docstrings_are_in_plain_english() -> None:
    found = [f"{path.relative_to(ROOT)}:{mistake}" for path in SOURCES for mistake in mistakes(path.read_text())]
    assert found == [], "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        '"""What a plugin answered."""',
        'class A:\n    """A place."""\n    size: int\n    """How many there are."""',
        'f"{port!r} is no port"',
        'f"{name} is no {kind}"',
        '"the lines are no list"',
        '_log.error("the loop has not come round for %.1f s", late)',
        'f"the host failed; its log says more under {reference}"',
        'def f():\n    """Return the loops whose code\n    keeps it to itself."""',
    ],
)
def test_each_mark_is_found(source: str) -> None:
    assert len(mistakes(source)) == 1


def test_plain_english_is_left_alone() -> None:
    assert (
        mistakes('"""Return whether there is no job."""\nf"gRPC is no longer served: {error}; see what failed"') == []
    )
