"""Calls whose client cancels, runs out of time or goes: their handlers are told, wherever they wait, and end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest
from grpc import StatusCode

from connector_core.ports import grpc_options
from connector_core.settings import Settings
from tests.fakes import PATIENCE, eventually
from tests.support.bytes_server import (
    ARITIES,
    Cut,
    Served,
    both,
    calls_alive,
    into,
    one,
    out,
    outcome,
    serving,
    within_patience,
)

CHUNK = b"x" * 65536
FAR_TOO_MANY = 2000
"""Chunks that neither side has room for."""


class Waiting:
    """Handlers of a call with a request and none after it, to a client that reads no answer."""

    def __init__(self) -> None:
        self.cut = Cut()
        self.written = 0

    async def for_itself(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        await anext(requests)
        with self.cut:
            await asyncio.Event().wait()
        yield b""

    async def for_a_request(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        await anext(requests)
        with self.cut:
            await anext(requests)
        yield b""

    async def for_its_client_to_read(self, requests: AsyncIterator[bytes], context: Any) -> None:
        await anext(requests)
        with self.cut:
            await self.write(context)

    async def write(self, context: Any) -> None:
        for _ in range(FAR_TOO_MANY):
            await context.write(CHUNK)
            self.written += 1

    async def is_held_back(self, server: Served) -> None:
        """Wait until nothing is written for as long as many other calls take."""
        async with asyncio.timeout(PATIENCE):
            while True:
                before = self.written
                for _ in range(30):
                    await server.one("Echo")
                if before == self.written:
                    return


async def cut_call(server: Served, how: str, waiting: Waiting, *, held_back: bool) -> None:
    """Make a call, and cut it when its handler waits."""

    async def waits() -> None:
        await within_patience(waiting.cut.begun)
        if held_back:
            await waiting.is_held_back(server)

    if how in {"reset", "cut connection"}:
        async with server.frames() as raw:
            stream = raw.call("Wait", b"request", ends=False)
            await waits()
            raw.reset(stream) if how == "reset" else raw.cut()
            await within_patience(waiting.cut.ended)
        return
    async with server.another_client() as client:
        call = client.both("Wait", timeout=0.3 if how == "deadline" else None)
        await call.write(b"request")
        if how == "deadline":
            assert await call.code() is StatusCode.DEADLINE_EXCEEDED
        else:
            await waits()
        if how == "cancel":
            call.cancel()
        elif how == "closed channel":
            code = asyncio.ensure_future(call.code())  # older channels cancel only calls that somebody waits for
            await client.channel.close()
            assert await code is StatusCode.CANCELLED
        await within_patience(waiting.cut.ended)


HOW = ["cancel", "deadline", "closed channel", "reset", "cut connection"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("where", ["for_itself", "for_a_request", "for_its_client_to_read"])
async def test_a_handler_is_cancelled_wherever_it_waits(transport: str, where: str, how: str) -> None:
    waiting = Waiting()
    async with serving(transport, Wait=both(getattr(waiting, where)), **ARITIES) as server:
        await cut_call(server, how, waiting, held_back=where == "for_its_client_to_read")
        if transport == "core" or where == "for_itself":
            assert waiting.cut.by is asyncio.CancelledError
        else:  # to who reads, `grpc.aio` tells of an end of the requests, to who writes, of an error of its own
            assert waiting.cut.by is not None
        assert waiting.written < FAR_TOO_MANY
        assert await server.one("Echo", b"x") == b"x"


@pytest.mark.parametrize("how", HOW)
async def test_a_unary_handler_is_cancelled(transport: str, how: str) -> None:
    waiting = Waiting()

    async def wait(_request: bytes, _context: Any) -> bytes:
        with waiting.cut:
            await asyncio.Event().wait()
        return b""

    async with serving(transport, Wait=one(wait)) as server:
        await cut_call(server, how, waiting, held_back=False)
        assert waiting.cut.by is asyncio.CancelledError


async def test_a_generator_is_closed_in_its_own_task_and_context() -> None:
    mine = ContextVar("mine", default="nothing")
    tasks: list[asyncio.Task[Any] | None] = []
    found = asyncio.Queue[str]()

    async def endless(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        mine.set("set here")
        tasks.append(asyncio.current_task())
        try:
            while True:
                yield CHUNK
        finally:
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())
            await found.put(mine.get())

    async with serving("core", Endless=out(endless)) as server:
        call = server.out("Endless")
        assert await call.read() == CHUNK
        call.cancel()
        assert await asyncio.wait_for(found.get(), PATIENCE) == "set here"
        assert tasks[0] is tasks[1]


async def test_a_generator_is_closed_when_its_handler_fails_to_be_sent() -> None:
    closed = asyncio.Event()

    async def odd(_request: bytes, _context: Any) -> AsyncIterator[Any]:
        try:
            yield 7
        finally:
            closed.set()

    async with serving("core", Odd=out(odd)) as server:
        assert (await outcome(server.out("Odd")))[0] is StatusCode.UNKNOWN
        await within_patience(closed)


async def test_a_call_whose_client_has_gone_before_its_handler_began_leaves_no_handler_waiting(transport: str) -> None:
    begun = ended = 0
    before = calls_alive()

    async def wait(_request: Any, _context: Any) -> bytes:
        nonlocal begun, ended
        begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1
        return b""

    async with serving(transport, One=one(wait), Into=into(wait), **ARITIES) as server, server.frames() as client:
        for _ in range(200):
            client.call("One", b"request", resets=True)
            client.call("Into", b"request", ends=False, resets=True)
            client.call("One", ends=False, resets=True)
            client.call("One", ends=True, resets=True)
        await client.status(client.call("Echo", b"last"))
        await eventually(lambda: begun == ended)
        assert await server.one("Echo", b"x") == b"x"
        if transport == "core":
            await eventually(lambda: calls_alive() <= before)


async def test_requests_that_a_client_cuts_off_do_not_look_complete() -> None:
    read: list[list[bytes]] = []
    before = calls_alive()

    async def read_all(requests: AsyncIterator[bytes], _context: Any) -> bytes:
        read.append([request async for request in requests])
        return b""

    async with serving("core", Read=into(read_all), **ARITIES) as server, server.frames() as client:
        for _ in range(300):
            client.call("Read", b"first", b"second", ends=False, resets=True)
        streams = [client.call("Read", b"first", b"second", ends=False) for _ in range(300)]
        await client.status(client.call("Echo", b""))
        for stream in streams:
            client.reset(stream)
        await client.status(client.call("Echo", b""))
        await eventually(lambda: calls_alive() <= before)
    assert read == []


async def test_a_read_that_is_given_up_loses_no_message() -> None:
    given_up = asyncio.Queue[None]()
    reads: list[bytes] = []

    async def impatient(requests: AsyncIterator[bytes], _context: Any) -> bytes:
        while len(reads) < 3:
            try:
                async with asyncio.timeout(0.01):
                    reads.append(await anext(requests))
            except TimeoutError:
                given_up.put_nowait(None)
        return b""

    async with serving("core", Impatient=into(impatient)) as server:
        call = server.into("Impatient")
        for number in range(3):
            await asyncio.wait_for(given_up.get(), PATIENCE)
            await call.write(b"%d" % number)
        assert await call == b""
    assert reads == [b"0", b"1", b"2"]


class Stubborn:
    """Handlers that take no cancellation, and go on for so many times."""

    def __init__(self, times: int) -> None:
        self.cut = Cut()
        self.let_go = asyncio.Event()
        self.cancellations = 0
        self._times = times

    async def keep_writing(self, requests: AsyncIterator[bytes], context: Any) -> None:
        await self._keep(requests, lambda: context.write(CHUNK))

    async def keep_reading(self, requests: AsyncIterator[bytes], _context: Any) -> None:
        await self._keep(requests, lambda: anext(requests, None))

    async def keep_waiting(self, requests: AsyncIterator[bytes], _context: Any) -> None:
        await self._keep(requests, self.let_go.wait)

    async def _keep(self, requests: AsyncIterator[bytes], doing: Any) -> None:
        await anext(requests)
        with self.cut:
            while self.cancellations < self._times and not self.let_go.is_set():
                try:
                    await doing()
                except asyncio.CancelledError:
                    self.cancellations += 1


@pytest.mark.parametrize("what", ["keep_writing", "keep_reading"])
async def test_a_handler_that_goes_on_with_a_call_that_is_over_is_cancelled_again(what: str) -> None:
    stubborn = Stubborn(20)
    async with serving("core", Keep=both(getattr(stubborn, what)), **ARITIES) as server, server.frames() as client:
        stream = client.call("Keep", b"request", ends=False)
        await within_patience(stubborn.cut.begun)
        client.reset(stream)
        await within_patience(stubborn.cut.ended)
        assert stubborn.cancellations == 20
        assert await server.one("Echo", b"x") == b"x"


@pytest.mark.parametrize("what", ["keep_writing", "keep_reading", "keep_waiting"])
async def test_a_handler_that_takes_no_cancellation_does_not_hold_up_the_stop(what: str) -> None:
    stubborn = Stubborn(FAR_TOO_MANY)
    async with serving("core", Keep=both(getattr(stubborn, what)), **ARITIES) as server, server.frames() as client:
        client.call("Keep", b"request", ends=False)
        await within_patience(stubborn.cut.begun)
        async with asyncio.timeout(PATIENCE):
            await server.server.stop(0)
    stubborn.let_go.set()
    await within_patience(stubborn.cut.ended)


async def test_cancelling_a_call_that_has_been_answered_does_no_harm(transport: str) -> None:
    async with serving(transport, **ARITIES) as server:
        for _ in range(100):
            call = server.one("Echo", b"x")
            assert await call == b"x"
            call.cancel()
            late = server.one("Echo", b"x")
            asyncio.get_running_loop().call_soon(late.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await late
        assert await server.one("Echo", b"x") == b"x"


class TestSilentClients:
    """Clients that open calls and say nothing more, or are no longer there to say anything."""

    @pytest.mark.parametrize("name", ["Echo", "Count", "Echoes"])
    async def test_a_request_that_does_not_arrive_in_time_ends_its_call(self, name: str) -> None:
        async with serving("core", request_seconds=0.2, **ARITIES) as server, server.frames() as client:
            headers = await client.status(client.call(name, ends=False))
            assert b"grpc-status\x014" in headers or b"did not arrive within 0.2 s" in headers
            assert await server.one("Echo", b"x") == b"x"

    async def test_a_stream_without_its_inputs_ends_its_call_as_well(self) -> None:
        async with serving("core", request_seconds=0.2, **ARITIES) as server, server.frames() as client:
            assert b"did not arrive" in await client.status(client.call("Count", b"header", ends=False))

    async def test_a_stream_that_is_answered_may_be_silent(self) -> None:
        """Clients of reflection ask when somebody wants to know."""
        async with serving("core", request_seconds=0.1, **ARITIES) as server:
            call = server.both("Echoes")
            await call.write(b"x")
            assert await call.read() == b"x"
            await asyncio.sleep(0.4)
            await call.write(b"y")
            assert await call.read() == b"y"
            call.cancel()

    async def test_what_waits_inside_is_told(self) -> None:
        waiting = Waiting()
        async with (
            serving("core", request_seconds=0.1, Wait=both(waiting.for_a_request)) as server,
            server.frames() as client,
        ):
            client.call("Wait", b"x", ends=False)
            await within_patience(waiting.cut.ended)
            assert waiting.cut.by is asyncio.CancelledError

    async def test_the_calls_of_a_client_that_answers_no_ping_are_ended(self, transport: str) -> None:
        waiting = Waiting()
        options = grpc_options(Settings(keepalive_seconds=1))
        async with (
            serving(transport, options=options, Wait=both(waiting.for_itself)) as server,
            server.frames() as client,
        ):
            client.call("Wait", b"x", ends=False)
            await within_patience(waiting.cut.begun)
            client.read_nothing()
            await within_patience(waiting.cut.ended)

    async def test_one_that_answers_pings_may_be_silent_for_long(self, transport: str) -> None:
        waiting = Waiting()
        options = grpc_options(Settings(keepalive_seconds=0.2))
        async with serving(transport, options=options, Wait=both(waiting.for_itself)) as server:
            call = server.both("Wait")
            await call.write(b"x")
            await within_patience(waiting.cut.begun)
            await asyncio.sleep(3)
            assert not waiting.cut.ended.is_set()
            call.cancel()

    async def test_a_connection_has_so_many_calls_and_not_more(self, transport: str) -> None:
        cuts = list[Cut]()

        async def wait(_request: bytes, _context: Any) -> bytes:
            cuts.append(Cut())
            with cuts[-1]:
                await asyncio.Event().wait()
            return b""

        options = grpc_options(Settings(max_concurrent_streams=3))
        async with serving(transport, options=options, Wait=one(wait)) as server, server.frames() as client:
            calls = [client.call("Wait", b"x") for _ in range(10)]
            assert await client.status(calls[-1]) == b"RST_STREAM"
            await eventually(lambda: len(cuts) == 3)

    async def test_a_server_has_so_many_connections_and_silent_ones_not_for_long(self, transport: str) -> None:
        options = [("grpc.max_allowed_incoming_connections", 2), ("grpc.server_handshake_timeout_ms", 300)]
        async with serving(transport, options=options, **ARITIES) as server:
            silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
            assert await server.one("Echo", b"x", wait_for_ready=True) == b"x"
            for reader, writer in silent:
                async with asyncio.timeout(PATIENCE):
                    with contextlib.suppress(ConnectionError):
                        await reader.read()
                writer.close()
