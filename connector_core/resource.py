"""What a connector answers: a job's state and its log lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from flyteidl.admin.agent_pb2 import LogLine
from flyteidl.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl.core.literals_pb2 import LiteralMap


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
