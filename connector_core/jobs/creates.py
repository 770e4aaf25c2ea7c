"""Creates that run once for each attempt of a task, whatever becomes of those who wait for them.

The engine repeats a create whose answer it did not get: with the next attempt's number after a deadline, with the same
one when it could not save its own state. A create whose caller has gone therefore goes on, and its answer is kept for a
retry; and what was started for an attempt that nobody ever got an answer about is deleted when a later attempt arrives.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from connector_core.connection import Connection
from connector_core.description import ConnectorDescription
from connector_core.errors import (
    ConnectorError,
    DeadlineExceededError,
    MemoryUnavailableError,
    PermanentError,
    TransientError,
)
from connector_core.invocation import Invoker
from connector_core.invocation.offers import TaskOffer
from connector_core.jobs import envelope
from connector_core.jobs.claims import Claims, Done, SupersededError, name_of
from connector_core.jobs.eager import begin, is_over
from connector_core.jobs.job_promises import JobPromises
from connector_core.jobs.memory import Memory
from connector_core.jobs.orphans import Orphans
from connector_core.jobs.promises import Promises, patience
from connector_core.jobs.sizes import AROUND_BYTES, LimitOf, failed, fit
from connector_core.settings import Settings
from connector_core.task import Attempt

_log = logging.getLogger(__name__)


NoteJob = Callable[[ConnectorDescription, bytes, str], Coroutine[Any, Any, None] | None]
"""Called with a job and the output prefix of its task; returns what is left to be awaited."""


class Created(NamedTuple):
    """The answer of CreateTask, and the failure that it stands for, if it does."""

    resource_meta: bytes
    failure: PermanentError | None = None


class _Outcome(NamedTuple):
    """The outcome of a create: its answer, the record to replace before answering, and whether it ran just now."""

    created: Created
    done: Done | None
    is_new: bool


class Creates:
    """Creates for all connectors of a host.

    Args:
        invoker: runs plugin code.
        memory: keeps what was created.
        settings: limits and choices.
        owner: names this host, and this life of it, in a shared memory.
        limit_of: the longest time that an operation of a connector may take, in seconds.
        note_job: called with each job whose create is answered, and the output prefix of its task.
        clock: the time, in seconds since the epoch.

    Attributes:
        promises: the results of sync connectors that were still to come when their creates were answered.
        job_promises: the jobs of async connectors, likewise.
    """

    def __init__(
        self,
        invoker: Invoker,
        memory: Memory,
        settings: Settings,
        *,
        owner: str,
        limit_of: LimitOf,
        note_job: NoteJob | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._note_job = note_job
        self._invoker = invoker
        self._settings = settings
        self._limit_of = limit_of
        self.promises = Promises(memory, settings.memory.seconds, limit_of=limit_of, clock=clock)
        self._promises_jobs = settings.promise_creates == "auto"
        self._claims = Claims(memory, owner, settings.memory.seconds)
        self._running: dict[str, asyncio.Task[_Outcome]] = {}
        self._promised: set[asyncio.Task[_Outcome]] = set()
        self._orphans = Orphans(invoker, self._claims, settings.orphan_seconds)
        self.job_promises = JobPromises(
            memory,
            settings.memory.seconds,
            owner=owner,
            limit_of=limit_of,
            find=self._find,
            delete=self._orphans.delete_job,
            clock=clock,
        )

    @property
    def in_flight(self) -> set[asyncio.Task[Any]]:
        """The creates that go on, whether a caller still waits for them or not."""
        return set(self._running.values())

    @property
    def deletions_in_flight(self) -> set[asyncio.Task[Any]]:
        """The deletions of orphans that go on."""
        return set(self._orphans.under_way)

    async def create(
        self,
        connector: ConnectorDescription,
        offer: TaskOffer,
        timeout: float | None,
    ) -> Created:
        """Start a job, or return what was started for this attempt before; in time, a promise of a sync connector's result.

        A request that does not say which attempt it is for is run as it comes, within its caller's time.

        Raises:
            ConnectorError: it failed and may be tried again, or failures go out as statuses.
        """
        if (attempt := offer.attempt) is None:
            created = await self._invoke(connector, offer, timeout)
            await self._noted(connector, created, offer.output_prefix)
            return created
        name = name_of(connector.name, attempt.key)
        running: _Outcome | asyncio.Task[_Outcome] | None = self._running.get(name)
        if running is None:
            running = self._begin(connector, offer, attempt, name)
        if isinstance(running, asyncio.Task):
            can_promise = connector.is_sync or self._promises_jobs
            if not await self._is_over(connector, running, patience(timeout) if can_promise else timeout):
                promised = await self._promise(connector, offer, attempt, running)
                if promised is not None:
                    return promised
            await asyncio.sleep(0)  # a caller that has gone in this very moment is heard of here, and was not answered
            outcome = _outcome(connector, running)
        else:
            outcome = running
        if outcome.done is not None:
            await self._answer(name, outcome.done, outcome.is_new)
        created = outcome.created
        if (noting := self._note(connector, created, offer.output_prefix)) is not None:
            await noting
        return created

    def _begin(
        self, connector: ConnectorDescription, offer: TaskOffer, attempt: Attempt, name: str
    ) -> "_Outcome | asyncio.Task[_Outcome]":
        try:
            running = begin(self._create_once(connector, offer, attempt, name))
        except asyncio.CancelledError:
            raise _cancelled(connector) from None
        if isinstance(running, asyncio.Task):
            self._claims.claim_at_once(name)
            self._running[name] = running
            running.add_done_callback(partial(self._ended, name))
        return running

    def _ended(self, name: str, running: asyncio.Task[_Outcome]) -> None:
        del self._running[name]
        _retrieve(running)

    async def _is_over(
        self, connector: ConnectorDescription, running: asyncio.Task[_Outcome], timeout: float | None
    ) -> bool:
        """Wait for a create that goes on if its caller goes."""
        try:
            return await is_over(running, timeout)
        finally:
            if not running.done():
                running.add_done_callback(partial(_log_unheard, connector))

    async def _promise(
        self, connector: ConnectorDescription, offer: TaskOffer, attempt: Attempt, running: asyncio.Task[_Outcome]
    ) -> Created | None:
        """Answer before a create is over; `None`, where a job's create has ended in the meantime.

        Raises:
            DeadlineExceededError: jobs are not promised.
        """
        if connector.is_sync:
            result = await self.promises.make(
                connector, attempt.key, running, lambda: running.result().created.resource_meta
            )
            return Created(result)
        if not self._promises_jobs:
            raise DeadlineExceededError(
                "the create did not finish before the caller's deadline; it goes on, and its answer is kept for a create "
                "of the same attempt",
                plugin=connector.plugin.name,
                operation="create",
            )
        ended = partial(self._ended_as_promised, connector, offer.output_prefix, attempt, running)
        promised = await self.job_promises.make(connector, attempt.key, running, ended, offer.connection)
        await asyncio.sleep(0)  # a caller that has gone in this very moment is heard of here, and was not answered
        if running.done():
            return None
        self._promised.add(running)
        return Created(promised)

    async def _ended_as_promised(
        self, connector: ConnectorDescription, output_prefix: str, attempt: Attempt, running: asyncio.Task[_Outcome]
    ) -> bytes:
        """Return what a promised create came to; its promise was the answer, if its caller was still there."""
        is_answered = running in self._promised
        self._promised.discard(running)
        outcome = running.result()
        if outcome.done is not None and is_answered:
            await self._answer(name_of(connector.name, attempt.key), outcome.done, outcome.is_new)
        await self._noted(connector, outcome.created, output_prefix)
        return outcome.created.resource_meta

    async def _find(self, connector: ConnectorDescription, attempt: str) -> bytes | None:
        return await self._claims.job_of(name_of(connector.name, attempt))

    async def _noted(self, connector: ConnectorDescription, created: Created, output_prefix: str) -> None:
        if (noting := self._note(connector, created, output_prefix)) is not None:
            await noting

    def _note(
        self, connector: ConnectorDescription, created: Created, output_prefix: str
    ) -> Coroutine[Any, Any, None] | None:
        if self._note_job is None or envelope.is_own(created.resource_meta):
            return None
        return self._note_job(connector, created.resource_meta, output_prefix)

    async def close(self, timeout: float) -> None:
        """Let creates that nobody waits for end, and orphans be deleted, for so long."""
        end = time.monotonic() + timeout
        await self._end(end)
        await self.promises.close()
        await self.job_promises.close()
        await self._end(end)  # deletions of promised jobs that had been asked for before there was a job
        self._orphans.close()

    async def _end(self, end: float) -> None:
        """Let creates and deletions end, until a moment on the monotonic clock."""
        while under_way := self.in_flight | self.deletions_in_flight:
            _done, left = await asyncio.wait(under_way, timeout=max(0.0, end - time.monotonic()))
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _create_once(
        self, connector: ConnectorDescription, offer: TaskOffer, attempt: Attempt, name: str
    ) -> _Outcome:
        earlier = attempt.earlier_keys()  # now: the plugin is given the messages that they are read from
        if is_new := self._claims.is_new(name):  # then the create claims it, if it has to wait
            creating = self._invoke(connector, offer, None)
        else:
            lease = _lease(self._limit_of(connector, "do" if connector.is_sync else "create"))
            before = await self._claims.claim(name, lease)
            if before is not None:
                return _Outcome(Created(before.resource_meta), before, is_new=False)
            creating = self._invoke_held(connector, offer, name, lease)
        created = None
        try:
            created = await creating
        except BaseException:
            await self._claims.let_go(name)
            raise
        finally:
            if earlier:
                later = created.resource_meta if created is not None else b""
                self._orphans.delete_earlier(connector, earlier, later, offer.connection)
        if is_new and name not in self._running:  # nobody else has had a turn, nor has one before this is answered
            self._claims.answer_at_once(name, created.resource_meta)
            return _Outcome(created, None, is_new=True)
        return await self._kept(connector, name, created, offer.connection)

    async def _invoke_held(self, connector: ConnectorDescription, offer: TaskOffer, name: str, lease: float) -> Created:
        with self._claims.held(name, lease):
            return await self._invoke(connector, offer, None)

    async def _kept(
        self, connector: ConnectorDescription, name: str, created: Created, connection: Connection
    ) -> _Outcome:
        """Remember what was created, unless somebody else's job counts by now.

        Raises:
            TransientError: a later attempt has begun, or another host has this one under way.
        """
        done = await self._claims.keep(name, created.resource_meta)
        if done.resource_meta != created.resource_meta:
            self._orphans.delete_job(connector, created.resource_meta, connection)
            return _Outcome(Created(done.resource_meta), done, is_new=False)
        if done.data is not None:
            await self._give_up_if_later(connector, name, connection)
            self._orphans.watch(connector, name, connection)
        return _Outcome(created, done, is_new=True)

    async def _give_up_if_later(self, connector: ConnectorDescription, name: str, connection: Connection) -> None:
        try:
            later = await self._claims.later_job(name)
        except MemoryUnavailableError as error:
            _log.warning("lookup of a later attempt failed: %s", error)
            return
        if later is not None:
            self._orphans.delete(connector, name, connection, later)
            raise SupersededError("a later attempt of this task has begun; the job of this one is deleted")

    async def _invoke(self, connector: ConnectorDescription, offer: TaskOffer, timeout: float | None) -> Created:
        try:
            if not connector.is_sync:
                meta = await self._invoker.invoke(connector, "create", offer, timeout)
                return self._checked(connector, meta, offer.connection)
            resource = fit(await self._invoker.invoke(connector, "do", offer, timeout), self._settings.max_answer_bytes)
            return Created(self._seal_result(connector, envelope.seal(resource)))
        except PermanentError as error:
            if self._settings.permanent_create_failures == "status":
                raise
            return Created(envelope.seal(failed(error)), error)

    def _checked(self, connector: ConnectorDescription, resource_meta: bytes, connection: Connection) -> Created:
        """Refuse a resource meta that no engine receives, and delete its job, which nobody could find again."""
        if len(resource_meta) <= self._settings.max_answer_bytes - AROUND_BYTES:
            return Created(resource_meta)
        self._orphans.delete_job(connector, resource_meta, connection)
        raise PermanentError(
            f"the resource meta takes {len(resource_meta):,} bytes, and the engine receives "
            f"{self._settings.max_answer_bytes:,}: let the connector keep no more in it than finds the job again",
            error_code="ResourceMetaTooLarge",
            plugin=connector.plugin.name,
            operation="create",
        )

    def _seal_result(self, connector: ConnectorDescription, sealed: bytes) -> bytes:
        if len(sealed) > self._settings.max_result_bytes:
            raise PermanentError(
                f"connector {connector.name!r} is a sync one, but the engine called it with CreateTask, and its result of "
                f"{len(sealed):,} bytes does not fit into a resource meta (setting max_result_bytes: "
                f"{self._settings.max_result_bytes:,}). Raise that or, where the engine is of the 1.x line, take its task "
                "type out of the static routing (connectorForTaskTypes): it then asks ListAgents and calls ExecuteTaskSync",
                error_code="ResultTooLarge",
            )
        return sealed

    async def _answer(self, name: str, done: Done, is_new: bool) -> None:
        """Remember that the answer goes out."""
        try:
            await self._claims.answer(name, done)
        except MemoryUnavailableError as error:
            if not is_new:
                raise
            _log.warning("answered create not remembered: %s", error)
        self._orphans.heard_of(name)


def _outcome(connector: ConnectorDescription, running: asyncio.Task[_Outcome]) -> _Outcome:
    if running.cancelled():
        raise _cancelled(connector)
    return running.result()


def _cancelled(connector: ConnectorDescription) -> TransientError:
    return TransientError("the host is stopping", plugin=connector.plugin.name, operation="create")


def _lease(limit: float) -> float:
    """Return for how long a claim holds: beyond the longest create, and not much longer when its host has died."""
    return limit * 7 / 6 + 0.2


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Look at the error of a task that nobody may wait for, and log one that is the host's own."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, ConnectorError):
        _log.error("background task of the host failed", exc_info=error)


def _log_unheard(connector: ConnectorDescription, task: asyncio.Task[Any]) -> None:
    """Log why a create failed whose caller had gone."""
    if not task.cancelled() and isinstance(error := task.exception(), ConnectorError):
        _log.log(
            logging.INFO if isinstance(error, SupersededError) else logging.WARNING,
            "create failed after its caller had gone: plugin %s, connector %s: %s",
            connector.plugin.name,
            connector.name,
            error,
            exc_info=error.__cause__,
        )
