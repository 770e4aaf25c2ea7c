"""Load on a gRPC server over one HTTP/2 connection, from frames that are made beforehand.

h2load sends one body again and again, which a host that creates an attempt once and asks for a job once answers from
memory. Here each call is about a task of its own: its number is written into bytes that are otherwise ready, so that the
generator needs a small part of the time that a server does. The answers' sizes are held to those that a typed client got.
"""

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

PLACEHOLDER = b"n00000000"
DEADLINE = b"10S"

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = struct.Struct(">HBBBI")  # a frame's length, in 16 + 8 bits, its type, its flags, its stream
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_WINDOW_SIZE = 2**31 - 1
_INITIAL_WINDOW = 65_535
_FRAME_SIZE = 16_384
"""The largest frame that a server takes unless it says otherwise."""
_WAIT = 40.0


class LoadError(Exception):
    """The server did not answer as it should."""


@dataclass(frozen=True)
class Call:
    """What is called: the method's path, the messages as they go out, and the size of the right answer in bytes."""

    path: str
    messages: Sequence[bytes]
    answer_size: int

    def answered_by(self, size: int) -> "Call":
        """Return it with the size of the right answer."""
        return replace(self, answer_size=size)

    def body(self) -> bytes:
        """Return the messages in gRPC's framing."""
        return b"".join(b"\0" + struct.pack(">I", len(message)) + message for message in self.messages)


@dataclass
class Load:
    """What came of it: calls a second, and seconds that each took."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    own_cpu: float = 0.0

    @property
    def calls(self) -> int:
        """Calls that were answered."""
        return len(self.latencies)

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    @property
    def busy(self) -> float:
        """The part of the time in which the generator itself was at work; near 1 it is what is measured."""
        return self.own_cpu / self.seconds

    def percentile(self, share: float) -> float:
        """Return the time within which this share of the calls were answered, in seconds."""
        return sorted(self.latencies)[min(self.calls - 1, int(share * self.calls))]


def drive(
    address: str, call: Call, *, numbers: Iterator[int], at_once: int = 32, seconds: float = 0.0, calls: int = 0
) -> Load:
    """Keep so many calls under way until the seconds are over or the number is reached; then let the rest end.

    Raises:
        LoadError: a call failed, had no or another answer, or the connection ended.
    """
    with _Connection(address, call, numbers) as connection:
        return connection.run(at_once, seconds, calls or 2**62)


class _Connection:
    """One connection; only what gRPC's servers need of HTTP/2."""

    def __init__(self, address: str, call: Call, numbers: Iterator[int]) -> None:
        self._address = address
        self._call = call
        self._numbers = numbers
        self._template = call.body()
        self._window = _INITIAL_WINDOW
        self._stream = 1
        self._open: dict[int, list[float]] = {}  # by stream: when it began, and the bytes that have come
        self._out: list[bytes] = []
        self._buffer = bytearray()
        self._first_headers, self._headers = _header_blocks(call.path, address)
        self.load = Load()

    def __enter__(self) -> "_Connection":
        host, port = self._address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=_WAIT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # identifier 4 is the window of each stream, in which a large answer has to find place
        settings = _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _WINDOW_SIZE))
        grow = _frame(_WINDOW, 0, 0, struct.pack(">I", _WINDOW_SIZE - _INITIAL_WINDOW))
        self._socket.sendall(_PREFACE + settings + grow)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self, at_once: int, seconds: float, calls: int) -> Load:
        began, cpu = time.perf_counter(), time.thread_time()
        end = began + (seconds or _WAIT * 100)
        left = calls
        while True:
            now = time.perf_counter()
            if now < end:
                while left and len(self._open) < at_once and self._window > len(self._template):
                    self._begin(now)
                    left -= 1
            self._flush()
            if not self._open:
                break
            self._receive()
        self.load.seconds = time.perf_counter() - began
        self.load.own_cpu = time.thread_time() - cpu
        return self.load

    def _begin(self, now: float) -> None:
        body = self._template.replace(PLACEHOLDER, b"n%08d" % next(self._numbers))
        headers = self._first_headers if self._stream == 1 else self._headers
        self._out.append(_frame(_HEADERS, _END_HEADERS, self._stream, headers))
        for at in range(0, len(body), _FRAME_SIZE):
            is_last = at + _FRAME_SIZE >= len(body)
            self._out.append(_frame(_DATA, is_last * _END_STREAM, self._stream, body[at : at + _FRAME_SIZE]))
        self._open[self._stream] = [now, 0]
        self._window -= len(body)
        self._stream += 2

    def _flush(self) -> None:
        if self._out:
            self._socket.sendall(b"".join(self._out))
            self._out.clear()

    def _receive(self) -> None:
        got = self._socket.recv(1 << 18)
        if not got:
            raise LoadError(f"{self._address} closed the connection with {len(self._open)} calls under way")
        buffer = self._buffer
        buffer += got
        at, size = 0, len(buffer)
        while size - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(buffer, at)
            length = (high << 8) | low
            if size - at < 9 + length:
                break
            self._take(kind, flags, stream, buffer, at + 9, length)
            at += 9 + length
        del buffer[:at]

    def _take(self, kind: int, flags: int, stream: int, buffer: bytearray, at: int, length: int) -> None:
        if kind == _DATA:
            self._open[stream][1] += length
        elif kind == _HEADERS:
            if flags & _END_STREAM:
                self._end(stream)
        elif kind == _WINDOW:
            if stream == 0:
                self._window += int.from_bytes(buffer[at : at + 4], "big")
        elif kind in (_SETTINGS, _PING):
            if not flags & _ACK:
                answer = bytes(buffer[at : at + length]) if kind == _PING else b""
                self._out.append(_frame(kind, _ACK, 0, answer))
        elif kind in (_RESET, _GOAWAY):
            raise LoadError(
                f"{self._address} answered {'RST_STREAM' if kind == _RESET else 'GOAWAY'} to {self._call.path}"
            )

    def _end(self, stream: int) -> None:
        began, size = self._open.pop(stream)
        if size != 5 + self._call.answer_size:
            raise LoadError(
                f"{self._address} answered {self._call.path} with {size:g} bytes of data, where a right answer has "
                f"{5 + self._call.answer_size}; an error has none"
            )
        self.load.latencies.append(time.perf_counter() - began)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = len(payload)
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def _header_blocks(path: str, address: str) -> tuple[bytes, bytes]:
    """Return HPACK's bytes of the first call, which fill the server's table, and of all others, which point into it."""
    named = [(4, b"", path.encode()), (1, b"", address.encode()), (31, b"", b"application/grpc")]
    added = [(0, b"te", b"trailers"), (0, b"user-agent", b"grpc-wire-load/1"), (0, b"grpc-timeout", DEADLINE)]
    post_http = b"\x83\x86"
    first = b"".join(
        bytes([0x40 | index]) + (_text(name) if not index else b"") + _text(value)
        for index, name, value in (*named, *added)
    )
    count = len(named) + len(added)
    return post_http + first, post_http + bytes(0x80 | (62 + place) for place in reversed(range(count)))


def _text(value: bytes) -> bytes:
    assert len(value) < 127  # longer ones have another form, which nothing here needs
    return bytes([len(value)]) + value
