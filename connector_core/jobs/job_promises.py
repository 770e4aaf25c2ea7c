"""Jobs whose create is slower than the engine waits: answered in time with a promise, which becomes the job.

An engine that gives a create some seconds tries again with the next attempt. A create that always takes longer would start a
job for each attempt, and the last one would run for ever, since no engine has a resource meta to delete it with.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

from flyteidl.admin import agent_pb2

from connector_core.connection import Connection
from connector_core.description import ConnectorDescription
from connector_core.errors import BackendUnavailableError, ConnectorError, MemoryUnavailableError, TransientError
from connector_core.jobs import envelope
from connector_core.jobs.envelope import JobPromise
from connector_core.jobs.memory import Memory
from connector_core.jobs.promised import (
    JobMeta,
    LastWord,
    Outcome,
    Pending,
    deleted,
    is_superfluous,
    outcome_of,
    read,
    settled,
)
from connector_core.jobs.promises import SLACK, last_word, retryable
from connector_core.jobs.sizes import LimitOf
from connector_core.resource import Phase

_log = logging.getLogger(__name__)

_SEEN_AT_MOST = 10_000
_SEEN_BYTES = 4096
"""A resource meta beyond this is kept in the memory alone."""

_RENEWALS = 10
"""Times that a mapping is renewed while it lasts: each renewal is a write."""

_WRITE_TRIES = 8
"""Times that the end of a create is written, some minutes in all, to a memory that cannot be reached."""

WRITE_SECONDS = 2.0
"""Seconds that a host which stops gives those writes."""


class Delete(Protocol):
    """Deletes a job that no engine can delete, in a task of its own."""

    def __call__(self, connector: ConnectorDescription, resource_meta: bytes, connection: Connection) -> None: ...


Find = Callable[[ConnectorDescription, str], Awaitable[bytes | None]]
"""Returns the resource meta of the job that an attempt has started, as far as that is remembered."""

Ended = Callable[[], Awaitable[bytes]]
"""Returns the resource meta that a create came to, remembered as answered; raises what it raised."""


@dataclass(eq=False)
class _Running:
    """A promised create that has not ended at this host.

    Attributes:
        create: it.
        owner: names it in the memory.
        is_doomed: whether a DeleteTask has come for it here.
    """

    create: "asyncio.Future[Any]"
    owner: str
    is_doomed: bool = False


class _Seen(NamedTuple):
    """A job that a poll here has found, and when that was last renewed; without the resource meta where it is large."""

    job: JobMeta | None
    renewed: float


class JobPromises:
    """Promises of jobs.

    Args:
        memory: keeps what became of them, under keys of their own.
        seconds: how long that is remembered after the last poll.
        owner: names this host, and this life of it, in a shared memory.
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
        owner: str,
        limit_of: LimitOf,
        find: Find,
        delete: Delete,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._memory = memory
        self._seconds = seconds
        self._owner = owner
        self._limit_of = limit_of
        self._find = find
        self._delete = delete
        self._clock = clock
        self._running: dict[str, _Running] = {}
        self._unwritten: dict[str, Outcome] = {}
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
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
        if not self._runs(key, running):
            owner = f"{self._owner}-{id(running):x}"
            await self._begin(key, owner, max(left, self._seconds))
            if not self._runs(key, running):  # another caller of the same create may have been here meanwhile
                entry = self._running[key] = _Running(running, owner)
                running.add_done_callback(lambda _ended: self._write_end(connector, key, entry, ended, connection))
        return envelope.seal_promise(JobPromise(attempt, self._clock() + left))

    def _runs(self, key: str, create: "asyncio.Future[Any]") -> bool:
        entry = self._running.get(key)
        return entry is not None and entry.create is create

    async def _begin(self, key: str, owner: str, seconds: float) -> None:
        """Remember that a create is under way, in place of what an earlier one of the attempt came to when it failed."""
        data, new = None, Pending((owner,))
        while not await self._written(key, data, new.encode(), seconds):
            data = await self._memory.get(key)
            found = read(data)
            if isinstance(found, JobMeta):
                return
            new = found.with_owner(owner) if isinstance(found, Pending) else Pending((owner,))

    async def resolve(self, connector: ConnectorDescription, promise: JobPromise) -> JobMeta | agent_pb2.Resource:
        """Return the resource meta of the job, or what is to be answered as long as there is none.

        Raises:
            ConnectorError: nothing is known of it here; to be ridden out.
        """
        key = _key(connector, promise.attempt)
        if key in self._running and self._clock() <= promise.until:
            return _initializing("create() has not ended yet")
        while True:
            found, data = await self._look_up(connector, promise)
            if isinstance(found, JobMeta):
                await self._renew(key, data, found)
                return found
            if isinstance(found, LastWord):
                return found.resource
            if found is None or data is None or not found.owners:
                raise self._unknown(connector)
            if self._may_run(key, promise):
                return _initializing(
                    "delete requested; create() has not ended yet"
                    if found.is_doomed
                    else "create() runs at another replica, and has not ended yet"
                )
            # Remembered before it is told: should the create end after all, its job is deleted.
            lost = retryable("the host that ran create() ended before it had; what it started is not known")
            word = deleted() if found.is_doomed else LastWord(lost)
            if await self._memory.replace(key, data, word.encode(), self._seconds):
                return word.resource

    def _may_run(self, key: str, promise: JobPromise) -> bool:
        """Return whether a create that is remembered as under way may be: that of a host which has died is not."""
        return key in self._running or (self._memory.is_shared and self._clock() <= promise.until)

    def _unknown(self, connector: ConnectorDescription) -> BackendUnavailableError:
        reason = (
            "what was remembered of the create of this job is lost, and with it how the job is found"
            if self._memory.is_shared
            else "the create of this job ran at another replica, which shares no memory with this one, or before this host "
            "forgot what it knew (setting memory.kind)"
        )
        return BackendUnavailableError(reason, plugin=connector.plugin.name, operation="create")

    async def delete(self, connector: ConnectorDescription, promise: JobPromise) -> JobMeta | None:
        """Return the resource meta of the job to be deleted; `None`, where there is none or its deletion is remembered.

        Raises:
            TransientError: the create runs, or ran, where this host cannot reach it.
        """
        key = _key(connector, promise.attempt)
        running = self._running.get(key)
        if running is not None:
            running.is_doomed = True
        while True:
            found, data = await self._look_up(connector, promise)
            if isinstance(found, JobMeta):
                return found
            if isinstance(found, LastWord):
                return None
            doomed = Pending(found.owners if found is not None else (), is_doomed=True)
            if running is not None:
                doomed = doomed.with_owner(running.owner)
            may_be_written = doomed.owners or self._memory.is_shared
            if may_be_written and not await self._written(key, data, doomed.encode(), self._seconds):
                continue
            if not doomed.owners:
                raise TransientError(self._unknown(connector).message, plugin=connector.plugin.name, operation="delete")
            if key in self._running:
                return None
            # A host that died, or is just about to write it here, may have a job already.
            return await self._found(connector, promise)

    async def _found(self, connector: ConnectorDescription, promise: JobPromise) -> JobMeta | None:
        meta = await self._find(connector, promise.attempt)
        found = None if meta is None else outcome_of(meta)
        return found if isinstance(found, JobMeta) else None

    async def close(self) -> None:
        """Let what became of them be written, for a while."""
        if self._writing:
            _done, left = await asyncio.wait(self._writing, timeout=WRITE_SECONDS)
            for task in left:
                task.cancel()

    def _write_end(
        self, connector: ConnectorDescription, key: str, entry: _Running, ended: Ended, connection: Connection
    ) -> None:
        writing = asyncio.create_task(self._write(connector, key, entry, ended, connection))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def _write(
        self, connector: ConnectorDescription, key: str, entry: _Running, ended: Ended, connection: Connection
    ) -> None:
        outcome = await _outcome_of(ended)
        if entry.is_doomed and isinstance(outcome, JobMeta):  # whether or not the memory can be reached
            self._delete(connector, outcome.resource_meta, connection)
            outcome = deleted()
        settle = partial(self._settle, connector, key, entry.owner, outcome, connection)
        try:
            try:
                await settle()
            finally:
                if self._running.get(key) is entry:
                    del self._running[key]
        except MemoryUnavailableError:
            self._unwritten[key] = (
                outcome  # not before: a DeleteTask may be remembered, after which polls end otherwise
            )
            await self._settle_late(key, outcome, settle)

    async def _settle_late(self, key: str, outcome: Outcome, settle: "partial[Coroutine[Any, Any, None]]") -> None:
        """Try again to remember what a create came to, which polls here are told meanwhile."""
        from connector_core.jobs.retrying import try_patiently

        try:
            await try_patiently(_WRITE_TRIES, partial(settle, is_told=True))
        except MemoryUnavailableError as error:
            _log.warning("outcome of a promised create not remembered: %s", error)
            if isinstance(outcome, JobMeta):
                self._note_seen(key, outcome)
        finally:
            if self._unwritten.get(key) is outcome:
                del self._unwritten[key]

    async def _settle(
        self,
        connector: ConnectorDescription,
        key: str,
        owner: str,
        outcome: Outcome,
        connection: Connection,
        *,
        is_told: bool = False,
    ) -> None:
        """Remember what a create came to; delete its job if nobody is to have it.

        Polls that were told of a job are told of it on, also once it is deleted: it may have ended before that.
        """
        data: bytes | None = Pending((owner,)).encode()
        while True:
            found = read(data)
            new = (
                outcome
                if is_told and isinstance(found, Pending) and isinstance(outcome, JobMeta)
                else settled(found, owner, outcome)
            )
            if new is None or await self._written(key, data, new.encode(), self._seconds):
                break
            data = await self._memory.get(key)
        if is_superfluous(found, outcome) and isinstance(outcome, JobMeta):
            self._delete(connector, outcome.resource_meta, connection)

    async def _look_up(
        self, connector: ConnectorDescription, promise: JobPromise
    ) -> tuple[Pending | Outcome | None, bytes | None]:
        """Return what is known of a promise, and what the memory has of it."""
        key = _key(connector, promise.attempt)
        if (unwritten := self._unwritten.get(key)) is not None:
            return unwritten, unwritten.encode()
        seen = self._seen.get(key)
        try:
            data = await self._memory.get(key)
        except MemoryUnavailableError:
            if seen is None or seen.job is None:
                raise
            return seen.job, seen.job.encode()
        found = read(data)
        is_known = isinstance(found, JobMeta | LastWord) or (
            found is not None and found.owners and (found.is_doomed or self._may_run(key, promise))
        )
        if is_known:
            return found, data
        # The record of the attempt is written before this one, which a crash may have cut off, or the memory evicted.
        meta = await self._find(connector, promise.attempt)
        if meta is not None:
            return outcome_of(meta), data
        return (found, data) if seen is None or seen.job is None else (seen.job, data)

    async def _renew(self, key: str, data: bytes | None, job: JobMeta) -> None:
        """Keep a mapping that is polled: jobs run for days, and what is remembered ends some time after its last change."""
        word, now = job.encode(), time.monotonic()
        seen = self._seen.get(key)
        if data == word and seen is not None and now - seen.renewed < self._seconds / _RENEWALS:
            return
        self._note_seen(key, job)
        try:
            await self._written(key, data, word, self._seconds)
        except MemoryUnavailableError as error:
            _log.warning("outcome of a promised create not renewed: %s", error)

    def _note_seen(self, key: str, job: JobMeta) -> None:
        kept = job if len(job.resource_meta) <= _SEEN_BYTES else None
        self._seen[key] = _Seen(kept, time.monotonic())
        self._seen.move_to_end(key)
        if len(self._seen) > _SEEN_AT_MOST:
            self._seen.popitem(last=False)

    async def _written(self, key: str, data: bytes | None, new: bytes, seconds: float) -> bool:
        """Remember something in place of what was found; return whether that was still there."""
        if data is None:
            return await self._memory.add(key, new, seconds)
        return await self._memory.replace(key, data, new, seconds)


async def _outcome_of(ended: Ended) -> Outcome:
    try:
        return outcome_of(await ended())
    except ConnectorError as error:
        return outcome_of(last_word(error))
    except asyncio.CancelledError:
        return LastWord(retryable("the host stopped before create() had ended"))
    except Exception:  # noqa: BLE001 - the host's own, which is logged as such
        return LastWord(retryable("internal error in the host; see its log"))


def _initializing(text: str) -> agent_pb2.Resource:
    return agent_pb2.Resource(phase=Phase.INITIALIZING.value, message=text)


def _key(connector: ConnectorDescription, attempt: str) -> str:
    return f"promised-job/{connector.name}/{attempt}"
