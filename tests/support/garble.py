"""Requests of every kind from a seed: whole, torn, garbled, padded, out of order, or nothing that was ever a message."""

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from flyteidl.admin import agent_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from connector_core import Phase
from connector_core.jobs import envelope
from connector_core.literals import to_literal_map
from tests.support.wire import METHODS, Sent

TASK_TYPES = ("echo", "echo2", "vouched", "blocking", "many", "sync", "blocking_sync")
SIGNING_KEY = b"a key for the tests alone"

_TEXTS = (
    "",
    "echo",
    "sync",
    "s3://data/n0/0",
    "s3://data/n0/3",
    "msgpack",
    "pickle",
    "\0",
    "ünï",
    "💥",
    "x" * 300,
    "../..",
    "%s{}",
)
_WHOLE = (0, 1, 2, 3, 7, 127, 128, 1000, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 253_402_300_800)
_DOUBLES = (0.0, -0.0, 1.5, -1e308, float("inf"), float("-inf"), float("nan"), 5e-324)
_VARINT, _FIXED64, _LENGTH, _GROUP, _END_GROUP, _FIXED32 = range(6)

F = FieldDescriptor
_WIRE_TYPES = {
    F.TYPE_DOUBLE: _FIXED64, F.TYPE_FIXED64: _FIXED64, F.TYPE_SFIXED64: _FIXED64,
    F.TYPE_FLOAT: _FIXED32, F.TYPE_FIXED32: _FIXED32, F.TYPE_SFIXED32: _FIXED32,
    F.TYPE_STRING: _LENGTH, F.TYPE_BYTES: _LENGTH, F.TYPE_MESSAGE: _LENGTH,
}  # fmt: skip


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(field: int, wire_type: int) -> bytes:
    """Return what stands before a field."""
    return varint(field << 3 | wire_type)


def chunk(field: int, content: bytes) -> bytes:
    """Return a field of bytes, text or a message."""
    return tag(field, _LENGTH) + varint(len(content)) + content


class Garbler:
    """An endless source of requests; the same seed gives the same ones.

    Args:
        seed: of the source, or the source itself.
        signed: which share of resource metas is signed.
    """

    def __init__(self, seed: int | Random, signed: float = 0.1) -> None:
        self.signed = signed
        self.random = seed if isinstance(seed, Random) else Random(seed)
        self._metas: tuple[Callable[[], bytes], ...] = (
            self._whole_meta, self._whole_meta, self._json_meta, self._sealed_meta, self._signed_meta, self._noise,
        )  # fmt: skip
        self._ways: tuple[Callable[[str], bytes], ...] = (
            self.whole, self.whole, self.made_up, self.made_up, self.made_up, self.torn, self.garbled, self.padded,
            self.noise,
        )  # fmt: skip

    def request(self) -> Sent:
        """Return the next request."""
        method = self._any(tuple(METHODS))
        messages = self.stream() if METHODS[method].client_streaming else (self._any(self._ways)(method),)
        timeout = self._any((0.0, 0.0005, 0.005)) if self._chance(0.01) else None
        return Sent(method, messages, timeout)

    def stream(self) -> tuple[bytes, ...]:
        """Return messages of ExecuteTaskSync, in the right order half of the time."""
        header, inputs = self._header(), self._inputs()
        if self._chance(0.5):
            return header, inputs
        pieces = [header, inputs, self._header(), b"", self.torn("ExecuteTaskSync"), self._noise()]
        return tuple(self._any(pieces) for _ in range(self.random.randrange(5)))

    # Ways to come to a message

    def whole(self, method: str) -> bytes:
        """Return a message as the engine sends it."""
        message = self._message(method)
        return message.SerializeToString()

    def made_up(self, method: str) -> bytes:
        """Return a message with any of its fields, filled with anything; most ask for a task type that is served."""
        raw = self._fields(METHODS[method].input_type, self.random.randrange(1, 7))
        return raw + self.whole(method) if self._chance(0.8) else raw  # later fields win, messages are merged

    def torn(self, method: str) -> bytes:
        """Return a message without its end."""
        raw = self.whole(method)
        return raw[: self.random.randrange(len(raw) + 1)]

    def garbled(self, method: str) -> bytes:
        """Return a message with some of its bytes changed, doubled, moved or lost."""
        raw = bytearray(self.whole(method))
        for _ in range(self.random.randrange(1, 6)):
            start = self.random.randrange(len(raw) + 1)
            end = min(len(raw), start + self.random.randrange(8))
            piece = bytes(raw[start:end])
            instead = self._any((b"", piece + piece, piece[::-1], self._noise()[:8], b"\xff", b"\x00"))
            raw[start:end] = instead
        return bytes(raw)

    def padded(self, method: str) -> bytes:
        """Return a message with fields that no version of the protocol has had, before and after it."""
        return self.padding() + self.whole(method) + self.padding()

    def noise(self, _method: str) -> bytes:
        """Return bytes that were never a message."""
        return self._noise()

    def oversized(self, method: str, size: int) -> bytes:
        """Return a message that is as large as `size` in one of its fields."""
        field = self._any([one for one in METHODS[method].input_type.fields if _WIRE_TYPES.get(one.type) == _LENGTH])
        return self.whole(method) + chunk(field.number, b"x" * size)

    def padding(self) -> bytes:
        """Return fields that no version of the protocol has had."""
        numbers = [self._any((1000, 19_000, 2**29 - 1)) for _ in range(self.random.randrange(1, 4))]
        return b"".join(self._value(number, self._any((_VARINT, _FIXED64, _LENGTH, _FIXED32))) for number in numbers)

    # Whole messages

    def _message(self, method: str) -> Message:
        task_type = self._any(TASK_TYPES)
        meta = self._meta_of(task_type) if self._chance(0.6) else self._any(self._metas)()
        category = agent_pb2.TaskCategory(name=task_type, version=2 if task_type == "echo2" else 0)
        if self._chance(0.05):
            category.name = self._text()
        if method == "CreateTask":
            return self._create(category)
        if method == "GetTask":
            return agent_pb2.GetTaskRequest(task_category=category, resource_meta=meta, output_prefix=self._text())
        if method == "DeleteTask":
            return agent_pb2.DeleteTaskRequest(task_category=category, resource_meta=meta)
        if method == "GetTaskMetrics":
            request = agent_pb2.GetTaskMetricsRequest(task_category=category, resource_meta=meta, queries=["cpu"])
            request.start_time.seconds = self._signed() % 10**12
            request.step.seconds = self._any((0, 1, 60))
            return request
        if method == "GetTaskLogs":
            return agent_pb2.GetTaskLogsRequest(
                task_category=category, resource_meta=meta, lines=self._any(_WHOLE), token=self._text()
            )
        if method == "GetAgent":
            return agent_pb2.GetAgentRequest(name=category.name)
        return agent_pb2.ListAgentsRequest() if method == "ListAgents" else self._first(category)

    def _create(self, category: agent_pb2.TaskCategory) -> agent_pb2.CreateTaskRequest:
        request = agent_pb2.CreateTaskRequest(inputs=to_literal_map({"n": 1, "x": [self._text()]}))
        request.template.type, request.template.task_type_version = category.name, category.version
        attempt = self.random.randrange(4)
        request.task_execution_metadata.task_execution_id.retry_attempt = attempt
        node = f"n{self.random.randrange(100_000)}"
        request.task_execution_metadata.task_execution_id.node_execution_id.node_id = node
        request.output_prefix = f"s3://data/{node}/{attempt if self._chance(0.9) else self._text()}"
        return request

    def _first(self, category: agent_pb2.TaskCategory) -> agent_pb2.ExecuteTaskSyncRequest:
        request = agent_pb2.ExecuteTaskSyncRequest()
        request.header.template.type = category.name
        request.header.template.task_type_version = category.version
        return request

    def _header(self) -> bytes:
        header = self._first(agent_pb2.TaskCategory(name=self._any(("sync", "blocking_sync", "echo"))))
        made_up = self._fields(METHODS["ExecuteTaskSync"].input_type, 5, only="header") if self._chance(0.5) else b""
        return made_up + header.SerializeToString()

    def _inputs(self) -> bytes:
        if self._chance(0.5):
            return self._fields(METHODS["ExecuteTaskSync"].input_type, 7, only="inputs")
        return agent_pb2.ExecuteTaskSyncRequest(inputs=to_literal_map({"n": 1})).SerializeToString()

    # Resource metas

    def _meta_of(self, task_type: str) -> bytes:
        form = b"own:%d" if task_type == "blocking" else b'{"job_id": "%d"}'
        meta: bytes = form % 10 ** self.random.randrange(10)
        return envelope.Signer([SIGNING_KEY]).sign(task_type, meta) if self._chance(self.signed) else meta

    def _whole_meta(self) -> bytes:
        return self._meta_of(self._any(TASK_TYPES))

    def _json_meta(self) -> bytes:
        odd: list[Any] = [None, True, 0, -1, 1.5, 10**400, "", "x" * 200, "\ud800", [], {}, [[]], {"job_id": 1}]
        names = ("job_id", "number", "share", "is_new", "tags", "note", "later")
        fields = {name: self._any(odd) for name in names if self._chance(0.5)}
        if self._chance(0.02):
            return b'{"job_id": ' + b"[" * 100_000
        raw = json.dumps(self._any((fields, fields, list(fields), "text", 5))).encode()
        return raw if self._chance(0.8) else raw[: len(raw) // 2]

    def _sealed_meta(self) -> bytes:
        phase = self._any((0, 99, *(one.value for one in Phase)))
        sealed = envelope.seal(agent_pb2.Resource(phase=phase, message=self._text()))
        newer = sealed.replace(b"/1/", b"/2/")
        torn = sealed[: self.random.randrange(len(sealed))]
        return self.random.choice((sealed, sealed, newer, torn, sealed + self._noise()))

    def _signed_meta(self) -> bytes:
        key = SIGNING_KEY if self._chance(0.8) else b"the key of somebody else"
        meta = self._any((self._whole_meta, self._json_meta, self._sealed_meta))()
        signed = bytearray(envelope.Signer([key]).sign(self._any(TASK_TYPES), meta))
        if self._chance(0.2):
            signed[self.random.randrange(len(signed))] ^= 1
        return bytes(signed[: None if self._chance(0.9) else self.random.randrange(len(signed))])

    # Fields of anything

    def _fields(self, message: Descriptor, depth: int, only: str = "") -> bytes:
        fields = [one for one in message.fields if only in ("", one.name)]
        if not fields:
            return b""
        number = 1 if only else self.random.randrange(min(len(fields), 5) + 1)
        return b"".join(self._field(self._any(fields), depth) for _ in range(number))

    def _field(self, field: FieldDescriptor, depth: int) -> bytes:
        if self._chance(0.02):
            return self._value(field.number, self.random.randrange(8))
        wire_type = _WIRE_TYPES.get(field.type, _VARINT)
        times = self.random.randrange(3) if field.is_repeated else 1
        if field.message_type is not None:
            contents = (self._fields(field.message_type, depth - 1) if depth else b"" for _ in range(times))
            return b"".join(chunk(field.number, content) for content in contents)
        return b"".join(self._value(field.number, wire_type) for _ in range(times))

    def _value(self, number: int, wire_type: int) -> bytes:
        head = tag(number, wire_type)
        if wire_type == _VARINT:
            return head + varint(self._any(_WHOLE))
        if wire_type == _FIXED64:
            return head + struct.pack("<d", self._any(_DOUBLES))
        if wire_type == _FIXED32:
            return head + self.random.randbytes(4)
        if wire_type == _LENGTH:
            return chunk(number, self._text().encode() if self._chance(0.95) else self._noise())
        return head  # a group that does not end, the end of none, or what does not exist

    def _noise(self) -> bytes:
        return self.random.randbytes(self._any((0, 1, 2, 5, 20, 200)))

    def _text(self) -> str:
        return self.random.choice(_TEXTS)

    def _signed(self) -> int:
        return self.random.choice(_WHOLE) * self.random.choice((1, -1))

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _any(self, choices: Any) -> Any:
        return self.random.choice(choices)


def nested(levels: int) -> bytes:
    """Return a CreateTask for `echo` whose input is nested so deep."""
    literal = b""
    for _ in range(levels):  # Literal.collection = 2, LiteralCollection.literals = 1
        literal = chunk(2, chunk(1, literal))
    inputs = chunk(1, chunk(1, b"x") + chunk(2, literal))
    request = agent_pb2.CreateTaskRequest(output_prefix=f"s3://data/{levels}/0")
    request.template.type = "echo"
    return chunk(agent_pb2.CreateTaskRequest.DESCRIPTOR.fields_by_name["inputs"].number, inputs) + (
        request.SerializeToString()
    )
