"""Log lines, page by page and as they come."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_core import InvalidInputError
from connector_plugin_process.logs import MAX_LINE_BYTES, MAX_PAGE_LINES, read_page


class FinishedJob(SimpleNamespace):
    """As much of a job as pages are read from."""

    def is_running(self) -> bool:
        return False


@pytest.fixture
def finished(tmp_path: Path) -> Any:
    return FinishedJob(stdout=tmp_path / "stdout", stderr=tmp_path / "stderr")


def pages(job: Any, limit: int) -> list[list[Any]]:
    found: list[list[Any]] = []
    token = ""
    while True:
        page = read_page(job, token, limit)
        found.append(list(page.lines))
        if not page.token:
            return found
        assert page.token != token, "a finished job's page leads on"
        token = page.token


def test_pages_go_on_where_the_token_says_and_end_without_one(finished: Any) -> None:
    finished.stdout.write_bytes(b"1\n2\n3\n4\n5\n")
    assert pages(finished, 2) == [["1", "2"], ["3", "4"], ["5"]]
    assert pages(finished, 5) == [["1", "2", "3", "4", "5"]]
    assert pages(finished, 100) == [["1", "2", "3", "4", "5"]]


def test_both_streams_are_in_a_page_and_neither_keeps_the_other_waiting(finished: Any) -> None:
    finished.stdout.write_bytes(b"".join(b"out %d\n" % i for i in range(6)))
    finished.stderr.write_bytes(b"err 0\nerr 1\nerr 2\n")
    assert pages(finished, 4) == [
        ["out 0", "out 1", "err 0", "err 1"],
        ["out 2", "out 3", "out 4", "err 2"],
        ["out 5"],
    ]


def test_a_last_line_without_end_comes_when_the_job_is_over(finished: Any) -> None:
    finished.stdout.write_bytes(b"whole\r\npart")
    assert pages(finished, 10) == [["whole", "part"]]


def test_bytes_that_are_no_text_are_shown(finished: Any) -> None:
    finished.stdout.write_bytes(b"\xff\xfe ok \xc3\xa4\n")
    assert pages(finished, 10) == [["\\xff\\xfe ok ä"]]


def test_a_huge_line_comes_in_pieces_that_do_not_cut_characters(finished: Any) -> None:
    text = "a" + "ä" * 100_000
    finished.stdout.write_text(f"{text}\nnext\n")
    *pieces, following = (line for page in pages(finished, 3) for line in page)
    assert "".join(pieces) == text
    assert following == "next"
    assert all(len(piece.encode()) <= MAX_LINE_BYTES for piece in pieces)


def test_a_page_is_bounded_whatever_is_asked_for(finished: Any) -> None:
    finished.stdout.write_bytes(b"x\n" * (MAX_PAGE_LINES + 5))
    finished.stderr.write_bytes((b"y" * 1000 + b"\n") * 3000)
    found = pages(finished, 10**9)
    assert max(len(page) for page in found) <= MAX_PAGE_LINES
    assert max(sum(map(len, page)) for page in found) <= 1024 * 1024
    assert sum(map(len, found)) == MAX_PAGE_LINES + 5 + 3000


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(1, 5))
def test_every_line_comes_once_and_in_order(tmp_path_factory: Any, out: bytes, err: bytes, limit: int) -> None:
    folder = tmp_path_factory.mktemp("job")
    job = FinishedJob(stdout=folder / "stdout", stderr=folder / "stderr")
    job.stdout.write_bytes(out)
    job.stderr.write_bytes(err)
    expected = sorted(
        line.removesuffix(b"\r" if has_end else b"").decode(errors="backslashreplace")
        for data in (out, err)
        for line, has_end in split(data)
    )
    assert sorted(line for page in pages(job, limit) for line in page) == expected


def split(data: bytes) -> list[tuple[bytes, bool]]:
    *whole, last = data.split(b"\n")
    return [*((line, True) for line in whole), *([(last, False)] if last else [])]


@pytest.mark.parametrize("token", ["x", "1", "1-", "-1-2", "1-2-3", "1.0-2", "٣-٤x"])
def test_a_token_that_no_page_carried_is_refused(finished: Any, token: str) -> None:
    with pytest.raises(InvalidInputError, match="not a token of a log page"):
        read_page(finished, token, 1)


def test_a_job_whose_files_are_gone_has_no_lines(finished: Any) -> None:
    assert pages(finished, 10) == [[]]


async def test_one_page_is_answered_when_lines_are_asked_for(bench: Any) -> None:
    meta = bench.shell("seq 5; echo oops >&2")
    bench.end(meta)
    (first,) = [page async for page in bench.connector.get_logs(meta, 4, "")]
    assert first.lines == ["1", "2", "3", "oops"]
    (second,) = [page async for page in bench.connector.get_logs(meta, 4, first.token)]
    assert (second.lines, second.token) == (["4", "5"], "")


async def test_a_page_of_a_running_job_leaves_the_unfinished_line_and_says_how_to_go_on(bench: Any) -> None:
    ready, gate = bench.fifo("ready"), bench.fifo("gate")
    meta = bench.shell(f"printf 'one\\ntw'; echo > {ready}; read line < {gate}; echo o")
    ready.read_text()
    (first,) = [page async for page in bench.connector.get_logs(meta, 10, "")]
    assert first.lines == ["one"]
    (same,) = [page async for page in bench.connector.get_logs(meta, 10, first.token)]
    assert (same.lines, same.token) == ([], first.token)
    gate.write_text("go\n")
    bench.end(meta)
    (last,) = [page async for page in bench.connector.get_logs(meta, 10, first.token)]
    assert (last.lines, last.token) == (["two"], "")


async def test_a_running_job_is_followed_until_it_ends(bench: Any) -> None:
    gate = bench.fifo("gate")
    meta = bench.shell(f"echo one; read line < {gate}; echo two; echo three >&2; printf four")
    seen: list[str] = []
    async for page in bench.connector.get_logs(meta, 0, ""):
        seen.extend(page.lines)
        if seen == ["one"]:
            gate.write_text("go\n")
    assert seen[0] == "one"
    assert sorted(seen[1:]) == ["four", "three", "two"]


async def test_following_begins_at_the_token(bench: Any) -> None:
    meta = bench.shell("echo one; echo two")
    bench.end(meta)
    (first,) = [page async for page in bench.connector.get_logs(meta, 1, "")]
    rest = [line async for page in bench.connector.get_logs(meta, 0, first.token) for line in page.lines]
    assert rest == ["two"]


async def test_following_ends_when_the_job_is_deleted(bench: Any) -> None:
    meta = bench.shell("echo one; sleep 1000")
    seen = []
    async for page in bench.connector.get_logs(meta, 0, ""):
        seen.extend(page.lines)
        if page.lines:
            await bench.connector.delete(meta)
    assert seen == ["one"]
