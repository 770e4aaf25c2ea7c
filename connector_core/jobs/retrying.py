"""Retries: the pauses between them, and the moment to stop."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from connector_core.errors import ConnectorError, InPoll, RateLimitedError, RiskNotAllowedError, TransientError

T = TypeVar("T")

_POLL_PAUSE = 0.1
_POLL_PAUSE_AT_MOST = 5
_PATIENT_PAUSE = 0.5
_PATIENT_PAUSE_AT_MOST = 30


def pause_after(error: BaseException) -> float:
    """Return how long to wait after a first failure, in seconds."""
    return max(_POLL_PAUSE, _asked_for(error))


async def try_until(end: float, work: Callable[[], Awaitable[T]]) -> T:
    """Try until it works, fails for good, or the next pause would not end before a moment on the monotonic clock.

    Raises:
        ConnectorError: as the last try did.
    """
    failures = 0
    while True:
        try:
            return await work()
        except ConnectorError as error:
            failures += 1
            pause = max(_backoff(failures, _POLL_PAUSE, _POLL_PAUSE_AT_MOST), _asked_for(error))
            if error.in_poll is not InPoll.RIDDEN_OUT or time.monotonic() + pause >= end:
                raise
        await asyncio.sleep(pause)


async def try_patiently(times: int, work: Callable[[], Awaitable[T]]) -> T:
    """Try so many times, some minutes in all.

    Raises:
        ConnectorError: as the last try did.
    """
    for failures in range(1, times):
        try:
            return await work()
        except TransientError:
            pause = _backoff(failures, _PATIENT_PAUSE, _PATIENT_PAUSE_AT_MOST)
        await asyncio.sleep(pause)
    return await work()


def _backoff(failures: int, pause: float, at_most: float) -> float:
    """Return a random pause below a bound that doubles with each failure, so that jobs do not ask all at one moment."""
    return random.uniform(0, min(pause * 2.0 ** (failures - 1), at_most))  # noqa: S311 - it keeps no secret


def _asked_for(error: BaseException) -> float:
    if isinstance(error, RiskNotAllowedError):
        return math.inf  # no call will change that, only the operator
    return (error.retry_after or 0.0) if isinstance(error, RateLimitedError) else 0.0
