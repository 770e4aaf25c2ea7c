"""Jobs whose create is slower than the engine waits: answered in time with a promise, which becomes the job.

An engine that gives a create some seconds tries again with the next attempt. A create that always takes longer would start a
job for each attempt, and the last one would run for ever, since no engine has a resource meta to delete it with.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from flyteidl.admin import agent_pb2

from connector_core.connection import Connection
from connector_core.description import ConnectorDescription
from connector_core.errors import BackendUnavailableError, ConnectorError, MemoryUnavailableError, TransientError
from connector_core.jobs import envelope
from connector_core.jobs.envelope import JobPromise
from connector_core.jobs.memory import Memory
from connector_core.jobs.promises import SLACK, last_word, retryable
from connector_core.jobs.sizes import LimitOf
from connector_core.resource import Phase

_log = logging.getLogger(__name__)

_UNDER_WAY = b"?"
_DOOMED = b"x"
_META = b"="
_RENEWED_AT_MOST = 10_000
_RENEWALS = 10
"""Times that a mapping is renewed while it lasts: each renewal is a write."""


class JobMeta(NamedTuple):
    """The resource meta of the job that a promise has become."""

    resource_meta: bytes


class Delete(Protocol):
    """Deletes a job that no engine can delete, in a task of its own."""

    def __call__(self, connector: ConnectorDescription, resource_meta: bytes, connection: Connection) -> None: ...


Find = Callable[[ConnectorDescription, str], Awaitable[bytes | None]]
"""Returns the resource meta of the job that an attempt has started, as far as that is remembered."""

Ended = Callable[[], Awaitable[bytes]]
"""Returns the resource meta that a create came to, remembered as answered; raises what it raised."""


class JobPromises:
    """Promises of jobs.

    Args:
        memory: keeps what became of them, under keys of their own.
        seconds: how long that is remembered after the last poll.
        limit_of: the longest time that an operation of a connector may take, in seconds.
        find: looks for the job of an attempt where jobs are remembered by their attempts.
        delete: deletes a job whose DeleteTask came before its create had ended.
        clock: the wall clock, in seconds; another host may be asked than the one that promised.
    """

    def __init__(
        self,
        memory: Memory,
        seconds: float,
        *,
        limit_of: LimitOf,
        find: Find,
        delete: Delete,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._memory = memory
        self._seconds = seconds
        self._limit_of = limit_of
        self._find = find
        self._delete = delete
        self._clock = clock
        self._running: set[str] = set()
        self._doomed: set[str] = set()
        self._kept_here: OrderedDict[str, bytes] = OrderedDict()
        self._renewed: OrderedDict[str, float] = OrderedDict()
        self._writing: set[asyncio.Task[None]] = set()

    async def make(
        self,
        connector: ConnectorDescription,
        attempt: str,
        running: "asyncio.Future[Any]",
        ended: Ended,
        connection: Connection,
    ) -> bytes:
        """Return a resource meta that stands for the job of a create under way.

        Args:
            connector: an async one.
            attempt: whose create.
            running: the create.
            ended: called once it has ended.
            connection: what the create brought, for a job that has to be deleted.

        Raises:
            MemoryUnavailableError: the promise could not be remembered.
        """
        key, left = _key(connector, attempt), self._limit_of(connector, "create") + SLACK
        if key not in self._running:
            await self._begin(key, left)
            if key not in self._running:  # another caller of the same create may have been here meanwhile
                self._running.add(key)
                running.add_done_callback(lambda _ended: self._write_end(connector, key, ended, connection))
        return envelope.seal_promise(JobPromise(attempt, self._clock() + left))

    async def _begin(self, key: str, seconds: float) -> None:
        """Remember that a create is under way, in place of what an earlier one of the attempt came to when it failed."""
        while not await self._memory.add(key, _UNDER_WAY, seconds):
            word = await self._memory.get(key)
            if word is None:
                continue
            has_failed = not word.startswith((_UNDER_WAY, _DOOMED, _META))
            if not has_failed or await self._memory.replace(key, word, _UNDER_WAY, seconds):
                return

    async def resolve(self, connector: ConnectorDescription, promise: JobPromise) -> JobMeta | agent_pb2.Resource:
        """Return the resource meta of the job, or what is to be answered as long as there is none.

        Raises:
            ConnectorError: nothing is known of it here; to be ridden out.
        """
        key = _key(connector, promise.attempt)
        if key in self._running:
            return _initializing("create() has not ended yet")
        word = await self._look_up(connector, promise)
        if word == _UNDER_WAY and self._memory.is_shared:
            return _initializing("create() runs at another replica, and has not ended yet")
        if word == _DOOMED:
            return _initializing("delete requested; create() has not ended yet")
        if word is not None and word.startswith(_META):
            await self._renew(key, word)
            return JobMeta(word.removeprefix(_META))
        if word is not None and word != _UNDER_WAY:
            return _last_word(word)
        is_lost = word == _UNDER_WAY or (self._memory.is_shared and self._clock() > promise.until)
        if is_lost:
            return retryable("the host that ran create() ended before it had; what it started is not known")
        raise BackendUnavailableError(
            "the create of this job runs at another replica, which shares no memory with this one (setting memory.kind)",
            plugin=connector.plugin.name,
            operation="create",
        )

    async def delete(self, connector: ConnectorDescription, promise: JobPromise) -> JobMeta | None:
        """Return the resource meta of the job to be deleted; `None`, where there is none or its deletion is remembered.

        Raises:
            TransientError: the create runs, or ran, where this host cannot reach it.
        """
        key = _key(connector, promise.attempt)
        if key in self._running:
            self._doomed.add(key)
            return None
        while True:
            word = await self._look_up(connector, promise)
            if word is not None and word.startswith(_META):
                return JobMeta(word.removeprefix(_META))
            if word is not None and word != _UNDER_WAY:
                return None  # it has failed, or is doomed
            if not self._memory.is_shared:
                raise TransientError(
                    "the job's create ran at another replica or in an earlier life of this host, which alone know its "
                    "job (setting memory.kind)",
                    plugin=connector.plugin.name,
                    operation="delete",
                )
            if word is None:
                if await self._memory.add(key, _DOOMED, self._seconds):
                    return None
            elif await self._memory.replace(key, word, _DOOMED, self._seconds):
                return None

    async def close(self) -> None:
        """Let what became of them be written."""
        while self._writing:
            await asyncio.wait(self._writing)

    def _write_end(self, connector: ConnectorDescription, key: str, ended: Ended, connection: Connection) -> None:
        writing = asyncio.create_task(self._write(connector, key, ended, connection))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def _write(self, connector: ConnectorDescription, key: str, ended: Ended, connection: Connection) -> None:
        word = await _word_of(ended)
        try:
            if not word.startswith(_META):
                await self._memory.put(key, word, self._seconds)
            elif not await self._is_kept(key, word) or key in self._doomed:
                self._delete(connector, word.removeprefix(_META), connection)
                await self._memory.put(key, _aborted(), self._seconds)
        except MemoryUnavailableError as error:
            _log.warning("outcome of a promised create not remembered: %s", error)
            self._keep_here(key, word)
        finally:
            self._running.discard(key)
            self._doomed.discard(key)

    async def _is_kept(self, key: str, word: bytes) -> bool:
        """Remember a job; return whether it is to be kept, as no DeleteTask has come for it."""
        while not await self._memory.replace(key, _UNDER_WAY, word, self._seconds):
            found = await self._memory.get(key)
            if found == _DOOMED:
                return False
            if found is not None and found != _UNDER_WAY:
                return True  # another replica has written the same job
            if await self._memory.add(key, word, self._seconds):
                return True
        return True

    async def _look_up(self, connector: ConnectorDescription, promise: JobPromise) -> bytes | None:
        key = _key(connector, promise.attempt)
        word = await self._memory.get(key)
        if word is not None and (word != _UNDER_WAY or self._memory.is_shared):
            return word
        if (kept := self._kept_here.get(key)) is not None:
            return kept
        meta = await self._find(
            connector, promise.attempt
        )  # written before the mapping, which a crash may have cut off
        return word if meta is None else _META + meta

    def _keep_here(self, key: str, word: bytes) -> None:
        self._kept_here[key] = word
        if len(self._kept_here) > _RENEWED_AT_MOST:
            self._kept_here.popitem(last=False)

    async def _renew(self, key: str, word: bytes) -> None:
        """Keep a mapping that is polled: jobs run for days, and what is remembered ends some time after its last change."""
        now = time.monotonic()
        if now - self._renewed.get(key, -self._seconds) < self._seconds / _RENEWALS:
            return
        self._renewed[key] = now
        self._renewed.move_to_end(key)
        if len(self._renewed) > _RENEWED_AT_MOST:
            self._renewed.popitem(last=False)
        try:
            await self._memory.put(key, word, self._seconds)
        except MemoryUnavailableError as error:
            _log.warning("outcome of a promised create not renewed: %s", error)


async def _word_of(ended: Ended) -> bytes:
    try:
        meta = await ended()
    except ConnectorError as error:
        return last_word(error)
    except asyncio.CancelledError:
        return envelope.seal(retryable("the host stopped before create() had ended"))
    except Exception:  # noqa: BLE001 - the host's own, which is logged as such
        return envelope.seal(retryable("internal error in the host; see its log"))
    return meta if envelope.unseal(meta) is not None else _META + meta


def _last_word(word: bytes) -> agent_pb2.Resource:
    resource = envelope.unseal(word)
    if not isinstance(resource, agent_pb2.Resource):  # nothing else is written, but a memory may be damaged
        return retryable("the record of the create cannot be read")
    return resource


def _initializing(text: str) -> agent_pb2.Resource:
    return agent_pb2.Resource(phase=Phase.INITIALIZING.value, message=text)


def _aborted() -> bytes:
    return envelope.seal(agent_pb2.Resource(phase=Phase.ABORTED.value, message="it was deleted"))


def _key(connector: ConnectorDescription, attempt: str) -> str:
    return f"promised-job/{connector.name}/{attempt}"
