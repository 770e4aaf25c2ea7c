"""gRPC servers of raw bytes on either transport, their clients, and one that writes HTTP/2's frames by itself."""

import asyncio
import contextlib
import gc
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from connector_core.transport import GrpcServer, open_server
from tests.fakes import PATIENCE

TRANSPORTS = ("core", "aio")
SERVICE = "test.Bytes"

MANY = 1000

one: Any = grpc.unary_unary_rpc_method_handler
out: Any = grpc.unary_stream_rpc_method_handler
into: Any = grpc.stream_unary_rpc_method_handler
both: Any = grpc.stream_stream_rpc_method_handler


async def echo(request: bytes, _context: Any) -> bytes:
    """Answer with the request."""
    return request


async def repeat(request: bytes, _context: Any) -> AsyncIterator[bytes]:
    """Answer with the request, many times."""
    for _ in range(MANY):
        yield request


async def count(requests: AsyncIterator[bytes], _context: Any) -> bytes:
    """Answer with the number of requests."""
    return b"%d" % len([request async for request in requests])


async def echoes(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    """Answer with each request."""
    async for request in requests:
        yield request


def write_number(number: int) -> bytes:
    """Return the message for a number; `int` reads it."""
    return b"%d" % number


async def double(request: int, _context: Any) -> int:
    """Answer with twice the number."""
    return 2 * request


async def doubles(requests: AsyncIterator[int], _context: Any) -> AsyncIterator[int]:
    """Answer with twice each number."""
    async for request in requests:
        yield 2 * request


ARITIES: dict[str, Any] = {"Echo": one(echo), "Repeat": out(repeat), "Count": into(count), "Echoes": both(echoes)}
"""Methods of all four."""

NUMBERS: dict[str, Any] = {"One": one(double, int, write_number), "Both": both(doubles, int, write_number)}
"""Methods whose messages are no bytes."""

_OWN_PORT = ("grpc.so_reuseport", 0)
_ANY_SIZE = [("grpc.max_receive_message_length", -1)]


class Client:
    """Calls the methods of a server of bytes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel: Any = channel  # whose stubs know no calls without (de)serializers

    def one(self, name: str, request: bytes = b"", **options: Any) -> Any:
        """One message to, one message back."""
        return self.channel.unary_unary(f"/{SERVICE}/{name}")(request, **options)

    def out(self, name: str, request: bytes = b"", **options: Any) -> Any:
        """One message to, many back."""
        return self.channel.unary_stream(f"/{SERVICE}/{name}")(request, **options)

    def into(self, name: str, requests: Any = None, **options: Any) -> Any:
        """Many messages to, one back."""
        return self.channel.stream_unary(f"/{SERVICE}/{name}")(requests, **options)

    def both(self, name: str, requests: Any = None, **options: Any) -> Any:
        """Many messages both ways."""
        return self.channel.stream_stream(f"/{SERVICE}/{name}")(requests, **options)


class Served(Client):
    """A server of bytes, and a client of it."""

    def __init__(self, server: GrpcServer, port: int, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)
        self.server = server
        self.port = port
        self.address = f"127.0.0.1:{port}"

    @asynccontextmanager
    async def another_client(self, number: int = 1, **options: Any) -> AsyncIterator[Client]:
        """Connect once more; clients of different numbers have connections of their own."""
        arguments = [*_ANY_SIZE, ("client.number", number), *options.pop("options", ())]
        async with grpc.aio.insecure_channel(self.address, arguments, **options) as channel:
            yield Client(channel)

    def frames(self, receive_buffer: int = 0) -> "Frames":
        """Connect by frames."""
        return Frames(self.port, receive_buffer)


async def opened(
    transport: str, methods: dict[str, Any], port: int = 0, **arguments: Any
) -> tuple[GrpcServer, int]:  # the caller starts it, and stops it
    """Return a server that listens, and its port."""
    server = await open_server(
        transport,
        [_OWN_PORT, *arguments.get("options", ())],
        arguments.get("interceptors", ()),
        arguments.get("request_seconds"),
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    return server, server.add_insecure_port(f"127.0.0.1:{port}")


@asynccontextmanager
async def serving(
    transport: str,
    *,
    port: int = 0,
    options: Sequence[tuple[str, int]] = (),
    interceptors: Sequence[Any] = (),
    request_seconds: float | None = None,
    **methods: Any,
) -> AsyncIterator[Served]:
    """Serve these methods until the block ends; calls that are under way then are cancelled."""
    server, port = await opened(
        transport, methods, port, options=options, interceptors=interceptors, request_seconds=request_seconds
    )
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", _ANY_SIZE) as channel:
            yield Served(server, port, channel)
    finally:
        async with asyncio.timeout(PATIENCE):
            await server.stop(0)


async def outcome(call: Any) -> tuple[grpc.StatusCode, str]:
    """Return the status that a call ends with, and its details."""
    async with asyncio.timeout(PATIENCE):
        try:
            if hasattr(call, "__aiter__"):
                async for _ in call:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        except asyncio.CancelledError:  # the client's own
            return grpc.StatusCode.CANCELLED, ""
    return grpc.StatusCode.OK, ""


class Cut:
    """What a handler is told when its call is cut: enter it around what the handler waits in."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.by: type[BaseException] | None = None
        self.task: asyncio.Task[Any] | None = None

    def __enter__(self) -> Self:
        self.task = asyncio.current_task()
        self.begun.set()
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        self.by = kind
        self.ended.set()


async def within_patience(event: asyncio.Event) -> None:
    """Wait for what has to happen."""
    async with asyncio.timeout(PATIENCE):
        await event.wait()


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = struct.Struct(">HBBBI")  # a frame's length, in 16 + 8 bits, its type, its flags, its stream
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_INITIAL_WINDOW, _LARGE = 4, 2**30
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_CANCEL = 8


class Frames:
    """A client of HTTP/2's frames, which does what no well-behaved one does.

    Attributes:
        received: bytes of data by stream.
    """

    def __init__(self, port: int, receive_buffer: int = 0) -> None:
        self._port = port
        self._receive_buffer = receive_buffer
        self._streams = 1
        self.received = Counter[int]()

    async def __aenter__(self) -> Self:
        connection = socket.socket()
        connection.setblocking(False)
        if self._receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._port))
        self._reader, self._writer = await asyncio.open_connection(sock=connection)
        window = struct.pack(">HI", _INITIAL_WINDOW, _LARGE)
        self._writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, window))
        self._writer.write(_frame(_WINDOW, 0, 0, struct.pack(">I", _LARGE)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()
        await asyncio.sleep(0)  # which closes it: a test that blocks the loop next would keep it open

    def cut(self) -> None:
        """End the connection as a machine does that loses power."""
        self._writer.transport.abort()

    def call(
        self,
        name: str | bytes,
        *messages: bytes,
        ends: bool = True,
        resets: bool = False,
        metadata: Mapping[bytes, bytes] | None = None,
    ) -> int:
        """Begin a call, in one write with all that is sent in it, and return its stream."""
        stream, self._streams = self._streams, self._streams + 2
        path = name if isinstance(name, bytes) else f"/{SERVICE}/{name}".encode()
        is_last = _END_STREAM if ends and not messages else 0
        written = _frame(_HEADERS, _END_HEADERS | is_last, stream, _header_block(path, metadata or {}))
        written += _data(stream, messages, ends)
        if resets:
            written += _frame(_RESET, 0, stream, struct.pack(">I", _CANCEL))
        self._writer.write(written)
        return stream

    def send(self, stream: int, *messages: bytes, ends: bool = False) -> None:
        """Send messages in a call."""
        self._writer.write(_data(stream, messages, ends))

    def end(self, stream: int) -> None:
        """Say that there are no more messages."""
        self._writer.write(_frame(_DATA, _END_STREAM, stream, b""))

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        self._writer.write(_frame(_RESET, 0, stream, struct.pack(">I", _CANCEL)))

    def read_nothing(self) -> None:
        """Leave what comes to the kernel, and to what room that has, until something is asked for."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined] # of a socket

    def ping(self) -> None:
        """Ask whether the server is there."""
        self._writer.write(_frame(_PING, 0, 0, b"12345678"))

    async def told_to_go(self) -> None:
        """Return when the server has said that it goes, and has been told that this was heard."""
        while (await self._frame())[0] != _GOAWAY:
            pass
        while (await self._frame())[0] != _PING:
            pass

    async def status(self, stream: int) -> bytes:
        """Return the headers that a call ends with; that it was reset reads `RST_STREAM`.

        Raises:
            EOFError: the connection has ended.
        """
        while True:
            kind, flags, number, payload = await self._frame()
            if number == stream and kind == _RESET:
                return b"RST_STREAM"
            if number == stream and kind == _HEADERS and flags & _END_STREAM:
                return payload

    async def _frame(self) -> tuple[int, int, int, bytes]:
        """Return the next frame, and answer it where that is due."""
        with contextlib.suppress(RuntimeError):  # it reads
            self._writer.transport.resume_reading()  # type: ignore[attr-defined] # of a socket
        async with asyncio.timeout(PATIENCE):
            high, low, kind, flags, number = _HEAD.unpack(await self._reader.readexactly(9))
            payload = await self._reader.readexactly((high << 8) | low)
        if kind == _SETTINGS and not flags & _ACK:
            self._writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _DATA:
            self.received[number] += len(payload)
        return kind, flags, number, payload


NO_TEXT = b"/\xff/\xfe"
"""A path that ends `grpc.aio`'s server."""


async def end_aio(port: int) -> socket.socket:
    """End a server of the transport `aio` that listens here, and keep the port from it."""
    async with Frames(port) as client:
        client.call(NO_TEXT, b"x")
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return socket.create_server(("127.0.0.1", port))
                except OSError:
                    await asyncio.sleep(0.001)


def _data(stream: int, messages: Sequence[bytes], ends: bool) -> bytes:
    last = len(messages) - 1
    return b"".join(
        _frame(_DATA, _END_STREAM if ends and at == last else 0, stream, b"\0" + struct.pack(">I", len(one)) + one)
        for at, one in enumerate(messages)
    )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = len(payload)
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def _header_block(path: bytes, metadata: Mapping[bytes, bytes]) -> bytes:
    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"test",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        **metadata,
    }
    # each a literal with a literal name, so that no table is needed
    return b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in headers.items())


def calls_alive() -> int:
    """Return how many calls core's servers have not let go of; exceptions that are kept keep theirs."""
    from connector_core.transport.calls import Call

    gc.collect()
    return sum(isinstance(one, Call) for one in gc.get_objects())


def waiters() -> int:
    """Return how many threads wait for gRPC's core."""
    return Counter(thread.name for thread in threading.enumerate())["grpc completions"]
