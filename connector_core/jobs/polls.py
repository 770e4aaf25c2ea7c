"""GetTask answers that ride out trouble: the engine stops polling after six failures in a task's whole life.

Transient errors are tried again within the call's deadline, then answered with the last phase that is known, for up to an
error budget. Permanent ones become FAILED. A terminal phase is remembered and never reverts.
"""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from flyteidl.admin import agent_pb2

from connector_core.description import ConnectorDescription
from connector_core.errors import (
    BackendUnavailableError,
    ConnectorError,
    DeadlineExceededError,
    InPoll,
    MemoryUnavailableError,
)
from connector_core.invocation import Invoker
from connector_core.invocation.offers import JobOffer
from connector_core.jobs.memory import Memory
from connector_core.jobs.recent import RecentAnswers
from connector_core.jobs.records import JobRecord, Known
from connector_core.jobs.sizes import LimitOf, failed, fit
from connector_core.resource import Phase
from connector_core.settings import Settings
from connector_core.texts import cut_text

_log = logging.getLogger(__name__)

_SHOWN_BYTES = 8 * 1024
"""Log links and custom info beyond this are not remembered."""

_KEPT_BYTES = 64 * 1024
"""An answer beyond this is not kept, or only what matters of it."""


_CREATED = JobRecord(phase=Phase.INITIALIZING.value).encode()


class _Asking:
    """The outcome of a call, for other callers of the same job."""

    __slots__ = ("_outcome",)

    def __init__(self) -> None:
        self._outcome: asyncio.Future[agent_pb2.Resource] | None = None

    @property
    def outcome(self) -> "asyncio.Future[agent_pb2.Resource]":
        """The outcome that the call will have; cancelled if its caller goes."""
        if self._outcome is None:
            self._outcome = asyncio.get_running_loop().create_future()
        return self._outcome

    def answered(self, resource: agent_pb2.Resource) -> None:
        """Give the others the answer."""
        if self._outcome is not None:
            self._outcome.set_result(resource)

    def failed(self, error: ConnectorError) -> None:
        """Give the others the failure."""
        if self._outcome is not None:
            self._outcome.set_exception(error)
            self._outcome.exception()  # they may have gone meanwhile

    def give_up(self) -> None:
        """Let the next in line ask, if there is no outcome."""
        if self._outcome is not None:
            self._outcome.cancel()


class Polls:
    """GetTask for all connectors of a host.

    Args:
        invoker: runs plugin code.
        memory: keeps the jobs' last phases.
        settings: limits and choices.
        limit_of: the longest time that an operation of a connector may take, in seconds.
        clock: the wall clock, in seconds; a job may fail for longer than this process lives.
    """

    def __init__(
        self,
        invoker: Invoker,
        memory: Memory,
        settings: Settings,
        *,
        limit_of: LimitOf,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._invoker = invoker
        self._memory = memory
        self._at_once = memory.at_once
        self._settings = settings
        self._limit_of = limit_of
        self._clock = clock
        self._asking: dict[bytes, _Asking] = {}
        self._recent = RecentAnswers()

    async def get(self, connector: ConnectorDescription, offer: JobOffer, timeout: float | None) -> agent_pb2.Resource:
        """Return a job's state; calls for one job at the same time run once, with what the first of them brings.

        Raises:
            ConnectorError: the request or the plugin's answer is invalid, or the error budget is used up.
        """
        end = time.monotonic() + _patience(timeout, self._limit_of(connector, "get"))
        job = _job_id(connector, offer.resource_meta, offer.output_prefix)
        if connector.min_poll_interval and (recent := self._recent.get(job)) is not None:
            return recent
        while (asking := self._asking.get(job)) is not None:
            if (answer := await self._join(asking, job, end)) is not None:
                return answer
        asking = self._asking[job] = _Asking()
        try:
            resource = await self._ask(connector, job, offer, end)
        except ConnectorError as error:
            asking.failed(error)
            raise
        except BaseException:
            asking.give_up()  # the next in line asks
            raise
        finally:
            del self._asking[job]
        asking.answered(resource)
        if connector.min_poll_interval:
            self._recent.keep(job, resource, connector.min_poll_interval)
        return resource

    def created(
        self, connector: ConnectorDescription, resource_meta: bytes, output_prefix: str
    ) -> Coroutine[Any, Any, None] | None:
        """Remember that a job's create was answered, so that its first polls need not claim that it runs.

        Engines of the 1.x line show a phase's links and message only when it begins, and never again a phase that is
        returned to; so RUNNING is left for the connector to say.

        Returns:
            What is left to be awaited, where the memory is not in this process.
        """
        key = _key(_job_id(connector, resource_meta, output_prefix))
        if self._at_once is None:
            return self._remember_create(key)
        self._at_once.add(key, _CREATED, self._settings.memory.seconds)
        return None

    async def _remember_create(self, key: str) -> None:
        try:
            await self._memory.add(key, _CREATED, self._settings.memory.seconds)
        except MemoryUnavailableError as error:
            _log.warning("create of a job not remembered for its polls: %s", error)

    async def ride_out(
        self, connector: ConnectorDescription, offer: JobOffer, error: ConnectorError
    ) -> agent_pb2.Resource:
        """Answer for a job whose connector cannot be asked, while the error budget lasts.

        Raises:
            ConnectorError: `error`, when the budget is used up.
        """
        job = _job_id(connector, offer.resource_meta, offer.output_prefix)
        return await self._ride_out(job, await self._look_up(job), error)

    async def _join(self, asking: _Asking, job: bytes, end: float) -> agent_pb2.Resource | None:
        """Wait for the call that asks already; return `None` if its caller has gone and it was given up."""
        outcome = asking.outcome
        await asyncio.wait([outcome], timeout=max(0.0, end - time.monotonic()))
        if outcome.cancelled():
            return None
        if outcome.done():
            return outcome.result()
        late = DeadlineExceededError("another call is asking for this job, and was not answered in time")
        return _last_known((await self._look_up(job)).record, late)

    async def _ask(
        self, connector: ConnectorDescription, job: bytes, offer: JobOffer, end: float
    ) -> agent_pb2.Resource:
        known = await self._look_up(job) if self._at_once is None else _known(self._at_once.get(_key(job)))
        if known.record.resource is not None:
            return agent_pb2.Resource.FromString(known.record.resource)
        try:
            try:
                resource = await self._ask_once(connector, offer, end)
            except ConnectorError as error:
                if error.in_poll is not InPoll.RIDDEN_OUT:
                    raise
                resource = await self._ask_again(error, connector, offer, end)
        except ConnectorError as error:
            if error.in_poll is InPoll.ANSWERED:
                raise
            if error.in_poll is InPoll.RIDDEN_OUT:
                return await self._ride_out(job, known, error)
            resource = failed(error)
        return await self._learnt(connector, job, known, fit(resource, self._settings.max_answer_bytes))

    async def _ask_again(
        self,
        first: ConnectorError,
        connector: ConnectorDescription,
        offer: JobOffer,
        end: float,
    ) -> agent_pb2.Resource:
        from connector_core.jobs.retrying import pause_after, try_until

        pause = pause_after(first)
        if time.monotonic() + pause >= end:
            raise first
        await asyncio.sleep(pause)
        try:
            return await try_until(end, lambda: self._ask_once(connector, offer, end))
        except DeadlineExceededError as late:
            raise first from late  # the first error tells the reason; the last one only that its try was cut off

    def _ask_once(
        self, connector: ConnectorDescription, offer: JobOffer, end: float
    ) -> Coroutine[Any, Any, agent_pb2.Resource]:
        return self._invoker.invoke(connector, "get", offer, end=end)

    async def _learnt(
        self, connector: ConnectorDescription, job: bytes, known: Known, resource: agent_pb2.Resource
    ) -> agent_pb2.Resource:
        """Remember what is new, and hold the connector to a terminal phase that it has told before."""
        record = known.record
        shown = _shown(resource, record.shown)
        if not record.is_terminal and (resource.phase != record.phase or record.failures or shown is not record.shown):
            new = JobRecord(phase=resource.phase, resource=_worth_keeping(resource), shown=shown)
            record = await self._remember(job, known, new)
            if record is new:
                return resource
        if record.resource is not None:
            return agent_pb2.Resource.FromString(record.resource)
        if record.is_terminal and resource.phase != record.phase:
            told, now = Phase(record.phase or 0).name, Phase(resource.phase).name
            raise BackendUnavailableError(
                f"the job was {told}, and the connector now says {now}; a last word stands",
                plugin=connector.plugin.name,
            )
        return resource

    async def _ride_out(self, job: bytes, known: Known, error: ConnectorError) -> agent_pb2.Resource:
        """Answer with the last known phase while the error budget lasts, then with the error.

        Raises:
            ConnectorError: the budget is used up.
        """
        record, now = known.record, self._clock()
        since = record.failing_since if record.failures else now
        failing = replace(record, failures=record.failures + 1, failing_since=since)
        record = await self._remember(job, known, failing)
        if record is not failing:
            return _last_known(record, error)
        if record.failures > self._settings.ride_out.failures or now - since > self._settings.ride_out.seconds:
            raise error
        _log.warning(
            "get() failed, answered with the last known phase: plugin %s, %d times in a row: %s",
            error.plugin,
            record.failures,
            error,
            exc_info=error.__cause__ if record.failures == 1 else None,
        )
        return _last_known(record, error)

    async def _look_up(self, job: bytes) -> Known:
        try:
            data = await self._memory.get(_key(job))
        except MemoryUnavailableError as error:
            _log.warning("lookup of a job's last phase failed: %s", error)
            data = None
        return _known(data)

    async def _remember(self, job: bytes, known: Known, new: JobRecord) -> JobRecord:
        """Store `new`, unless another host has stored the job's end meanwhile; return the stored record."""
        key, data, seconds = _key(job), new.encode(), self._settings.memory.seconds
        try:
            while not await (
                self._memory.add(key, data, seconds)
                if known.data is None
                else self._memory.replace(key, known.data, data, seconds)
            ):
                known = await self._look_up(job)
                if known.record.is_terminal:
                    return known.record
        except MemoryUnavailableError as error:
            _log.warning("phase of a job not remembered: %s", error)
        return new


def _known(data: bytes | None) -> Known:
    return Known(JobRecord.decode(data), data)


def _shown(resource: agent_pb2.Resource, before: bytes | None) -> bytes | None:
    """Return the log links and custom info that are to be remembered; `before` itself, where there is nothing new.

    Custom info that changes with each poll is remembered with the links alone: no poll waits for a memory because of it.
    """
    if not resource.log_links and not resource.HasField("custom_info"):
        return before
    if before is not None:
        known = agent_pb2.Resource.FromString(before)
        if list(known.log_links) == list(resource.log_links) and known.HasField("custom_info") == resource.HasField(
            "custom_info"
        ):
            return before
    shown = agent_pb2.Resource(log_links=resource.log_links)
    if resource.HasField("custom_info") and resource.custom_info.ByteSize() <= _SHOWN_BYTES:
        shown.custom_info.CopyFrom(resource.custom_info)
    return shown.SerializeToString() if shown.ByteSize() <= _SHOWN_BYTES else before


def _worth_keeping(resource: agent_pb2.Resource) -> bytes | None:
    """Return a last word as it is remembered; `None` for a success whose outputs are too large for that."""
    if not Phase(resource.phase).is_terminal:
        return None
    copy = agent_pb2.Resource()
    copy.CopyFrom(resource)
    kept = fit(copy, _KEPT_BYTES)
    return kept.SerializeToString() if kept.phase == resource.phase else None


def _last_known(record: JobRecord, error: ConnectorError) -> agent_pb2.Resource:
    """Return the last word, or the last known phase, with a message that says so.

    Raises:
        ConnectorError: `error`, where the job has succeeded with outputs that are not known: without them the engine would
            go on as if there were none.
    """
    if record.resource is not None:
        return agent_pb2.Resource.FromString(record.resource)
    if record.is_terminal:
        raise error
    phase = Phase.RUNNING if record.phase is None else Phase(record.phase)
    known = "no phase is known, so RUNNING is answered" if record.phase is None else "this is the last known phase"
    times = f" ({record.failures} times in a row)" if record.failures else ""
    text = f"the job's state could not be read{times}, and {known}: {_described(error)}"
    resource = agent_pb2.Resource() if record.shown is None else agent_pb2.Resource.FromString(record.shown)
    resource.phase, resource.message = phase.value, cut_text(text, 2048)
    return resource


def _patience(timeout: float | None, limit: float) -> float:
    """Return how long to try, in seconds: short enough that the last known phase is answered before the deadline."""
    whole = min(math.inf if timeout is None else timeout, limit)
    return max(0.0, whole - min(0.5, whole / 4))


def _job_id(connector: ConnectorDescription, resource_meta: bytes, output_prefix: str) -> bytes:
    """Tell jobs apart, those too whose connector writes the same resource meta for several tasks, as flytekit's sensor does."""
    parts = b"%b\0%b%b%b" % (
        connector.name.encode(),
        len(resource_meta).to_bytes(8),
        resource_meta,
        output_prefix.encode(),
    )
    return hashlib.sha256(parts).digest()


def _key(job: bytes) -> str:
    return f"job/{job.hex()}"


def _described(error: ConnectorError) -> str:
    where = f"plugin {error.plugin!r}: " if error.plugin else ""
    return f"{where}{error.message or type(error).__name__}"
