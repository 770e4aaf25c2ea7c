"""Answers of connectors: a job's state and its log lines."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from flyteidl.admin import agent_pb2
from flyteidl.admin.agent_pb2 import LogLine
from flyteidl.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl.core.literals_pb2 import LiteralMap
from google.protobuf.message import Message


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
        """True if a job in this phase stays in it."""
        return self in TERMINAL_PHASES


TERMINAL_PHASES = frozenset({Phase.SUCCEEDED, Phase.ABORTED, Phase.FAILED, Phase.RETRYABLE_FAILED})
"""The phases that are a job's last; their plain numbers are in it, too."""


class LinkType(IntEnum):
    """The target of a link, for consoles of the 2.x line: `flyteidl2.core.TaskLog.LinkType`."""

    EXTERNAL = 0
    DASHBOARD = 1
    IDE = 2


@dataclass(frozen=True, slots=True)
class LogLink:
    """A link to a job's logs or dashboard, shown by Flyte's console under `name`.

    Attributes:
        name: what it is called.
        uri: where it leads.
        link_type: what it leads to. This, `ready` and `icon_uri` are for consoles of the 2.x line.
        ready: whether it can be followed already.
        icon_uri: a picture for it.
        ttl: seconds for which it can be followed.
        show_while_pending: show it before the job runs.
        hide_once_finished: do not show it any more when the job is over.
    """

    name: str
    uri: str
    link_type: LinkType = LinkType.DASHBOARD
    ready: bool = True
    icon_uri: str = ""
    ttl: float | None = None
    show_while_pending: bool = False
    hide_once_finished: bool = False

    def to_flyte(self) -> TaskLog:
        """Return the protocol's message; what the second generation alone has is in it as fields that are not known."""
        link = TaskLog(name=self.name, uri=self.uri, message_format=TaskLog.JSON)
        if self.show_while_pending:
            link.ShowWhilePending = True
        if self.hide_once_finished:
            link.HideOnceFinished = True
        if self.ttl is not None:
            link.ttl.FromMicroseconds(round(self.ttl * 1_000_000))
        if self.link_type is not LinkType.DASHBOARD or not self.ready or self.icon_uri:
            link.MergeFromString(_of_second_generation(self.link_type, ready=self.ready, icon_uri=self.icon_uri))
        return link


def to_task_log(link: object) -> TaskLog:
    """Return a link as the first generation's message.

    Args:
        link: a `LogLink`, or a `TaskLog` of either generation.

    Raises:
        TypeError: it is none of them.
    """
    if isinstance(link, LogLink):
        return link.to_flyte()
    if isinstance(link, TaskLog):
        return link
    if isinstance(link, Message) and link.DESCRIPTOR.full_name == "flyteidl2.core.TaskLog":
        told: Any = link  # the package may not be installed here
        read: TaskLog = TaskLog.FromString(link.SerializeToString())
        read.MergeFromString(_of_second_generation(told.link_type, ready=told.ready))  # 0 and false are not written
        return read
    raise TypeError(f"log_links has a {type(link).__name__}, not a LogLink or a TaskLog")


def _of_second_generation(link_type: int, *, ready: bool, icon_uri: str = "") -> bytes:
    """Return the fields 7 to 9 of `flyteidl2.core.TaskLog` as protobuf writes them, so that this needs no `flyteidl2`."""
    icon = icon_uri.encode()
    fields = bytes((7 << 3, int(link_type), 8 << 3, ready))
    return fields + bytes((9 << 3 | 2,)) + _varint(len(icon)) + icon if icon else fields


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*written, number))


@dataclass(frozen=True, slots=True)
class Resource:
    """A job's state.

    Attributes:
        phase: where the job is.
        outputs: values by output name (converted by `connector_core.literals`), or a `LiteralMap`; those of a job that has not
            ended are left out.
        message: one or two sentences for the workflow's author.
        log_links: where its logs and dashboards are; the protocol's `TaskLog`s will do as well.
        custom_info: anything JSON-like for the engine's records. Numbers that JSON has not, whole numbers over 2**53 and what
            is not plain data go out as texts.
        error_code: a short machine-readable code of a failure.
    """

    phase: Phase
    outputs: Mapping[str, Any] | LiteralMap | None = None
    message: str = ""
    log_links: Sequence[LogLink | TaskLog] = ()
    custom_info: Mapping[str, Any] | None = None
    error_code: str | None = None


class BridgedResource(NamedTuple):
    """A job's state as a bridge gives it: converted by another SDK into the protocol's message, all but `custom_info`."""

    message: agent_pb2.Resource
    custom_info: Any = None


def taken_apart(theirs: Any) -> tuple[Any, Any]:
    """Return another SDK's resource without its `custom_info`, and that: converters of SDKs refuse what is not JSON."""
    info = getattr(theirs, "custom_info", None)
    bare = _without(theirs, "custom_info") if info else None
    return (theirs, None) if bare is None else (bare, info)


def without_early_outputs(theirs: Any) -> Any:
    """Return another SDK's resource without the outputs of a job that has not ended; `None` where it has none.

    A poll must not fail of outputs that do not fit yet: the engine does not read them.
    """
    if getattr(theirs, "phase", None) in TERMINAL_PHASES or getattr(theirs, "outputs", None) is None:
        return None
    return _without(theirs, "outputs")


def _without(theirs: Any, name: str) -> Any:
    """Return a copy with an attribute that is `None`; `None` where a class of the author's own does not allow it."""
    try:
        bare = copy.copy(theirs)
        setattr(bare, name, None)
    except (AttributeError, TypeError):
        return None
    return bare


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some log lines and the token that asks for the next ones; an empty token says that there are none."""

    lines: Sequence[str | LogLine] = field(default_factory=tuple)
    token: str = ""
