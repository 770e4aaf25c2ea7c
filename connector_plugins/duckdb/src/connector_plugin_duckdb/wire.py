"""The messages between the host and a query process, and how they travel: MessagePack behind a length, never a pickle.

What DuckDB answers is data that callers shape, so it is decoded into declared types, and a message has a largest size.
"""

import os
import select
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import msgspec

from connector_plugin_duckdb.values import Column

Kind = Literal["invalid", "denied", "permanent", "transient", "unavailable", "interrupted"]

EXIT_MEMORY = 77
"""The exit code of a process that has ended itself because it had more memory than its hard limit."""

_HEADER = 4
_LARGEST = 2**32 - 1
_MESSAGE_CHARACTERS = 20_000
_INTEGER, _DATETIME, _DATE, _DURATION, _DECIMAL = range(1, 6)


class RefusalError(Exception):
    """A query's failure in the form that travels to the host; `kind` says which error of the host's it becomes there."""

    def __init__(self, kind: Kind, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.message = message
        self.code = code


class Box(msgspec.Struct, frozen=True):
    """The bounds of one query: the places that its SQL may reach, and the resources that it may take.

    Attributes:
        directories: folders that it may read and write.
        files: single files that it may read and write.
        temp: the private folder that DuckDB spills to.
        home: a folder that does not exist, for what DuckDB would otherwise look for in the user's home.
        memory: bytes.
        disk: bytes.
        threads: their number.
    """

    directories: Sequence[str]
    files: Sequence[str]
    temp: str
    home: str
    memory: int
    disk: int
    threads: int


class Database(msgspec.Struct, frozen=True):
    """A database file, and the name by which SQL knows it."""

    path: str
    name: str
    read_only: bool


class View(msgspec.Struct, frozen=True):
    """Files that SQL finds by a name, read by one of DuckDB's table functions."""

    name: str
    function: str
    paths: Sequence[str]


class Query(msgspec.Struct, frozen=True, tag=True):
    """A query to run, with its box; nothing else is asked of the process before it is closed.

    Attributes:
        parameters: the inputs by name, as `pack` makes them.
        most_rows: the longest result that is fetched.
        most_bytes: the largest message that the host takes as the answer.
    """

    box: Box
    database: Database | None
    views: Sequence[View]
    setup: Sequence[str]
    sql: str
    parameters: Any
    most_rows: int
    most_bytes: int


class Size(msgspec.Struct, frozen=True, tag=True):
    """Asks how many bytes the result has."""


class Fetch(msgspec.Struct, frozen=True, tag=True):
    """Asks for the result's rows."""


class Write(msgspec.Struct, frozen=True, tag=True):
    """Asks for the result to be written to a file of Parquet."""

    path: str


class Close(msgspec.Struct, frozen=True, tag=True):
    """Ends the query."""


class Interrupt(msgspec.Struct, frozen=True, tag=True):
    """Asks for the query to end early; it may come at any time."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Tells that the process takes queries, and the hard limit of its memory in bytes."""

    memory: int


class Described(msgspec.Struct, frozen=True, tag=True):
    """A result's columns and its number of rows."""

    columns: Sequence[Column]
    rows: int


class Number(msgspec.Struct, frozen=True, tag=True):
    """A number that was asked for."""

    value: int


class Rows(msgspec.Struct, frozen=True, tag=True):
    """A result's rows."""

    rows: Sequence[Sequence[Any]]


class Done(msgspec.Struct, frozen=True, tag=True):
    """Tells that something was done that has no answer; `is_clean` says whether the process can take another query."""

    is_clean: bool = True


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A failure."""

    kind: Kind
    message: str
    code: str | None = None

    @classmethod
    def of(cls, error: RefusalError) -> "Failed":
        """Return the message of a refusal, with its text cut to what people read."""
        return cls(error.kind, error.message[:_MESSAGE_CHARACTERS], error.code)


Request = Query | Size | Fetch | Write | Close | Interrupt
Answer = Ready | Described | Number | Rows | Done | Failed


def pack(value: Any) -> Any:
    """Return a value in which each part can travel.

    Raises:
        TypeError: a part of it is of another type.
    """
    if value is None or isinstance(value, bool | str | float | bytes):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else msgspec.msgpack.Ext(_INTEGER, str(value).encode())
    if isinstance(value, Mapping):
        return {pack(key): pack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [pack(item) for item in value]
    for kind, code, write in _WRITERS:
        if isinstance(value, kind):
            return msgspec.msgpack.Ext(code, write(value).encode())
    raise TypeError(f"a value of type {type(value).__name__}")


_WRITERS: Sequence[tuple[type, int, Callable[[Any], str]]] = (
    (datetime, _DATETIME, datetime.isoformat),
    (date, _DATE, date.isoformat),
    (timedelta, _DURATION, lambda span: f"{span.days} {span.seconds} {span.microseconds}"),
    (Decimal, _DECIMAL, str),
)


def _read_duration(text: str) -> timedelta:
    days, seconds, microseconds = map(int, text.split())
    return timedelta(days, seconds, microseconds)


def _read_datetime(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is None else moment.astimezone(UTC)


_READERS: Mapping[int, Callable[[str], Any]] = {
    _INTEGER: int,
    _DATETIME: _read_datetime,
    _DATE: date.fromisoformat,
    _DURATION: _read_duration,
    _DECIMAL: Decimal,
}


def _unpack(code: int, data: memoryview) -> Any:
    read = _READERS.get(code)
    if read is None:
        raise ValueError(f"an unknown kind of value: {code}")
    return read(bytes(data).decode())


_requests = msgspec.msgpack.Decoder(Request, ext_hook=_unpack)
_answers = msgspec.msgpack.Decoder(Answer, ext_hook=_unpack)


def decode_request(data: bytes) -> Request:
    """Read a message of the host's."""
    request: Request = _requests.decode(data)
    return request


def decode_answer(data: bytes) -> Answer:
    """Read a message of a query process.

    Raises:
        ValueError: it is not one.
    """
    try:
        answer: Answer = _answers.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return answer


def encode(message: Request | Answer) -> bytes:
    """Return a message with its length in front."""
    body = msgspec.msgpack.encode(message)
    if len(body) > _LARGEST:
        raise ValueError(f"a message of {len(body)} bytes; {_LARGEST} can be sent")
    return len(body).to_bytes(_HEADER, "big") + body


def send(descriptor: int, data: bytes) -> None:
    """Write all of it to a pipe."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest[: 2**20]) :]


def receive(descriptor: int, most: int, wait: Callable[[int], None]) -> bytes:
    """Read a message from a pipe.

    Args:
        descriptor: the pipe.
        most: the largest number of bytes that a message may have.
        wait: called before each read; it returns when there is something to read, or raises.

    Raises:
        EOFError: the other side has closed the pipe.
        ValueError: the message is larger.
    """
    size = int.from_bytes(_read(descriptor, _HEADER, wait), "big")
    if size > most:
        raise ValueError(f"a message of {size} bytes; at most {most} are taken")
    return _read(descriptor, size, wait)


def _read(descriptor: int, size: int, wait: Callable[[int], None]) -> bytes:
    found = bytearray()
    while len(found) < size:
        wait(descriptor)
        if not (part := os.read(descriptor, min(size - len(found), 2**20))):
            raise EOFError
        found += part
    return bytes(found)


def is_readable(descriptor: int, seconds: float) -> bool:
    """Wait until a pipe has something to read or is closed, at most so long; say whether it has."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0, int(seconds * 1000))))
