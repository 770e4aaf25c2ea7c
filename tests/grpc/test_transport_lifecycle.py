"""Servers on either transport start, stop with and without calls, come again, and leave nothing behind."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc import StatusCode

from connector_core.invocation.loops import loop_factory
from tests.fakes import PATIENCE, eventually
from tests.support.bytes_server import (
    ARITIES,
    NO_TEXT,
    Cut,
    Served,
    calls_alive,
    end_aio,
    one,
    opened,
    outcome,
    serving,
    waiters,
    within_patience,
)
from tests.support.environments import run


class Gate:
    """A unary handler that waits, and whom it holds."""

    def __init__(self) -> None:
        self.cut = Cut()
        self.is_open = asyncio.Event()

    async def wait(self, request: bytes, _context: Any) -> bytes:
        with self.cut:
            await self.is_open.wait()
        return request


@asynccontextmanager
async def call_under_way(transport: str) -> AsyncIterator[tuple[Served, Gate, Any]]:
    """Serve, with one call that waits at a gate."""
    gate = Gate()
    async with serving(transport, Wait=one(gate.wait), **ARITIES) as server:
        call = server.one("Wait", b"x")
        await within_patience(gate.cut.begun)
        yield server, gate, call


class TestStop:
    async def test_calls_in_flight_finish_and_new_ones_are_refused(self, transport: str) -> None:
        async with call_under_way(transport) as (server, gate, call):
            stop = asyncio.ensure_future(server.server.stop(PATIENCE))
            while (code := (await outcome(server.one("Echo", b"x")))[0]) is StatusCode.OK:
                pass  # it was begun before the stop was
            assert code in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
            assert not stop.done()
            gate.is_open.set()
            assert await call == b"x"
            await asyncio.wait_for(stop, PATIENCE)

    @pytest.mark.parametrize("grace", [0, None, 0.01])
    async def test_calls_are_cancelled_when_the_grace_is_over(self, transport: str, grace: float | None) -> None:
        async with call_under_way(transport) as (server, gate, call):
            await asyncio.wait_for(server.server.stop(grace), PATIENCE)
            assert (await outcome(call))[0] in {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}
            await within_patience(gate.cut.ended)
            assert gate.cut.by is asyncio.CancelledError

    async def test_a_second_stop_shortens_the_grace(self, transport: str) -> None:
        async with call_under_way(transport) as (server, gate, call):
            first = asyncio.ensure_future(server.server.stop(1000))
            await asyncio.sleep(0)
            second = asyncio.ensure_future(server.server.stop(0.01))
            await asyncio.wait_for(asyncio.gather(first, second), PATIENCE)
            assert (await outcome(call))[0] in {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}
            assert gate.cut.by is asyncio.CancelledError

    @pytest.mark.parametrize("grace", [0, None, 1000])
    async def test_a_server_without_calls_stops_at_once(self, transport: str, grace: float | None) -> None:
        async with serving(transport, **ARITIES) as server:
            assert await server.one("Echo", b"x") == b"x"
            await asyncio.wait_for(server.server.stop(grace), PATIENCE)
            await asyncio.wait_for(server.server.stop(grace), PATIENCE)

    async def test_a_server_that_nobody_called_stops_at_once(self, transport: str) -> None:
        server, _port = await opened(transport, ARITIES)
        await server.start()
        await asyncio.wait_for(server.stop(1000), PATIENCE)

    async def test_a_server_that_was_not_started_stops_at_once(self, transport: str) -> None:
        server, _port = await opened(transport, ARITIES)
        await asyncio.wait_for(server.stop(1000), PATIENCE)

    async def test_a_stop_that_is_given_up_does_not_keep_the_next_from_stopping(self, transport: str) -> None:
        async with call_under_way(transport) as (server, gate, _call):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await server.server.stop(1000)
            gate.is_open.set()
            await asyncio.wait_for(server.server.stop(1000), PATIENCE)

    async def test_nobody_waits_for_core_after_the_stop(self) -> None:
        before = waiters()
        async with serving("core", **ARITIES) as server:
            assert await server.one("Echo", b"x") == b"x"
            assert waiters() == before + 1
        assert waiters() == before

    async def test_calls_that_end_while_the_server_stops_do_no_harm(self, transport: str) -> None:
        for _ in range(20):
            async with serving(transport, **ARITIES) as server:
                calls = [outcome(server.one("Echo", b"x")) for _ in range(10)]
                calls += [outcome(server.both("Echoes", iter([b"x"] * 5))) for _ in range(5)]
                calls += [outcome(server.out("Repeat", b"x")) for _ in range(5)]
                under_way = asyncio.gather(*calls)
                await server.one("Echo")
                await asyncio.wait_for(server.server.stop(0), PATIENCE)
                codes = {code for code, _details in await under_way}
                # the client's own INTERNAL is for requests that it could not send any more
                assert codes <= {StatusCode.OK, StatusCode.CANCELLED, StatusCode.UNAVAILABLE, StatusCode.INTERNAL}


class TestAnswersAtTheEnd:
    """A connection is closed with the last of its calls, and what its client sends then must not cost it the answer."""

    async def test_a_large_answer_arrives_although_its_client_still_sends(self) -> None:
        size, gate = 100_000, asyncio.Event()
        begun = asyncio.Event()

        async def answer(_request: bytes, _context: Any) -> bytes:
            begun.set()
            await gate.wait()
            return b"x" * size

        async with serving("core", Large=one(answer)) as server, server.frames(receive_buffer=4096) as client:
            call = client.call("Large", b"")
            await within_patience(begun)
            stop = asyncio.create_task(server.server.stop(PATIENCE))
            await client.told_to_go()
            client.read_nothing()
            gate.set()
            # Its client reads nothing for a while; a server that does not wait for it has closed the connection by then.
            await asyncio.wait({stop}, timeout=0.3)
            client.ping()
            await client.status(call)
            assert client.received[call] == size + len(b"\0....")
            await stop

    async def test_20_answers_at_once_all_arrive(self) -> None:
        """As many small packets as these are more than a fresh connection may send unacknowledged."""
        for _ in range(20):
            barrier, gate = asyncio.Barrier(21), Gate()

            async def answer(
                request: bytes, context: Any, barrier: asyncio.Barrier = barrier, gate: Gate = gate
            ) -> bytes:
                await barrier.wait()
                return await gate.wait(request, context)

            async with serving("core", Answer=one(answer)) as server:
                calls = [asyncio.create_task(outcome(server.one("Answer", b"x"))) for _ in range(20)]
                await barrier.wait()
                stop = asyncio.create_task(server.server.stop(PATIENCE))
                gate.is_open.set()
                assert {code for code, _details in await asyncio.gather(*calls)} == {StatusCode.OK}
                await stop

    async def test_the_end_of_the_grace_sends_what_is_held(self) -> None:
        """A client that acknowledges nothing holds nobody up; others' answers are not thrown away with the rest."""
        gate, begun = asyncio.Event(), asyncio.Event()

        async def answer(request: bytes, _context: Any) -> bytes:
            begun.set()
            await gate.wait()
            return request

        async def stay(_request: bytes, _context: Any) -> bytes:
            await asyncio.Event().wait()
            return b""

        async with serving("core", Answer=one(answer), Stay=one(stay)) as server:
            stuck, call = asyncio.create_task(outcome(server.one("Stay"))), server.one("Answer", b"x")
            await within_patience(begun)
            server.server._held._unacknowledged = lambda: range(65536)  # type: ignore[attr-defined] # of the core's server
            stop = asyncio.create_task(server.server.stop(0.1))
            await asyncio.sleep(0)
            gate.set()
            assert await call == b"x"
            assert (await stuck)[0] in {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}
            await asyncio.wait_for(stop, PATIENCE)


class TestEndings:
    """Servers that end although nobody stops them."""

    async def test_aio_opens_again_and_calls_in_flight_are_answered(self) -> None:
        async with call_under_way("aio") as (server, gate, call):
            for number in range(2):
                async with server.frames() as client, server.another_client(number) as other:
                    client.call(NO_TEXT, b"x")
                    await eventually_refused(server.port)
                    assert await other.one("Echo", b"x", wait_for_ready=True) == b"x"
            gate.is_open.set()
            assert await call == b"x"

    async def test_aio_stops_with_calls_of_the_server_that_ended(self) -> None:
        async with call_under_way("aio") as (server, gate, call), server.frames() as client:
            client.call(NO_TEXT, b"x")
            await eventually_refused(server.port)
            async with server.another_client() as other:
                await other.one("Echo", b"x", wait_for_ready=True)
            await asyncio.wait_for(server.server.stop(0), PATIENCE)
            assert (await outcome(call))[0] in {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}
            await within_patience(gate.cut.ended)

    async def test_aio_says_when_its_port_cannot_be_opened_again(self) -> None:
        async with serving("aio", **ARITIES) as server:
            ended = asyncio.create_task(server.server.ended())
            with await end_aio(server.port):
                assert isinstance(await asyncio.wait_for(ended, PATIENCE), RuntimeError)

    async def test_core_says_when_nobody_waits_for_it_any_more(self) -> None:
        class Full(list[Any]):
            def append(self, _event: Any) -> None:
                raise MemoryError("no room")

        async with serving("core", **ARITIES) as server:
            server.server._completions._first = Full()  # type: ignore[attr-defined] # of the core's server
            call = server.one("Echo", b"x")
            assert isinstance(await asyncio.wait_for(server.server.ended(), PATIENCE), MemoryError)
            call.cancel()


async def eventually_refused(port: int) -> None:
    """Return when nobody listens."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            writer.close()


class TestPorts:
    async def test_a_port_can_be_served_again(self, transport: str) -> None:
        async with serving(transport, **ARITIES) as first:
            port = first.port
            assert await first.one("Echo", b"x") == b"x"
        async with serving(transport, port=port, **ARITIES) as second:
            assert second.port == port
            assert await second.one("Echo", b"x") == b"x"

    async def test_a_taken_port_is_an_error(self, transport: str) -> None:
        async with serving(transport, **ARITIES) as server:
            with pytest.raises(RuntimeError):
                await opened(transport, ARITIES, server.port)
            assert await server.one("Echo", b"x") == b"x"

    async def test_two_servers_live_in_one_process(self, transport: str) -> None:
        async with serving(transport, **ARITIES) as first, serving("core", **ARITIES) as second:
            answers = await asyncio.gather(*(one.one("Echo", b"x") for one in (first, second) for _ in range(50)))
            await first.server.stop(0)
            assert await second.one("Echo", b"x") == b"x"
        assert answers == [b"x"] * 100


async def some_of_each(server: Served, number: int) -> None:
    """Make calls that are answered, aborted and cancelled."""
    calls = [outcome(server.one("Echo", b"x")) for _ in range(number)]
    calls += [outcome(server.both("Echoes", iter([b"x"] * 3))) for _ in range(number)]
    calls += [outcome(server.one("Fail")) for _ in range(number)]
    calls += [outcome(server.one("Nowhere")) for _ in range(number)]
    cut = [
        call for _ in range(number) for call in (server.out("Repeat", b"x"), server.into("Count"), server.one("Wait"))
    ]
    await asyncio.gather(*calls)
    for call in cut:
        call.cancel()
    await asyncio.gather(*(outcome(call) for call in cut))


async def test_thousands_of_calls_leave_nothing_behind() -> None:
    async def fail(_request: bytes, context: Any) -> bytes:
        await context.abort(StatusCode.NOT_FOUND, "gone")
        return b""

    async def wait(_request: bytes, _context: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    before = calls_alive()
    async with serving("core", Fail=one(fail), Wait=one(wait), **ARITIES) as server:
        await some_of_each(server, 20)
        await eventually(lambda: calls_alive() <= before)
        tasks = len(asyncio.all_tasks())
        await some_of_each(server, 300)
        await eventually(lambda: calls_alive() <= before)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)


class TestLoops:
    """Not on the loop of the tests."""

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    @pytest.mark.parametrize("debug", [False, True])
    def test_calls_are_answered_and_cut_on_each_loop(self, transport: str, loop: str, debug: bool) -> None:
        with asyncio.Runner(debug=debug, loop_factory=loop_factory(loop)) as runner:
            runner.run(self.calls(transport))

    async def calls(self, transport: str) -> None:
        async with call_under_way(transport) as (server, gate, call):
            answers = await asyncio.gather(*(server.one("Echo", b"x") for _ in range(50)))
            assert answers == [b"x"] * 50
            assert [answer async for answer in server.both("Echoes", iter([b"x"] * 100))] == [b"x"] * 100
            call.cancel()
            await within_patience(gate.cut.ended)
            assert gate.cut.by is asyncio.CancelledError

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def test_a_loop_in_another_thread_serves(self, transport: str, loop: str) -> None:
        problems: list[BaseException] = []

        def serve() -> None:
            try:
                self.test_calls_are_answered_and_cut_on_each_loop(transport, loop, debug=False)
            except BaseException as problem:  # noqa: BLE001 - it is shown in the thread of the test
                problems.append(problem)

        thread = threading.Thread(target=serve)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert problems == []

    async def test_calls_are_answered_beside_threads_that_never_rest(self, transport: str) -> None:
        is_over = threading.Event()

        def burn() -> None:
            while not is_over.is_set():
                sum(range(10_000))

        threads = [threading.Thread(target=burn) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            async with serving(transport, **ARITIES) as server:
                answers = await asyncio.gather(*(server.one("Echo", b"x") for _ in range(20)))
                assert answers == [b"x"] * 20
                assert await server.into("Count", iter([b"x"] * 20)) == b"20"
        finally:
            is_over.set()
            for thread in threads:
                thread.join()


LEFT = """
import asyncio, contextlib, gc, sys, threading
import grpc
from tests.support.bytes_server import Cut, both, one, opened

async def wait(request, context):
    await asyncio.Event().wait()

async def forsake(transport, number):
    server, port = await opened(transport, {"Wait": one(wait)})
    await server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    calls = [channel.unary_unary("/test.Bytes/Wait").future(b"") for _ in range(number)]
    while len(asyncio.all_tasks()) < number + 1:
        await asyncio.sleep(0.01)
    return server, channel, calls

async def main(transport, number):
    return await forsake(transport, number)

loop = asyncio.new_event_loop()
transport, number, later = sys.argv[1], int(sys.argv[2]), sys.argv[3]
server, channel, calls = loop.run_until_complete(main(transport, number))
for task in asyncio.all_tasks(loop):
    task.cancel()
if number:
    loop.run_until_complete(asyncio.wait(asyncio.all_tasks(loop), timeout=1))
loop.close()
if later == "called":
    with contextlib.suppress(grpc.RpcError, grpc.FutureTimeoutError):
        channel.unary_unary("/test.Bytes/Wait")(b"", timeout=0.5)
if later == "collected":
    del server
    gc.collect()
channel.close()
print("left")
"""


@pytest.mark.parametrize("later", ["nothing", "called", "collected"])
@pytest.mark.parametrize("number", [0, 3])
def test_a_server_whose_loop_was_closed_under_it_lets_the_process_exit(number: int, later: str) -> None:
    assert run(sys.executable, "-c", LEFT, "core", str(number), later).stdout == "left\n"
