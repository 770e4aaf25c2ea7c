"""Frames between a host and a location's process: a fixed header, a small head in JSON, and bytes as the protocol has them."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

VERSION = 1
"""The version of this wire; both ends say theirs in their first frame."""

SLACK_BYTES = 1024 * 1024
"""Bytes of a frame beside the largest request or answer: heads, and fields that the host adds."""

_HEADER = struct.Struct("!BIIQ")


class Kind(IntEnum):
    """The kinds of frames; the first five go to the location, the others come from it."""

    START = 1
    PLACE = 2
    CALL = 3
    NEXT = 4
    CANCEL = 5
    HELLO = 6
    ANSWER = 7
    PIECE = 8
    END = 9
    ERROR = 10
    SECRETS = 11


TO_LOCATION = frozenset({Kind.START, Kind.PLACE, Kind.CALL, Kind.NEXT, Kind.CANCEL})
FROM_LOCATION = frozenset(Kind) - TO_LOCATION


class WireError(Exception):
    """The other end has sent what is not a frame, or one that it may not send."""


class Frame(NamedTuple):
    """One frame.

    Attributes:
        kind: what it is.
        call: the number of the call, or the place, that it is about.
        head: JSON.
        body: bytes of messages, one after the other; the head has their sizes.
    """

    kind: Kind
    call: int
    head: bytes
    body: bytes


def encode(kind: Kind, call: int = 0, head: bytes = b"", parts: Sequence[bytes] = ()) -> list[bytes]:
    """Return the pieces of a frame, for a socket; messages are not copied."""
    size = sum(map(len, parts))
    return [_HEADER.pack(kind, call, len(head), size) + head, *parts]


def split(body: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Cut a frame's body into the messages that it is made of.

    Raises:
        WireError: the sizes are not those of the body.
    """
    begin = 0
    for size in sizes:
        if size < 0 or begin + size > len(body):
            raise WireError("a frame's body is shorter than its head says")
        yield body if size == len(body) else body[begin : begin + size]
        begin += size
    if begin != len(body):
        raise WireError("a frame's body is longer than its head says")


class FrameReader:
    """Makes frames of what arrives; no more is kept than has arrived, and no frame that is too large.

    Args:
        kinds: those that the other end may send.
        limit: bytes that a frame may have.
    """

    def __init__(self, kinds: frozenset[Kind], limit: int) -> None:
        self._kinds = kinds
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._needed = _HEADER.size

    def feed(self, data: bytes) -> list[Frame]:
        """Take what has arrived and return the frames that are complete.

        Raises:
            WireError: it is not a frame, one of another kind, or a larger one than may be.
        """
        self._chunks.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return []
        # Joined once a whole frame is here: a large one would else be copied at each of its chunks.
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        frames, begin = [], 0
        while True:
            frame, end = self._frame(data, begin)
            if frame is None:
                break
            frames.append(frame)
            begin = end
        rest = data[begin:] if begin else data
        self._chunks, self._size, self._needed = [rest], len(rest), end - begin
        return frames

    def _frame(self, data: bytes, begin: int) -> tuple[Frame | None, int]:
        """Return the frame that begins there, if it is complete, and where it ends as far as is known."""
        at = begin + _HEADER.size
        if len(data) < at:
            return None, at
        number, call, head, body = _HEADER.unpack_from(data, begin)
        if number not in self._kinds:
            raise WireError(f"a frame of kind {number}, which is not one that may be sent here")
        if head + body > self._limit:
            raise WireError(f"a frame of {head + body:,} bytes, where {self._limit:,} are the limit")
        end = at + head + body
        if len(data) < end:
            return None, end
        return Frame(Kind(number), call, data[at : at + head], data[at + head : end]), end
