"""The engine's reading of the resources that servers answer."""

from enum import Enum
from typing import NamedTuple

from flyteidl.admin import agent_pb2

from connector_core.resource import Phase

RETRYABLE_FAILED_SINCE = (1, 16)
"""The first engine that understands RETRYABLE_FAILED."""

SECOND_GENERATION_SINCE = (2, 0)
"""The first engine that speaks the protocol's second generation, which has no `state`."""


class Verdict(Enum):
    """The fate of a task attempt once its resource has been read."""

    GOES_ON = "goes on"
    SUCCEEDED = "succeeded"
    FAILED = "failed for good"
    RETRYABLE = "failed, may be tried again"
    UNREADABLE = "of no meaning to this engine"


class Reading(NamedTuple):
    """A resource as the engine understands it."""

    verdict: Verdict
    phase: int
    message: str


_VERDICTS = {
    Phase.QUEUED: Verdict.GOES_ON,
    Phase.WAITING_FOR_RESOURCES: Verdict.GOES_ON,
    Phase.INITIALIZING: Verdict.GOES_ON,
    Phase.RUNNING: Verdict.GOES_ON,
    Phase.SUCCEEDED: Verdict.SUCCEEDED,
    Phase.ABORTED: Verdict.FAILED,
    Phase.FAILED: Verdict.FAILED,
    Phase.RETRYABLE_FAILED: Verdict.RETRYABLE,
}

# `state` is what servers answered before there were phases. Its 0 is a failure, and so is a resource that says nothing.
_PHASE_OF_STATE = {
    agent_pb2.RETRYABLE_FAILURE: Phase.RETRYABLE_FAILED,
    agent_pb2.PERMANENT_FAILURE: Phase.FAILED,
    agent_pb2.PENDING: Phase.INITIALIZING,
    agent_pb2.RUNNING: Phase.RUNNING,
    agent_pb2.SUCCEEDED: Phase.SUCCEEDED,
}


def read_resource(resource: agent_pb2.Resource, engine_version: tuple[int, int], *, is_sync: bool) -> Reading:
    """Return what an engine of that version makes of a resource; a sync one's `state` is never looked at."""
    if resource.phase == 0:
        if engine_version >= SECOND_GENERATION_SINCE:
            return Reading(Verdict.UNREADABLE, 0, resource.message)
        state = agent_pb2.RETRYABLE_FAILURE if is_sync else resource.state
        phase = _PHASE_OF_STATE.get(state)
        verdict = Verdict.UNREADABLE if phase is None else _VERDICTS[phase]
        return Reading(verdict, phase or 0, resource.message)
    try:
        known = Phase(resource.phase)
    except ValueError:
        return Reading(Verdict.UNREADABLE, resource.phase, resource.message)
    if known is Phase.RETRYABLE_FAILED and engine_version < RETRYABLE_FAILED_SINCE:
        return Reading(Verdict.UNREADABLE, known, resource.message)
    drops_message = known in {Phase.RUNNING, Phase.SUCCEEDED}
    return Reading(_VERDICTS[known], known, "" if drops_message else resource.message)
