"""What the engine hears of a task from its start to its end, and in which fields two such stories differ."""

import pickle
import pickletools
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flyteidl.admin import agent_pb2
from flyteidl2.connector import connector_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from connector_core import Phase
from connector_core.literals.packed import read_msgpack
from connector_core.literals.values import MSGPACK
from connector_core.resource import TERMINAL_PHASES
from connector_core.testing.propeller import EngineTask

_OF_PLACES = ("FRAME", "BINGET", "LONG_BINGET")
"""Operations of pickle whose arguments depend on the order."""


@dataclass(frozen=True)
class Story:
    """One task as the engine heard of it.

    Attributes:
        calls: method and status of each call, polls that were answered the same counted as one.
        resource_meta: the job's handle.
        resources: every state that was answered and differed from the one before it, field by field: the path of a field
            -> its value.
        phase: where the engine believes the task ended.
        outputs: what it then has, as Python values.
    """

    calls: Sequence[tuple[str, str]]
    resource_meta: bytes | None
    resources: Sequence[Mapping[str, Any]]
    phase: Phase
    outputs: Mapping[str, Any]

    @property
    def last(self) -> Mapping[str, Any]:
        """The fields of the last state."""
        return self.resources[-1]

    def without(self, text: str, name: str) -> "Story":
        """Return the story with a text that differs from one run to the next replaced by its name."""

        def hidden(value: Any) -> Any:
            return value.replace(text, name) if isinstance(value, str) else value

        meta = self.resource_meta and self.resource_meta.replace(text.encode(), name.encode())
        resources = [{path: hidden(value) for path, value in one.items()} for one in self.resources]
        return replace(self, resource_meta=meta, resources=resources)


def story_of(task: EngineTask) -> Story:
    """Return what has been heard of a task so far."""
    calls: list[tuple[str, str]] = []
    resources: list[Mapping[str, Any]] = []
    for call in task.calls:
        if call.resource is not None:
            fields = dict(_fields(_as_sent(_read_by_engines(call.resource), is_of_v2=task.is_of_v2)))
            if resources and fields == resources[-1]:
                continue
            resources.append(fields)
        calls.append((call.method, call.code.name))
    return Story(calls, task.attempt.resource_meta, resources, task.phase, task.outputs)


def differences(theirs: Story, ours: Story) -> list[str]:
    """Say in which calls, bytes and fields the story that our server made differs from theirs; nothing, if in none."""
    found = [*_differing("calls", theirs.calls, ours.calls)]
    if _in_any_order(theirs.resource_meta) != _in_any_order(ours.resource_meta):
        found += _differing("resource_meta", theirs.resource_meta, ours.resource_meta)
    found += _differing("number of resources", len(theirs.resources), len(ours.resources))
    for number, (one, other) in enumerate(zip(theirs.resources, ours.resources, strict=False)):
        for path in sorted({*one, *other}):
            found += _differing(f"resource {number}, {path}", one.get(path), other.get(path))
    found += _differing("phase", theirs.phase, ours.phase)
    return found


def _in_any_order(meta: bytes | None) -> Any:
    """Return what a pickle does, whatever the order of its maps: those made from protobuf's have another in each process."""
    if meta is None or not meta.startswith(pickle.PROTO):
        return meta
    does = ((operation.name, argument) for operation, argument, _ in pickletools.genops(meta))
    return sorted(repr((name, None if name in _OF_PLACES else argument)) for name, argument in does)


def _differing(what: str, theirs: Any, ours: Any) -> list[str]:
    return [] if theirs == ours else [f"{what}: theirs {theirs!r}, ours {ours!r}"]


def _read_by_engines(resource: agent_pb2.Resource) -> agent_pb2.Resource:
    """Return it without the outputs of a job that has not ended: no engine reads them, and ours leaves them out."""
    if int(resource.phase) in TERMINAL_PHASES:
        return resource
    read = agent_pb2.Resource()
    read.CopyFrom(resource)
    read.ClearField("outputs")
    return read


def _as_sent(resource: agent_pb2.Resource, *, is_of_v2: bool) -> Message:
    """Return the message of the generation that was spoken, some of whose fields the first one does not have."""
    return connector_pb2.Resource.FromString(resource.SerializeToString()) if is_of_v2 else resource


def _fields(resource: Message) -> Iterator[tuple[str, Any]]:
    """Every field that is set, messages within it too."""
    yield from _flat("", MessageToDict(resource, preserving_proto_field_name=True, use_integers_for_enums=True))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value.get("tag") == MSGPACK:
        # In whose maps, made from a Struct, the order of keys is another one in each process.
        value = {"tag": MSGPACK, "value": read_msgpack(b64decode(value["value"]))}
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}" if path else name, inner)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from _flat(f"{path}[{number}]", inner)
    else:
        yield path, value
