"""What goes in and comes out of a server on gRPC's core is what `grpc.aio` lets through: messages, metadata, statuses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from tests.fakes import PATIENCE
from tests.support.bytes_server import (
    ARITIES,
    MANY,
    NUMBERS,
    SERVICE,
    Served,
    both,
    into,
    one,
    out,
    outcome,
    serving,
)

MEGABYTES = b"0123456789abcdef" * 640 * 1024
SECRET = "hunter2-and-nobody-else"


async def written(request: bytes, context: Any) -> None:
    for _ in range(3):
        await context.write(request)


async def every_arity(server: Served, message: bytes, number: int) -> None:
    """Call methods of the four arities with a message, and hold the answers to it."""
    assert await server.one("Echo", message) == message
    assert [answer async for answer in server.out("Repeat", message)] == [message] * MANY
    assert await server.into("Count", iter([message] * number)) == b"%d" % number
    assert [answer async for answer in server.both("Echoes", iter([message] * number))] == [message] * number


class TestMessages:
    @pytest.mark.parametrize("message", [b"", b"text", bytes(range(256)) * 16])
    async def test_each_arity_is_answered(self, transport: str, message: bytes) -> None:
        async with serving(transport, **ARITIES) as server:
            await every_arity(server, message, 3)
            await every_arity(server, message, 0)

    async def test_a_thousand_messages_go_each_way(self, transport: str) -> None:
        messages = [b"%d" % number for number in range(MANY)]
        async with serving(transport, **ARITIES) as server:
            assert [answer async for answer in server.both("Echoes", iter(messages))] == messages
            assert await server.into("Count", iter(messages)) == b"1000"

    async def test_a_large_message_goes_both_ways(self, transport: str) -> None:
        async with serving(transport, options=[("grpc.max_receive_message_length", -1)], **ARITIES) as server:
            assert await server.one("Echo", MEGABYTES) == MEGABYTES
            assert [answer async for answer in server.both("Echoes", iter([MEGABYTES] * 2))] == [MEGABYTES] * 2

    async def test_answers_may_be_written_instead_of_yielded(self, transport: str) -> None:
        async with serving(transport, Written=out(written)) as server:
            assert [answer async for answer in server.out("Written", b"x")] == [b"x"] * 3

    async def test_compressed_requests_are_read(self, transport: str) -> None:
        async with (
            serving(transport, **ARITIES) as server,
            server.another_client(compression=grpc.Compression.Gzip) as client,
        ):
            assert await client.one("Echo", b"x" * 100_000) == b"x" * 100_000
            assert await client.into("Count", iter([b"x" * 10_000] * 5)) == b"5"

    async def test_messages_are_read_and_written_as_their_handler_says(self, transport: str) -> None:
        async with serving(transport, **NUMBERS) as server:
            assert await server.one("One", b"21") == b"42"
            assert [answer async for answer in server.both("Both", iter([b"1", b"2"]))] == [b"2", b"4"]


class TestManyAtOnce:
    async def test_five_hundred_calls_are_under_way_together(self, transport: str) -> None:
        waiting = 0
        all_are_here = asyncio.Event()

        async def meet(request: bytes, _context: Any) -> bytes:
            nonlocal waiting
            waiting += 1
            if waiting == 500:
                all_are_here.set()
            await all_are_here.wait()
            return request

        async with serving(transport, Meet=one(meet)) as server, asyncio.timeout(PATIENCE):
            requests = [b"%d" % number for number in range(500)]
            assert await asyncio.gather(*(server.one("Meet", request) for request in requests)) == requests

    async def test_many_connections_are_served(self, transport: str) -> None:
        async with serving(transport, **ARITIES) as server, contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(server.another_client(number)) for number in range(40)]
            answers = await asyncio.gather(*(client.one("Echo", b"x") for client in clients for _ in range(5)))
            assert answers == [b"x"] * 200

    async def test_calls_see_only_their_own_context_variables_besides_those_of_the_start(self, transport: str) -> None:
        of_the_start, of_a_call = ContextVar("of_the_start", default=b""), ContextVar("of_a_call", default=b"none")

        async def swap(request: bytes, _context: Any) -> bytes:
            found = of_the_start.get() + b" " + of_a_call.get()
            of_a_call.set(request)
            await asyncio.sleep(0)
            return found + b" " + of_a_call.get()

        of_the_start.set(b"started")
        async with serving(transport, Swap=one(swap)) as server:
            of_the_start.set(b"changed")
            answers = await asyncio.gather(*(server.one("Swap", b"%d" % number) for number in range(20)))
        assert answers == [b"started none %d" % number for number in range(20)]


class TestWhatACallSays:
    async def ask(self, transport: str, question: Any, **options: Any) -> list[Any]:
        """Return what a handler of each arity finds out of its context."""
        found = []

        async def unary(_request: Any, context: Any) -> bytes:
            found.append(question(context))
            return b""

        async def stream(_request: Any, context: Any) -> AsyncIterator[bytes]:
            found.append(question(context))
            yield b""

        handlers = {"One": one(unary), "Out": out(stream), "Into": into(unary), "Both": both(stream)}
        async with serving(transport, **handlers) as server:
            calls = (
                server.one("One", **options),
                server.out("Out", **options),
                server.into("Into", iter([b""]), **options),
                server.both("Both", iter([b""]), **options),
            )
            assert [await outcome(call) for call in calls] == [(StatusCode.OK, "")] * 4
        return found

    async def test_text_and_bytes_in_metadata_arrive(self, transport: str) -> None:
        sent = (("key", "text"), ("key", "twice"), ("raw-bin", bytes(range(256))))
        for metadata in await self.ask(transport, lambda context: context.invocation_metadata(), metadata=sent):
            assert [tuple(pair) for pair in metadata if pair[0] in {"key", "raw-bin"}] == list(sent)

    async def test_the_peer_has_an_address(self, transport: str) -> None:
        for peer in await self.ask(transport, lambda context: context.peer()):
            assert peer.startswith("ipv4:127.0.0.1:")

    async def test_the_time_that_is_left_is_below_the_deadline(self, transport: str) -> None:
        for left in await self.ask(transport, lambda context: context.time_remaining(), timeout=600):
            assert 0 < left <= 601

    async def test_without_a_deadline_no_time_is_left_to_tell(self, transport: str) -> None:
        assert await self.ask(transport, lambda context: context.time_remaining()) == [None] * 4


class Recording(grpc.aio.ServerInterceptor):
    def __init__(self, name: str, seen: list[tuple[str, str]], instead: Any = None) -> None:
        self.name = name
        self.seen = seen
        self.instead = instead

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.seen.append((self.name, handler_call_details.method))
        assert ("key", "text") in [tuple(pair) for pair in handler_call_details.invocation_metadata]
        return self.instead or await continuation(handler_call_details)


class TestInterceptors:
    async def call(self, transport: str, interceptors: Iterable[Recording]) -> bytes:
        async with serving(transport, interceptors=list(interceptors), **ARITIES) as server:
            answer: bytes = await server.one("Echo", b"x", metadata=[("key", "text")])
            return answer

    async def test_they_see_the_method_outermost_first(self, transport: str) -> None:
        seen: list[tuple[str, str]] = []
        assert await self.call(transport, [Recording("outer", seen), Recording("inner", seen)]) == b"x"
        assert seen == [("outer", f"/{SERVICE}/Echo"), ("inner", f"/{SERVICE}/Echo")]

    async def test_they_may_answer_instead(self, transport: str) -> None:
        async def answer(_request: bytes, _context: Any) -> bytes:
            return b"instead"

        seen: list[tuple[str, str]] = []
        interceptors = [Recording("outer", seen, one(answer)), Recording("inner", seen)]
        assert await self.call(transport, interceptors) == b"instead"
        assert [name for name, _method in seen] == ["outer"]

    async def test_one_that_fails_ends_the_call(self, transport: str) -> None:
        class Failing(grpc.aio.ServerInterceptor):
            async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
                raise ValueError(SECRET)

        async with serving(transport, interceptors=[Failing()], **ARITIES) as server:
            for call in (server.one("Echo"), server.out("Repeat")):
                assert (await outcome(call))[0] is StatusCode.UNKNOWN
