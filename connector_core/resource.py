"""What a connector answers: the handle of a job, its state and its log lines."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from flyteidl.admin.agent_pb2 import LogLine
from flyteidl.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl.core.literals_pb2 import LiteralMap

from connector_core.errors import InvalidResourceMetaError

if TYPE_CHECKING:
    from pydantic import TypeAdapter


class Phase(IntEnum):
    """`flyteidl.core.TaskExecution.Phase`, as connectors may answer it.

    UNDEFINED is left out: the engine reads it as a failure, so the host never sends it.
    """

    QUEUED = TaskExecution.QUEUED
    RUNNING = TaskExecution.RUNNING
    SUCCEEDED = TaskExecution.SUCCEEDED
    ABORTED = TaskExecution.ABORTED
    FAILED = TaskExecution.FAILED
    INITIALIZING = TaskExecution.INITIALIZING
    WAITING_FOR_RESOURCES = TaskExecution.WAITING_FOR_RESOURCES
    RETRYABLE_FAILED = TaskExecution.RETRYABLE_FAILED

    @property
    def is_terminal(self) -> bool:
        """Whether a job in this phase stays in it."""
        return self in TERMINAL_PHASES


TERMINAL_PHASES = frozenset({Phase.SUCCEEDED, Phase.ABORTED, Phase.FAILED, Phase.RETRYABLE_FAILED})
"""The phases that are a job's last; their plain numbers are in it, too."""


@dataclass(frozen=True, slots=True)
class LogLink:
    """A link to a job's logs or dashboard, shown by Flyte's console under `name`."""

    name: str
    uri: str

    def to_flyte(self) -> TaskLog:
        """Return the protocol's message."""
        return TaskLog(name=self.name, uri=self.uri, message_format=TaskLog.JSON)


@dataclass(frozen=True, slots=True)
class Resource:
    """A job's state.

    Attributes:
        phase: where the job is.
        outputs: values by output name (converted by `connector_core.literals`), or a `LiteralMap`; only for SUCCEEDED.
        message: one or two sentences for the workflow's author.
        log_links: where its logs and dashboards are.
        custom_info: anything JSON-like for the engine's records.
        error_code: a short machine-readable code of a failure.
    """

    phase: Phase
    outputs: Mapping[str, Any] | LiteralMap | None = None
    message: str = ""
    log_links: Sequence[LogLink] = ()
    custom_info: Mapping[str, Any] | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some log lines and the token that asks for the next ones; an empty token says that there are none."""

    lines: Sequence[str | LogLine] = field(default_factory=tuple)
    token: str = ""


MetaT = TypeVar("MetaT", bound="ResourceMeta")


@cache
def _adapter(meta_type: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter  # a third of the import time of this package; only hosts that decode need it

    return TypeAdapter(meta_type)


@cache
def _reader(meta_type: Any) -> Callable[..., Any]:
    return _adapter(meta_type).validator.validate_json  # each poll reads one; the adapter's own method is one call more


@dataclass
class ResourceMeta:
    """A connector's own handle of a job: subclass it as a dataclass with the fields that find the job again.

    On the wire it is plain JSON of the fields, the same as flytekit's server writes, so that tasks in flight survive a
    move in either direction. Override `encode` and `decode` together for another form.
    """

    def encode(self) -> bytes:
        """Return the JSON bytes that the engine keeps and hands back.

        Raises:
            TypeError: a field holds what its annotation does not allow, which `decode` would refuse.
        """
        from pydantic_core import PydanticSerializationError

        own: Any = type(self)
        try:
            fields = _adapter(own).dump_python(self, mode="json", warnings="none")
            data = json.dumps(fields).encode()
            _read(own, data)
        except (PydanticSerializationError, UnicodeDecodeError, InvalidResourceMetaError) as error:
            raise TypeError(f"{own.__name__} cannot be written as JSON and read again: {error}") from None
        return data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote.

        Fields that are not known are ignored and fields that have a default may be missing, so that older and newer
        writers understand each other.

        Raises:
            InvalidResourceMetaError: naming the field that is missing or has a value of another type.
        """
        return _read(cls, data)


def _read(meta_type: type[MetaT], data: bytes) -> MetaT:
    unhashable: Any = meta_type  # mypy takes classes of unhashable instances for unhashable
    try:
        return cast("MetaT", _reader(unhashable)(data, strict=True))
    except ValueError:  # pydantic's ValidationError is one; importing it would cost each call of this
        adapter: TypeAdapter[MetaT] = _adapter(unhashable)
        return _read_patiently(meta_type, adapter, data)


def _read_patiently(meta_type: type[MetaT], adapter: "TypeAdapter[MetaT]", data: bytes) -> MetaT:
    from pydantic import ValidationError

    try:
        return adapter.validate_json(_without_default_nulls(meta_type, data), strict=True)
    except ValidationError as error:
        raise _explain(meta_type, error) from None


def _without_default_nulls(meta_type: type[ResourceMeta], data: bytes) -> bytes:
    """Leave out the fields that are `null` by default, whatever their annotation says (`job_id: str = None`)."""
    defaults = {field.name for field in dataclasses.fields(meta_type) if field.default is None}
    try:
        fields = json.loads(data) if defaults else None
    except (ValueError, RecursionError):
        return data
    if not isinstance(fields, dict):
        return data
    return json.dumps(
        {name: value for name, value in fields.items() if value is not None or name not in defaults}
    ).encode()


def _explain(meta_type: type[ResourceMeta], error: Any) -> InvalidResourceMetaError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if not where:
        return InvalidResourceMetaError(f"resource meta is no {meta_type.__name__}: {first['msg']}")
    return InvalidResourceMetaError(
        f"resource meta is no {meta_type.__name__}: field {where!r}: {first['msg']}", field=where
    )
