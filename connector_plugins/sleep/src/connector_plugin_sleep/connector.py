"""The sleep connector: a job is the moment when it ends, so its handle is nearly all there is to keep."""

import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connector_core import AsyncConnectorBase, InvalidInputError, Phase, Resource, ResourceMeta

LONGEST_SECONDS = 30 * 24 * 3600
REMEMBERED_DELETES = 10_000
"""The number of deleted jobs that a process remembers; beyond it the oldest is forgotten."""


@dataclass
class SleepMeta(ResourceMeta):
    """A nap: the Unix time in seconds at which it ends, its length in seconds, and a name that no other has."""

    ends_at: float
    seconds: float
    name: str = ""


class SleepConnector(AsyncConnectorBase[SleepMeta]):
    """Serves `sleep`: input `seconds` in, output `slept` (seconds) out."""

    name = "Sleep"
    task_type_name = "sleep"

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._deleted: dict[tuple[float, str], None] = {}

    async def create(self, inputs: Mapping[str, Any]) -> SleepMeta:
        """Begin a nap of `seconds`."""
        seconds = _seconds(inputs)
        return SleepMeta(ends_at=self._now() + seconds, seconds=seconds, name=uuid.uuid4().hex)

    async def get(self, resource_meta: SleepMeta) -> Resource:
        """Say whether the nap is over."""
        if _key(resource_meta) in self._deleted:
            return Resource(Phase.ABORTED, message="deleted")
        left = resource_meta.ends_at - self._now()
        if left > 0:
            return Resource(Phase.RUNNING, message=f"{left:.0f} of {resource_meta.seconds:g} seconds left")
        return Resource(Phase.SUCCEEDED, outputs={"slept": resource_meta.seconds})

    async def delete(self, resource_meta: SleepMeta) -> None:
        """Remember that the nap is not wanted any more, unless it is over; nothing runs that would have to be stopped."""
        if resource_meta.ends_at <= self._now():
            return
        self._deleted[_key(resource_meta)] = None
        if len(self._deleted) > REMEMBERED_DELETES:
            del self._deleted[next(iter(self._deleted))]


def _key(nap: SleepMeta) -> tuple[float, str]:
    # A handle of an older version has no name; its end alone is as good as one.
    return nap.ends_at, nap.name


def _seconds(inputs: Mapping[str, Any]) -> float:
    given = inputs.get("seconds")
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise InvalidInputError(
            f"sleep needs an input 'seconds' that is a number; it has {sorted(inputs) or 'no inputs'}"
        )
    if not math.isfinite(given) or not 0 <= given <= LONGEST_SECONDS:
        raise InvalidInputError(f"seconds is {given:g}; it must be between 0 and {LONGEST_SECONDS} (30 days)")
    return float(given)
