"""The sleep connector: a job is nothing but the moment when it ends, so the handle is all there is to keep."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connector_core import AsyncConnectorBase, InvalidInputError, Phase, Resource, ResourceMeta

LONGEST_SECONDS = 30 * 24 * 3600


@dataclass
class SleepMeta(ResourceMeta):
    """A nap: the Unix time in seconds at which it ends, and its length in seconds."""

    ends_at: float
    seconds: float


class SleepConnector(AsyncConnectorBase[SleepMeta]):
    """Serves `sleep`: input `seconds` in, output `slept` (seconds) out."""

    name = "Sleep"
    task_type_name = "sleep"

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now

    async def create(self, inputs: Mapping[str, Any]) -> SleepMeta:
        """Begin a nap of `seconds`."""
        seconds = _seconds(inputs)
        return SleepMeta(ends_at=self._now() + seconds, seconds=seconds)

    async def get(self, resource_meta: SleepMeta) -> Resource:
        """Say whether the nap is over."""
        left = resource_meta.ends_at - self._now()
        if left > 0:
            return Resource(Phase.RUNNING, message=f"{left:.0f} of {resource_meta.seconds:g} seconds left")
        return Resource(Phase.SUCCEEDED, outputs={"slept": resource_meta.seconds})

    async def delete(self, resource_meta: SleepMeta) -> None:
        """Nothing runs, so nothing has to be stopped."""


def _seconds(inputs: Mapping[str, Any]) -> float:
    given = inputs.get("seconds")
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise InvalidInputError(
            f"sleep needs an input 'seconds' that is a number; it has {sorted(inputs) or 'no inputs'}"
        )
    if not math.isfinite(given) or not 0 <= given <= LONGEST_SECONDS:
        raise InvalidInputError(f"seconds is {given:g}; it must be between 0 and {LONGEST_SECONDS} (30 days)")
    return float(given)
