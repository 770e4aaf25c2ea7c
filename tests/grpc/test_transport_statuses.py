"""What a call ends with on a server on gRPC's core, whatever its handler or its client does."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from tests.support.bytes_server import (
    ARITIES,
    NUMBERS,
    SERVICE,
    both,
    echo,
    into,
    one,
    out,
    outcome,
    serving,
)

SECRET = "hunter2-and-nobody-else"


class TestStatuses:
    async def test_an_abort_arrives_with_details_and_metadata(self, transport: str) -> None:
        trailing = (("why", "because"), ("raw-bin", b"\0\xff"))

        async def refuse(_request: Any, context: Any) -> bytes:
            await context.abort(StatusCode.FAILED_PRECONDITION, "größer: 數", trailing)
            raise AssertionError("abort returned")

        async def refuse_later(_request: Any, context: Any) -> AsyncIterator[bytes]:
            yield b"first"
            await context.abort(StatusCode.FAILED_PRECONDITION, "größer: 數", trailing)

        handlers = {"One": one(refuse), "Out": out(refuse_later), "Into": into(refuse), "Both": both(refuse_later)}
        async with serving(transport, **handlers) as server:
            for call in (server.one("One"), server.out("Out"), server.into("Into"), server.both("Both")):
                assert await outcome(call) == (StatusCode.FAILED_PRECONDITION, "größer: 數")
                assert set(trailing) <= {tuple(pair) for pair in await call.trailing_metadata()}

    async def test_an_abort_that_the_handler_swallows_still_ends_the_call(self, transport: str) -> None:
        async def swallow(_request: Any, context: Any) -> bytes:
            with contextlib.suppress(BaseException):
                await context.abort(StatusCode.NOT_FOUND, "gone")
            return b"answer"

        async def swallow_and_write(_request: Any, context: Any) -> AsyncIterator[bytes]:
            with contextlib.suppress(BaseException):
                await context.abort(StatusCode.NOT_FOUND, "gone")
            yield b"answer"

        async with serving(transport, One=one(swallow), Out=out(swallow_and_write)) as server:
            for call in (server.one("One"), server.out("Out")):
                assert await outcome(call) == (StatusCode.NOT_FOUND, "gone")

    async def test_an_abort_is_told_at_once_however_long_the_handler_cleans_up(self, transport: str) -> None:
        is_clean = asyncio.Event()

        async def clean_up(_request: Any, context: Any) -> bytes:
            try:
                await context.abort(StatusCode.NOT_FOUND, "gone")
            finally:
                await is_clean.wait()
            return b""

        async with serving(transport, One=one(clean_up)) as server:
            assert await outcome(server.one("One")) == (StatusCode.NOT_FOUND, "gone")
            is_clean.set()

    async def test_an_exception_is_logged_and_not_told(self, caplog: pytest.LogCaptureFixture) -> None:
        async def fail(_request: Any, _context: Any) -> bytes:
            raise ValueError(SECRET)

        async def fail_later(_request: Any, _context: Any) -> AsyncIterator[bytes]:
            yield b"first"
            raise ValueError(SECRET)

        handlers = {"One": one(fail), "Out": out(fail_later), "Into": into(fail), "Both": both(fail_later)}
        async with serving("core", **handlers) as server:
            calls = (server.one, server.out, server.into, server.both)
            for name, call in zip(handlers, calls, strict=True):
                caplog.clear()
                assert await outcome(call(name)) == (StatusCode.UNKNOWN, "internal error in the host; see its log")
                (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
                assert f"/{SERVICE}/{name}" in record.getMessage()
                assert record.exc_info is not None
                assert SECRET in str(record.exc_info[1])
                assert record.exc_info[2] is not None

    async def test_an_exception_ends_the_call_as_unknown(self, transport: str) -> None:
        async def fail(_request: Any, _context: Any) -> bytes:
            raise ValueError(SECRET)

        async with serving(transport, One=one(fail)) as server:
            assert (await outcome(server.one("One")))[0] is StatusCode.UNKNOWN
            assert (await outcome(server.one("One")))[0] is StatusCode.UNKNOWN

    @pytest.mark.parametrize("name", ["One", "Out", "Written"])
    async def test_what_no_handler_of_exceptions_catches_ends_the_call(self, name: str) -> None:
        class OutOfReachError(BaseException):
            pass

        async def fail(_request: Any, _context: Any) -> bytes:
            raise OutOfReachError(SECRET)

        async def fail_later(_request: Any, _context: Any) -> AsyncIterator[bytes]:
            yield b"first"
            raise OutOfReachError(SECRET)

        async with serving("core", One=one(fail), Out=out(fail_later), Written=out(fail), Echo=one(echo)) as server:
            call = server.one(name) if name == "One" else server.out(name)
            assert await outcome(call) == (StatusCode.UNKNOWN, "internal error in the host; see its log")
            assert await server.one("Echo", b"x") == b"x"

    async def test_a_handler_that_cancels_itself_ends_the_call_as_cancelled(self) -> None:
        async def cancel(_request: Any, _context: Any) -> bytes:
            raise asyncio.CancelledError

        async def cancel_later(_request: Any, _context: Any) -> AsyncIterator[bytes]:
            yield b"first"
            raise asyncio.CancelledError

        async with serving("core", One=one(cancel), Out=out(cancel_later)) as server:
            for call in (server.one("One"), server.out("Out")):
                assert (await outcome(call))[0] is StatusCode.CANCELLED

    @pytest.mark.parametrize("path", [f"/{SERVICE}/Other", "/other.Service/One", "/", "/x"])
    async def test_what_is_not_served_is_unimplemented(self, transport: str, path: str) -> None:
        async with serving(transport, One=one(echo)) as server:
            unary: Any = server.channel.unary_unary(path)
            stream: Any = server.channel.unary_stream(path)
            assert (await outcome(unary(b"")))[0] is StatusCode.UNIMPLEMENTED
            assert (await outcome(stream(b"")))[0] is StatusCode.UNIMPLEMENTED

    async def test_a_request_over_the_limit_is_refused(self, transport: str) -> None:
        async with serving(transport, options=[("grpc.max_receive_message_length", 1000)], **ARITIES) as server:
            calls = (
                server.one("Echo", b"x" * 1001),
                server.out("Repeat", b"x" * 1001),
                server.into("Count", iter([b"", b"x" * 1001])),
                server.both("Echoes", iter([b"", b"x" * 1001])),
            )
            for call in calls:
                assert (await outcome(call))[0] is StatusCode.RESOURCE_EXHAUSTED
            assert await server.one("Echo", b"x" * 1000) == b"x" * 1000

    async def test_bytes_that_are_no_message_end_the_call(self, transport: str) -> None:
        async with serving(transport, **NUMBERS) as server:
            for call in (server.one("One", b"x"), server.both("Both", iter([b"1", b"x"]))):
                assert (await outcome(call))[0] in {StatusCode.INTERNAL, StatusCode.UNKNOWN}

    async def test_answers_that_are_no_bytes_end_the_call(self, transport: str) -> None:
        async def give(_request: Any, _context: Any) -> Any:
            return 7

        async def give_many(_request: Any, _context: Any) -> AsyncIterator[Any]:
            yield 7

        handlers = {"One": one(give), "Out": out(give_many), "Into": into(give), "Both": both(give_many)}
        async with serving(transport, **handlers) as server:
            for call in (server.one("One"), server.out("Out"), server.into("Into"), server.both("Both")):
                assert (await outcome(call))[0] in {StatusCode.INTERNAL, StatusCode.UNKNOWN}

    @pytest.mark.parametrize(
        "trailing", [("Not A Key", "x"), ("key", "line\nbreak"), ("key", "größer"), ("key", 7), (7, "x")]
    )
    async def test_metadata_that_cannot_be_sent_ends_the_call(self, trailing: Any) -> None:
        async def refuse(_request: Any, context: Any) -> bytes:
            await context.abort(StatusCode.NOT_FOUND, "gone", (trailing,))
            return b""

        async def refuse_later(_request: Any, context: Any) -> AsyncIterator[bytes]:
            yield b""
            await context.abort(StatusCode.NOT_FOUND, "gone", (trailing,))

        async with serving("core", One=one(refuse), Out=out(refuse_later)) as server:
            for call in (server.one("One"), server.out("Out")):
                assert await outcome(call) == (StatusCode.UNKNOWN, "internal error in the host; see its log")

    async def test_a_handler_that_cannot_be_found_out_ends_the_call(self) -> None:
        class Broken(grpc.GenericRpcHandler):
            def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
                raise ValueError(SECRET)

        async with serving("core", One=one(echo)) as server:
            server.server.add_generic_rpc_handlers([Broken()])
            unary: Any = server.channel.unary_unary("/other.Service/One")
            assert await outcome(unary(b"")) == (StatusCode.UNKNOWN, "internal error in the host; see its log")
            assert await server.one("One", b"x") == b"x"


class TestOddClients:
    """What only a client does that writes frames by itself; some of it hangs `grpc.aio`, or ends its server."""

    @pytest.mark.parametrize("name", ["Echo", "Repeat"])
    async def test_a_call_that_ends_without_its_request_has_a_status(self, name: str) -> None:
        async with serving("core", **ARITIES) as server, server.frames() as client:
            assert await client.status(client.call(name)) != b"RST_STREAM"
            assert await server.one("Echo", b"x") == b"x"

    async def test_a_stream_that_ends_without_requests_is_answered(self, transport: str) -> None:
        async with serving(transport, **ARITIES) as server, server.frames() as client:
            assert b"grpc-status" in await client.status(client.call("Count"))

    async def test_a_path_that_is_no_text_does_no_harm(self) -> None:
        async with serving("core", **ARITIES) as server:
            for path in (b"/\xff/\xfe", b"/", b"x", b""):
                async with server.frames() as client:
                    with contextlib.suppress(EOFError):
                        await client.status(client.call(path, b"x"))
            assert await server.one("Echo", b"x") == b"x"

    async def test_requests_after_the_first_of_a_unary_call_do_no_harm(self, transport: str) -> None:
        async with serving(transport, **ARITIES) as server, server.frames() as client:
            await client.status(client.call("Echo", b"one", b"two"))
            assert await server.one("Echo", b"x") == b"x"
