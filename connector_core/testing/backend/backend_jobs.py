"""Records of the fake backend: jobs, the calls that it got, and its errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class JobState(StrEnum):
    """The state of a job; the last three are ends."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(eq=False)
class Job:
    """A job that was started once; the backend changes it, and never forgets it.

    Attributes:
        id: the backend's name for it: `job-1`, `job-2`, and so on.
        key: the idempotency key that came with it.
        spec: what it was started with.
        outputs: its result, once it has succeeded.
        message: why it failed.
        is_known: whether the backend still answers for it; see `FakeBackend.purge`.
        history: what happened to it, such as `["started", "started again", "cancelled", "cancelled again"]`.
        looks: how often its state was asked for.
    """

    id: str
    key: str | None
    spec: Mapping[str, Any]
    state: JobState = JobState.RUNNING
    outputs: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    is_known: bool = True
    history: list[str] = field(default_factory=lambda: ["started"])
    looks: int = 0

    @property
    def is_live(self) -> bool:
        """True while it costs money."""
        return self.state is JobState.RUNNING

    def to_json(self) -> dict[str, Any]:
        """Return what another process is told about it."""
        return {"id": self.id, "state": self.state, "outputs": dict(self.outputs), "message": self.message}


@dataclass(frozen=True)
class BackendCall:
    """A call that the backend has served: about which key or job, and the HTTP status of its answer."""

    operation: str
    subject: str | None
    status: int


class FakeBackendError(Exception):
    """The backend's refusal, or a reply that was lost on its way; `status` is that of HTTP."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(f"{status} {message}".strip())
        self.status = status
        self.message = message
