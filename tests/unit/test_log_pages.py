"""Log lines are cut to what every client receives, and none is lost."""

import pytest
from flyteidl.admin.agent_pb2 import USER, LogLine

from connector_core import LogPage
from connector_core.log_pages import MAX_LINE_BYTES, MAX_PAGE_BYTES, cut_page


def size(page: LogPage) -> int:
    return sum(len(line.encode()) if isinstance(line, str) else line.ByteSize() for line in page.lines)


def test_a_small_page_stays_one() -> None:
    page = LogPage(("a", "é", LogLine(message="b")), token="p2")
    assert cut_page(page) == [page]


def test_an_empty_page_stays_one() -> None:
    assert cut_page(LogPage(token="p2")) == [LogPage((), "p2")]


@pytest.mark.parametrize("line", ["x" * 1000, "€" * 1000, "😀" * 65_530, ""], ids=["ASCII", "€", "😀", "empty"])
def test_a_large_page_becomes_several_that_fit(line: str) -> None:
    pages = cut_page(LogPage((line,) * (2_500_000 // (len(line) + 10)), token="p2"))
    assert len(pages) > 1
    assert max(map(size, pages)) <= MAX_PAGE_BYTES
    assert {one for page in pages for one in page.lines} == {line}
    assert [page.token for page in pages] == ["p2"] + [""] * (len(pages) - 1)


def test_the_order_of_lines_is_kept() -> None:
    lines = tuple(f"{number:06}" * 100 for number in range(5000))
    assert tuple(line for page in cut_page(LogPage(lines)) for line in page.lines) == lines


@pytest.mark.parametrize("letter", ["x", "€", "😀"])
def test_a_long_line_is_cut_and_says_so(letter: str) -> None:
    (page,) = cut_page(LogPage((letter * 1_000_000,)))
    (line,) = page.lines
    assert isinstance(line, str)
    assert MAX_LINE_BYTES - 10 < len(line.encode()) <= MAX_LINE_BYTES
    assert line.startswith(letter * 1000)
    assert line.endswith(" ... (cut here)")


def test_a_structured_line_is_cut_and_the_connectors_own_is_left_alone() -> None:
    own = LogLine(message="x" * 1_000_000, originator=USER)
    (page,) = cut_page(LogPage((own,)))
    (line,) = page.lines
    assert isinstance(line, LogLine)
    assert line.ByteSize() < MAX_LINE_BYTES + 100
    assert line.originator == USER
    assert len(own.message) == 1_000_000


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert cut_page(LogPage(("caf\udce9",))) == [LogPage(("caf?",))]
