"""When to try again and when to stop; imported only where something has failed, as it costs start-up time."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from connector_core.errors import IllegalAnswerError, RateLimitedError, TransientError

T = TypeVar("T")

_POLL_PAUSE = 0.1
_POLL_PAUSE_AT_MOST = 5


def pause_after(error: BaseException) -> float:
    """Return how long to wait after a first failure, in seconds."""
    return max(_POLL_PAUSE, _asked_for(error))


async def try_until(end: float, work: Callable[[], Awaitable[T]]) -> T:
    """Try until it works, fails for good, or the next pause would not end before a moment on the monotonic clock.

    Raises:
        ConnectorError: as the last try did.
    """
    tries = AsyncRetrying(retry=_while_transient, stop=_StopBefore(end), wait=_pause_between, reraise=True)
    return await _run(tries, work)


async def try_patiently(times: int, work: Callable[[], Awaitable[T]]) -> T:
    """Try so many times, some minutes in all.

    Raises:
        ConnectorError: as the last try did.
    """
    tries = AsyncRetrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(times),
        wait=wait_random_exponential(multiplier=0.5, max=30),
        reraise=True,
    )
    return await _run(tries, work)


async def _run(tries: AsyncRetrying, work: Callable[[], Awaitable[T]]) -> T:
    async def one_try() -> T:  # tenacity awaits what it can see to be a coroutine function
        return await work()

    return await tries(one_try)


_while_transient = retry_if_exception(
    lambda error: isinstance(error, TransientError) and not isinstance(error, IllegalAnswerError)
)
_backoff = wait_random_exponential(multiplier=_POLL_PAUSE, max=_POLL_PAUSE_AT_MOST)


def _pause_between(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    return max(_backoff(state), _asked_for(error))


def _asked_for(error: BaseException | None) -> float:
    return (error.retry_after or 0.0) if isinstance(error, RateLimitedError) else 0.0


class _StopBefore(stop_base):
    """Stop when the next pause would not end in time."""

    def __init__(self, end: float) -> None:
        self._end = end

    def __call__(self, retry_state: RetryCallState) -> bool:
        return time.monotonic() + retry_state.upcoming_sleep >= self._end
