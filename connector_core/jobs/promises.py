"""Sync results that are still to come: CreateTask is answered in time with a promise of one, which GetTask keeps.

An engine that calls a sync connector as an async one gives its create some seconds, and tries again with the next attempt. A
`do` that takes longer would be begun anew each time, and never be answered.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from flyteidl.admin import agent_pb2

from connector_core.description import ConnectorDescription
from connector_core.errors import ConnectorError, MemoryUnavailableError, PermanentError
from connector_core.jobs import envelope
from connector_core.jobs.envelope import Promise
from connector_core.jobs.memory import Memory
from connector_core.jobs.sizes import MAX_TEXT_BYTES, LimitOf, failed
from connector_core.resource import Phase
from connector_core.texts import cut_text

_log = logging.getLogger(__name__)

_UNDER_WAY = b""
SLACK = 10.0
"""Seconds by which the clocks of hosts may differ, and a `do` may end beyond its deadline."""


class Promises:
    """Promises of results of sync connectors.

    Args:
        memory: keeps what became of them, under keys of their own.
        seconds: how long a result is remembered.
        limit_of: the longest time that an operation of a connector may take, in seconds.
        clock: the wall clock, in seconds; another host may be asked than the one that promised.
    """

    def __init__(
        self, memory: Memory, seconds: float, *, limit_of: LimitOf, clock: Callable[[], float] = time.time
    ) -> None:
        self._memory = memory
        self._seconds = seconds
        self._limit_of = limit_of
        self._clock = clock
        self._running: dict[str, asyncio.Future[Any]] = {}
        self._deleted: set[str] = set()
        self._writing: set[asyncio.Task[None]] = set()

    async def make(
        self,
        connector: ConnectorDescription,
        attempt: str,
        running: "asyncio.Future[Any]",
        result: Callable[[], bytes],
    ) -> bytes:
        """Return a resource meta that stands for what a create under way will come to.

        Args:
            connector: a sync one.
            attempt: whose create.
            running: the create.
            result: returns the resource meta that it came to, or raises what it raised, once it has ended.

        Raises:
            MemoryUnavailableError: it could not be remembered that there is one.
        """
        key, left = _key(connector, attempt), self._limit_of(connector, "do") + SLACK
        if key not in self._running:
            self._running[key] = running
            try:
                await self._memory.put(key, _UNDER_WAY, left)
            finally:  # not before: what it came to is written after this
                running.add_done_callback(lambda _ended: self._ended(key, result))
        return envelope.seal_promise(Promise(attempt, self._clock() + left))

    async def kept(self, connector: ConnectorDescription, promise: Promise) -> agent_pb2.Resource:
        """Return the result, or that it is still to come; a failure that may be tried again where it never will."""
        key = _key(connector, promise.attempt)
        if key in self._running:
            return _under_way("do() has not ended yet")
        is_over = self._clock() > promise.until
        try:
            word = await self._memory.get(key)
        except MemoryUnavailableError:
            if is_over:
                raise
            return _under_way("lookup of the outcome of do() failed")
        if word:
            told = envelope.unseal(word)
            assert isinstance(told, agent_pb2.Resource)  # noqa: S101 - nothing else is written
            return told
        # Replicas that share a memory find each other's runs in it; others may get polls for a run of another replica.
        is_lost = word is None if self._memory.is_shared else word is not None
        if is_lost or is_over:
            return retryable("the host that ran do() has ended, or does not know of it any more")
        return _under_way("do() has not ended yet, or runs at another replica")

    def cancel(self, connector: ConnectorDescription, promise: Promise) -> None:
        """Cancel what is under way here for a promise; nothing, where it is not."""
        key = _key(connector, promise.attempt)
        if (running := self._running.get(key)) is not None:
            self._deleted.add(key)
            running.cancel()

    async def close(self) -> None:
        """Let what became of them be written."""
        while self._writing:
            await asyncio.wait(self._writing)

    def _ended(self, key: str, result: Callable[[], bytes]) -> None:
        word = _deleted() if key in self._deleted else _last_word(result)
        self._deleted.discard(key)
        writing = asyncio.create_task(self._write(key, word))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def _write(self, key: str, word: bytes) -> None:
        try:
            await self._memory.put(key, word, self._seconds)
        except MemoryUnavailableError as error:
            _log.warning("outcome of a promised create not remembered: %s", error)
        finally:
            del self._running[key]


def patience(timeout: float | None) -> float | None:
    """Return how long a create is waited for that can be promised: so long that there is time to say so."""
    return None if timeout is None else max(0.0, timeout - min(0.5, timeout / 4))


def last_word(error: ConnectorError) -> bytes:
    """Return the last word of a job whose create failed after it was answered with a promise."""
    if isinstance(error, PermanentError):
        return envelope.seal(failed(error))
    where = f"plugin {error.plugin!r}, {error.operation}(): " if error.plugin and error.operation else ""
    return envelope.seal(retryable(f"{where}{error.message or type(error).__name__}"))


def _last_word(result: Callable[[], bytes]) -> bytes:
    try:
        return result()
    except ConnectorError as error:
        return last_word(error)
    except asyncio.CancelledError:
        return envelope.seal(retryable("the host stopped before do() had ended"))
    except Exception:  # noqa: BLE001 - the host's own, which is logged as such
        return envelope.seal(retryable("internal error in the host; see its log"))


def _deleted() -> bytes:
    return envelope.seal(agent_pb2.Resource(phase=Phase.ABORTED.value, message="it was deleted"))


def retryable(text: str) -> agent_pb2.Resource:
    """Return the resource of a job that has failed and may be tried again."""
    return agent_pb2.Resource(phase=Phase.RETRYABLE_FAILED.value, message=cut_text(text, MAX_TEXT_BYTES))


def _under_way(text: str) -> agent_pb2.Resource:
    return agent_pb2.Resource(phase=Phase.RUNNING.value, message=text)


def _key(connector: ConnectorDescription, attempt: str) -> str:
    return f"promise/{connector.name}/{attempt}"
