"""Calls from another loop: they run on the serving one, wait for slow readers, and end with their caller."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest
from flyteidl.service import agent_pb2
from google.protobuf.descriptor import MethodDescriptor
from grpc import StatusCode

from connector_core.http import ServedCalls
from connector_core.http.servicer_calls import CallContext, CallFailed
from tests.fakes import PATIENCE, Never, eventually, happens
from tests.support.background import in_background

_METHODS: Any = agent_pb2.DESCRIPTOR.services_by_name["AsyncAgentService"].methods_by_name
GET: MethodDescriptor = _METHODS["GetTask"]
LOGS: MethodDescriptor = _METHODS["GetTaskLogs"]


class Servicer:
    """Answers what a test says, and knows where it ran."""

    def __init__(self) -> None:
        self.given = 0
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.never = Never()
        self.closed = threading.Event()

    async def GetTask(self, raw: bytes, context: CallContext) -> bytes:
        self.loops.add(asyncio.get_running_loop())
        if raw == b"never":
            await self.never.wait()
        if raw == b"fail":
            await context.abort(StatusCode.NOT_FOUND, "no such job", (("grpc-status-details-bin", b"more"),))
        return raw + f" {context.time_remaining() is not None}".encode()

    async def GetTaskLogs(self, raw: bytes, context: CallContext) -> AsyncIterator[bytes]:
        try:
            for self.given in range(1, 1 + int(raw)):
                yield str(self.given).encode()
            if raw == b"3":
                await context.abort(StatusCode.INTERNAL, "three is too many")
        finally:
            self.closed.set()


@asynccontextmanager
async def _served(servicer: Servicer) -> AsyncIterator[ServedCalls]:
    yield ServedCalls({"flyteidl.service.AsyncAgentService": servicer})


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def calls(servicer: Servicer) -> Iterator[ServedCalls]:
    """Calls on a serving loop in a thread; the test's own loop is the one that serves HTTP."""
    with in_background(_served(servicer)) as calls:
        yield calls


def on_serving_loop(calls: ServedCalls, work: Any) -> "asyncio.Future[Any]":
    return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, calls._loop))


async def test_a_call_runs_on_the_serving_loop(servicer: Servicer, calls: ServedCalls) -> None:
    assert await calls.unary(GET, b"x", None) == (b"x False", {})
    assert await calls.unary(GET, b"x", 60) == (b"x True", {})
    assert servicer.loops == {calls._loop}
    assert asyncio.get_running_loop() not in servicer.loops


async def test_what_a_call_is_aborted_with_comes_back(calls: ServedCalls) -> None:
    with pytest.raises(CallFailed, match="no such job") as failed:
        await calls.unary(GET, b"fail", None)
    assert (failed.value.code, failed.value.rich) == (StatusCode.NOT_FOUND, b"more")


async def test_a_call_that_its_servicer_does_not_end_in_time_is_cut(servicer: Servicer, calls: ServedCalls) -> None:
    with pytest.raises(CallFailed) as failed:
        await calls.unary(GET, b"never", 0.01)
    assert failed.value.code is StatusCode.DEADLINE_EXCEEDED
    await happens(servicer.never.cancelled)


async def test_a_caller_that_goes_cancels_its_call(servicer: Servicer, calls: ServedCalls) -> None:
    call = asyncio.create_task(calls.unary(GET, b"never", None))
    await happens(servicer.never.begun)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await happens(servicer.never.cancelled)


async def test_a_stream_comes_in_order_and_ends(calls: ServedCalls) -> None:
    answers = [answer async for answer in calls.stream(LOGS, b"100", None)]
    assert answers == [str(number).encode() for number in range(1, 101)]


async def test_a_stream_ends_with_its_error_after_its_messages(calls: ServedCalls) -> None:
    stream = calls.stream(LOGS, b"3", None)
    assert [await anext(stream) for _ in range(3)] == [b"1", b"2", b"3"]
    with pytest.raises(CallFailed, match="three is too many"):
        await anext(stream)


async def test_a_stream_waits_for_its_reader(servicer: Servicer, calls: ServedCalls) -> None:
    async with contextlib.aclosing(calls.stream(LOGS, b"1000", None)) as stream:
        assert await anext(stream) == b"1"
        await eventually(lambda: servicer.given == 17)  # 16 on their way, and the one that waits
        for _ in range(10):
            await calls.ask(lambda: None, PATIENCE)
        assert servicer.given == 17
        assert [int(answer) async for answer in stream] == list(range(2, 1001))


async def test_a_reader_that_goes_ends_the_stream(servicer: Servicer, calls: ServedCalls) -> None:
    stream = calls.stream(LOGS, b"1000000", None)
    await anext(stream)
    await stream.aclose()
    await happens(servicer.closed)


async def test_a_reader_that_goes_with_an_error_on_its_way_leaves_nothing_unsaid(
    servicer: Servicer, calls: ServedCalls
) -> None:
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    stream = calls.stream(LOGS, b"3", None)
    await anext(stream)
    await happens(servicer.closed)
    await calls.ask(lambda: None, PATIENCE)
    await stream.aclose()
    assert problems == []


async def test_a_question_is_answered_on_the_serving_loop(calls: ServedCalls) -> None:
    assert await calls.ask(asyncio.get_running_loop, PATIENCE) is calls._loop


async def test_a_question_is_given_up_where_that_loop_is_stuck(calls: ServedCalls) -> None:
    release = threading.Event()
    calls._loop.call_soon_threadsafe(release.wait, PATIENCE)
    try:
        with pytest.raises(TimeoutError):
            await calls.ask(lambda: None, 0.01)
    finally:
        release.set()


async def test_draining_lets_calls_end_and_takes_no_new_ones(servicer: Servicer, calls: ServedCalls) -> None:
    stream = calls.stream(LOGS, b"100", None)
    assert await anext(stream) == b"1"
    draining = on_serving_loop(calls, calls.drain(PATIENCE))
    await calls.ask(lambda: None, PATIENCE)
    with pytest.raises(CallFailed) as refused:
        await calls.unary(GET, b"x", None)
    assert refused.value.code is StatusCode.UNAVAILABLE
    assert not draining.done()
    assert len([answer async for answer in stream]) == 99
    await draining


async def test_what_outlasts_the_grace_is_cut_and_told_so(servicer: Servicer, calls: ServedCalls) -> None:
    call = asyncio.create_task(calls.unary(GET, b"never", None))
    await happens(servicer.never.begun)
    await on_serving_loop(calls, calls.drain(0))
    with pytest.raises(CallFailed, match="the host stopped before this call had ended"):
        await call


async def test_a_serving_loop_that_has_ended_is_told_as_such(servicer: Servicer) -> None:
    with in_background(_served(servicer)) as calls:
        pass
    with pytest.raises(CallFailed, match="the host has stopped"):
        await calls.unary(GET, b"x", None)


async def test_a_context_counts_down_and_never_below_nothing() -> None:
    assert CallContext(None).time_remaining() is None
    assert CallContext(0).time_remaining() == 0
    left = CallContext(60).time_remaining()
    assert left is not None
    assert 50 < left <= 60


async def test_aborting_without_details_is_possible() -> None:
    async def abort() -> NoReturn:
        await CallContext(None).abort(StatusCode.CANCELLED)

    with pytest.raises(CallFailed) as failed:
        await abort()
    assert (failed.value.details, failed.value.rich) == ("", b"")
