"""A job is watched from its creation to its end: polls that fail, logs of all kinds, Ctrl-C."""

import asyncio
import io
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, cast

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.metrics_pb2 import ExecutionMetricResult

from connector_core import Phase
from connector_core.cli.running.display import PlainView
from connector_core.cli.running.following import Attendance, LogReader
from connector_core.cli.running.host_client import CallError, Client, LogPiece
from connector_core.cli.running.job import Job
from connector_core.cli.running.session import Interrupted, Interrupts
from connector_core.task import TaskCategory

JOB = Job(TaskCategory("x"), b"meta")
Code = grpc.StatusCode


def resource(phase: Phase) -> agent_pb2.Resource:
    return agent_pb2.Resource(phase=phase.value)


def error(code: grpc.StatusCode) -> CallError:
    return CallError(f"answered {code.name}", code)


RUNNING, SUCCEEDED, ABORTED = resource(Phase.RUNNING), resource(Phase.SUCCEEDED), resource(Phase.ABORTED)
AWAY = error(Code.UNAVAILABLE)
NO_LOGS = error(Code.UNIMPLEMENTED)

Pages = Callable[[str], Iterable[LogPiece | CallError]]


class FakeClient:
    """A host that answers what a test says; the last state goes on for ever."""

    def __init__(
        self,
        states: Sequence[agent_pb2.Resource | CallError],
        deletes: Sequence[CallError | None] = (None,),
        pages: Pages = lambda _token: [NO_LOGS],
    ) -> None:
        self._states = list(states)
        self._deletes = list(deletes)
        self._pages = pages
        self.asked = 0
        self.is_own = False
        self.deleted = asyncio.Event()

    async def get(self, _job: Job) -> agent_pb2.Resource:
        self.asked += 1
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if isinstance(state, CallError):
            raise state
        return ABORTED if self.deleted.is_set() else state

    async def delete(self, _job: Job) -> None:
        failure = self._deletes.pop(0) if len(self._deletes) > 1 else self._deletes[0]
        if failure is not None:
            raise failure
        self.deleted.set()

    async def metrics(self, _job: Job) -> Sequence[ExecutionMetricResult]:
        raise error(Code.UNIMPLEMENTED)

    async def logs(self, _job: Job, token: str, _lines: int) -> AsyncIterator[LogPiece]:
        for piece in self._pages(token):
            if isinstance(piece, CallError):
                raise piece
            yield piece

    def as_client(self) -> Client:
        return cast("Client", self)


class Watched:
    """A job at a fake host, and what is seen of it."""

    def __init__(self, *states: agent_pb2.Resource | CallError, **more: Any) -> None:
        self.host = FakeClient(states, **more)
        self.interrupts = Interrupts()
        self._out = io.StringIO()
        self._attendance = Attendance(self.host.as_client(), JOB, PlainView(self._out), 0.01)

    async def until_end(self, *, owns: bool = True) -> agent_pb2.Resource:
        return await self._attendance.until_end(self.interrupts, owns=owns)

    @property
    def seen(self) -> list[str]:
        return self._out.getvalue().splitlines()


# Polls


async def test_a_job_is_asked_for_until_it_is_over() -> None:
    watched = Watched(RUNNING, RUNNING, SUCCEEDED)
    assert await watched.until_end() == SUCCEEDED
    assert watched.host.asked == 3
    assert watched.seen == ["RUNNING"]


async def test_a_host_that_is_away_for_a_moment_is_asked_again_and_that_is_said_once_each_time() -> None:
    watched = Watched(*[AWAY] * 5, RUNNING, *[AWAY] * 5, SUCCEEDED)
    assert await watched.until_end() == SUCCEEDED
    assert watched.seen.count("answered UNAVAILABLE; asking again") == 2


@pytest.mark.parametrize(("is_own", "asked"), [(True, 1), (False, 6)])
async def test_a_bug_in_this_process_is_not_asked_for_again(is_own: bool, asked: int) -> None:
    failures = [
        CallError(f"answered INTERNAL (see the host's log, reference {n:012x})", Code.INTERNAL) for n in range(6)
    ]
    watched = Watched(*failures)
    watched.host.is_own = is_own
    with pytest.raises(CallError, match="INTERNAL"):
        await watched.until_end()
    assert watched.host.asked == asked
    assert len(watched.seen) == (0 if is_own else 1)


async def test_after_six_failures_in_a_row_it_is_given_up_as_the_engine_does() -> None:
    watched = Watched(AWAY)
    with pytest.raises(CallError, match="UNAVAILABLE"):
        await watched.until_end()
    assert watched.host.asked == 6


async def test_what_asking_again_cannot_change_is_said_at_once() -> None:
    watched = Watched(error(Code.INVALID_ARGUMENT))
    with pytest.raises(CallError, match="INVALID_ARGUMENT"):
        await watched.until_end()
    assert watched.host.asked == 1


# Ctrl-C


async def test_ctrl_c_deletes_the_job_and_waits_for_its_end() -> None:
    watched = Watched(RUNNING)
    watched.interrupts.add(signal.SIGINT)
    assert await watched.until_end() == ABORTED
    assert watched.host.deleted.is_set()
    assert watched.interrupts.exit_code == 130


async def test_a_delete_that_does_not_get_through_is_repeated() -> None:
    watched = Watched(RUNNING, deletes=[AWAY, AWAY, None])
    watched.interrupts.add(signal.SIGTERM)
    assert await watched.until_end() == ABORTED
    assert watched.interrupts.exit_code == 143


@pytest.mark.parametrize("failure", [AWAY, error(Code.PERMISSION_DENIED)])
async def test_a_delete_that_fails_is_said(failure: CallError) -> None:
    watched = Watched(RUNNING, deletes=[failure])
    watched.interrupts.add(signal.SIGINT)
    with pytest.raises(CallError, match=failure.code.name):
        await watched.until_end()


async def test_a_job_that_its_connector_has_forgotten_when_deleted_is_over() -> None:
    watched = Watched(error(Code.NOT_FOUND))
    watched.interrupts.add(signal.SIGINT)
    assert (await watched.until_end()).phase == ABORTED.phase


async def test_a_second_ctrl_c_waits_no_longer() -> None:
    watched = Watched(RUNNING, deletes=[AWAY])
    watched.interrupts.add(signal.SIGINT)
    watched.interrupts.add(signal.SIGINT)
    with pytest.raises(Interrupted):
        await watched.until_end()


async def test_a_job_that_is_only_watched_goes_on_after_ctrl_c() -> None:
    watched = Watched(RUNNING)
    watched.interrupts.add(signal.SIGINT)
    with pytest.raises(Interrupted):
        await watched.until_end(owns=False)
    assert not watched.host.deleted.is_set()


async def test_what_is_over_before_ctrl_c_has_its_result() -> None:
    interrupts = Interrupts()

    async def work() -> str:
        return "done"

    assert await interrupts.before_first(work()) == "done"


async def test_what_ctrl_c_cuts_off_is_cleaned_up_before_going_on() -> None:
    interrupts, begun, cleaned = Interrupts(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    async def press() -> None:
        await begun.wait()
        interrupts.add(signal.SIGINT)

    pressing = asyncio.create_task(press())
    with pytest.raises(Interrupted):
        await interrupts.before_first(work())
    assert cleaned
    await pressing


# Logs


def lines(*texts: str, token: str = "") -> list[LogPiece | CallError]:
    """Return what comes over the wire for a page: its token, then its lines."""
    return [*([LogPiece([], token)] if token else []), *([LogPiece(texts)] if texts else [])]


async def read(pages: Pages, times: int) -> list[list[str]]:
    """Return what is shown by each of so many readings."""
    shown: list[str] = []
    reader = LogReader(FakeClient([RUNNING], pages=pages).as_client(), JOB, shown.extend)
    found = []
    for _ in range(times):
        shown.clear()
        await reader.read()
        found.append(list(shown))
    return found


async def test_pages_are_read_one_after_the_other() -> None:
    pages = {"": lines("a", "b", token="2"), "2": lines("c", token="3"), "3": lines("d")}
    assert await read(lambda token: pages[token], 5) == [["a", "b"], ["c"], ["d"], [], []]


async def test_a_page_without_news_keeps_the_place() -> None:
    answers = iter([lines("a", token="1"), lines(token="1"), [], lines("b", token="2")])
    assert await read(lambda _token: next(answers), 4) == [["a"], [], [], ["b"]]


async def test_a_log_that_comes_as_a_whole_each_time_is_shown_once() -> None:
    answers = iter([lines("a"), lines("a"), lines("a", "b", "c"), lines("a", "b", "c")])
    assert await read(lambda _token: next(answers), 4) == [["a"], [], ["b", "c"], []]


async def test_a_log_that_comes_as_a_whole_in_pieces_is_shown_once() -> None:
    answers = iter([[*lines("a"), *lines("b")], [*lines("a"), *lines("b", "c"), *lines("d")]])
    assert await read(lambda _token: next(answers), 2) == [["a", "b"], ["c", "d"]]


async def test_a_log_that_breaks_off_goes_on_where_it_did() -> None:
    shown: list[str] = []
    answers = iter([[*lines("a", "b"), AWAY], lines("a", "b", "c")])
    host = FakeClient([RUNNING], pages=lambda _token: next(answers))
    reader = LogReader(host.as_client(), JOB, shown.extend)
    with pytest.raises(CallError):
        await reader.read()
    await reader.read()
    assert shown == ["a", "b", "c"]


async def test_a_log_is_followed_to_what_was_written_last() -> None:
    pages = {"": lines("a", token="1"), "1": lines("b", token="2"), "2": lines("c")}
    watched = Watched(SUCCEEDED, pages=lambda token: pages[token])
    await watched.until_end()
    assert watched.seen == ["| a", "| b", "| c"]


async def test_a_log_that_is_away_or_not_there_yet_is_asked_for_again() -> None:
    answers = iter([[AWAY], [error(Code.NOT_FOUND)], lines("a")])
    watched = Watched(RUNNING, RUNNING, RUNNING, RUNNING, SUCCEEDED, pages=lambda _token: next(answers, lines("a")))
    await watched.until_end()
    assert watched.seen == ["RUNNING", "| a"]


async def test_a_connector_without_logs_is_not_complained_of() -> None:
    watched = Watched(SUCCEEDED)
    await watched.until_end()
    assert watched.seen == []


async def test_logs_that_fail_are_said_once_and_do_not_keep_the_job_from_its_end() -> None:
    watched = Watched(RUNNING, RUNNING, SUCCEEDED, pages=lambda _token: [error(Code.INTERNAL)])
    assert await watched.until_end() == SUCCEEDED
    assert watched.seen.count("the log cannot be followed: answered INTERNAL") == 1
