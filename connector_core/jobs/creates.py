"""Creates that run once for each attempt of a task, whatever becomes of those who wait for them.

The engine repeats a create whose answer it did not get: with the next attempt's number after a deadline, with the same one
when it could not save its own state. A create whose caller has gone therefore goes on, and its answer is kept for whoever asks
again; and what was started for an attempt that nobody ever got an answer about is deleted when a later attempt arrives.
"""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Self

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from connector_core.errors import (
    ConnectorError,
    DeadlineExceededError,
    JobNotFoundError,
    PermanentError,
    TransientError,
)
from connector_core.invocation import Invoker
from connector_core.jobs import envelope
from connector_core.jobs.arguments import job_arguments
from connector_core.jobs.limits import failed, fit
from connector_core.jobs.memory import Memory
from connector_core.registry import RegisteredConnector
from connector_core.task import Attempt

_log = logging.getLogger(__name__)

_LEASE_SLACK = 10.0
_LOOK_AGAIN = 0.05
_DELETE_TRIES = 8


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What the settings say of creates; see there."""

    remember_seconds: float = 86_400
    orphan_seconds: float | None = None
    failures_as_status: bool = False
    max_result_bytes: int = 100_000
    max_answer_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Created:
    """What CreateTask answers, and the failure that it stands for where it stands for one."""

    resource_meta: bytes
    failure: PermanentError | None = None


@dataclass(frozen=True, slots=True)
class _Record:
    """What is remembered of a create: begun by whom; when done, its resource meta and whether that was answered."""

    owner: str
    resource_meta: bytes | None = None
    is_answered: bool = False

    def encode(self) -> bytes:
        meta = None if self.resource_meta is None else base64.b64encode(self.resource_meta).decode()
        return json.dumps({"owner": self.owner, "meta": meta, "answered": self.is_answered}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        fields = json.loads(data)
        meta = fields["meta"]
        return cls(fields["owner"], None if meta is None else base64.b64decode(meta), fields["answered"])


class Creates:
    """Creates for all connectors of a host.

    Args:
        invoker: runs plugin code.
        memory: keeps what was created.
        options: the settings.
        owner: names this host, and this life of it, in a shared memory.
        limits: the longest time that `create` and `do` may take, in seconds.
    """

    def __init__(
        self, invoker: Invoker, memory: Memory, options: CreateOptions, *, owner: str, limits: Mapping[str, float]
    ) -> None:
        self._invoker = invoker
        self._memory = memory
        self._options = options
        self._owner = owner
        self._limits = limits
        self._running: dict[str, asyncio.Task[Created]] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def create(
        self,
        connector: RegisteredConnector,
        arguments: Mapping[str, Any],
        attempt: Attempt | None,
        timeout: float | None,
    ) -> Created:
        """Start a job, or return what was started for this attempt before.

        A request that does not say which attempt it is for is run as it comes, within its caller's time.

        Raises:
            ConnectorError: it failed and may be tried again, or failures go out as statuses.
        """
        if attempt is None:
            return await self._invoke(connector, arguments, timeout)
        running = self._running.get(attempt.key)
        if running is None:
            running = self._running[attempt.key] = asyncio.create_task(self._create_once(connector, arguments, attempt))
            running.add_done_callback(lambda _done: self._running.pop(attempt.key, None))
            running.add_done_callback(_retrieve)
        try:
            created = await asyncio.wait_for(asyncio.shield(running), timeout)
        except TimeoutError:
            raise DeadlineExceededError(
                "the create was not over at the caller's deadline; it goes on, and its answer is kept for the next try",
                plugin=connector.plugin.name,
                operation="create",
            ) from None
        await asyncio.sleep(0)  # a caller that has gone in this very moment is heard of here, and has not been answered
        await self._answered(attempt.key, created)
        return created

    async def close(self, timeout: float) -> None:
        """Let creates that nobody waits for end, and orphans be deleted, for so long."""
        under_way = {*self._running.values(), *self._background}
        if under_way:
            _done, left = await asyncio.wait(under_way, timeout=timeout)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _create_once(
        self, connector: RegisteredConnector, arguments: Mapping[str, Any], attempt: Attempt
    ) -> Created:
        key = _key(attempt.key)
        lease = self._limits.get("do" if connector.is_sync else "create", 60.0) + _LEASE_SLACK
        before = await self._claim(key, lease)
        if before is not None:
            return Created(before)
        self._spawn(self._delete_earlier(connector, attempt))
        try:
            created = await self._invoke(connector, arguments, None)
        except BaseException:
            await self._memory.remove(key)
            raise
        await self._memory.put(
            key, _Record(self._owner, created.resource_meta).encode(), self._options.remember_seconds
        )
        if await self._memory.get(_condemned(attempt.key)) is not None:
            self._spawn(self._delete_orphan(connector, attempt.key))
            raise TransientError("a later attempt of this task has begun, so what this one started is deleted again")
        if self._options.orphan_seconds is not None:
            self._spawn(self._delete_after(connector, attempt.key, self._options.orphan_seconds))
        return created

    async def _claim(self, key: str, lease: float) -> bytes | None:
        """Become the one who creates; or return the resource meta that somebody else has created."""
        while not await self._memory.add(key, _Record(self._owner).encode(), lease):
            found = await self._memory.get(key)
            if found is None:
                continue
            record = _Record.decode(found)
            if record.resource_meta is not None:
                return record.resource_meta
            if not self._memory.is_shared:  # begun in an earlier life of this host, which cannot tell how it ended
                await self._memory.put(key, _Record(self._owner).encode(), lease)
                return None
            await asyncio.sleep(_LOOK_AGAIN)
        return None

    async def _invoke(
        self, connector: RegisteredConnector, arguments: Mapping[str, Any], timeout: float | None
    ) -> Created:
        try:
            if not connector.is_sync:
                return Created(await self._invoker.invoke(connector, "create", arguments, timeout))
            resource = fit(
                await self._invoker.invoke(connector, "do", arguments, timeout), self._options.max_answer_bytes
            )
            return Created(self._seal_result(connector, envelope.seal(resource)))
        except PermanentError as error:
            if self._options.failures_as_status:
                raise
            return Created(envelope.seal(failed(error)), error)

    def _seal_result(self, connector: RegisteredConnector, sealed: bytes) -> bytes:
        if len(sealed) > self._options.max_result_bytes:
            raise PermanentError(
                f"connector {connector.name!r} is a sync one, but the engine called it with CreateTask, and its result of "
                f"{len(sealed):,} bytes does not fit into a resource meta (setting max_result_bytes: "
                f"{self._options.max_result_bytes:,}). Take its task type out of the engine's static routing "
                "(connectorForTaskTypes), so that the engine asks ListAgents and calls ExecuteTaskSync",
                error_code="ResultTooLarge",
            )
        return sealed

    async def _answered(self, attempt_key: str, created: Created) -> None:
        """Remember that the answer went out: from now on only DeleteTask deletes this job."""
        record = _Record(self._owner, created.resource_meta, is_answered=True)
        await self._memory.put(_key(attempt_key), record.encode(), self._options.remember_seconds)

    async def _delete_earlier(self, connector: RegisteredConnector, attempt: Attempt) -> None:
        """Delete what earlier attempts of the same task started without anybody having got the answer."""
        for key in attempt.earlier_keys():
            await self._delete_orphan(connector, key, condemn=True)

    async def _delete_after(self, connector: RegisteredConnector, attempt_key: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._delete_orphan(connector, attempt_key)

    async def _delete_orphan(self, connector: RegisteredConnector, attempt_key: str, *, condemn: bool = False) -> None:
        found = await self._memory.get(_key(attempt_key))
        if found is None:
            return
        record = _Record.decode(found)
        if record.resource_meta is None and condemn:
            # Still under way, perhaps at another replica: whoever ends it will find this. It may have ended just now.
            await self._memory.put(_condemned(attempt_key), b"1", self._options.remember_seconds)
            found = await self._memory.get(_key(attempt_key))
            record = _Record.decode(found) if found is not None else record
        if record.resource_meta is None or record.is_answered or envelope.unseal(record.resource_meta) is not None:
            return
        await self._delete_with_patience(connector, record.resource_meta)
        await self._memory.remove(_key(attempt_key))

    async def _delete_with_patience(self, connector: RegisteredConnector, resource_meta: bytes) -> None:
        began = time.monotonic()
        tries = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(_DELETE_TRIES),
            wait=wait_random_exponential(multiplier=0.5, max=30),
            reraise=True,
        )
        try:
            await tries(self._invoker.invoke, connector, "delete", job_arguments(connector, resource_meta))
        except JobNotFoundError:
            return
        except ConnectorError as error:
            _log.error(
                "plugin %s: a job that connector %s started for an attempt nobody waits for could not be deleted in %.0f s "
                "and may be running still: %s",
                connector.plugin.name,
                connector.name,
                time.monotonic() - began,
                error,
            )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(_retrieve)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Look at the error of a task that nobody may wait for, and log one that is the host's own."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, ConnectorError):
        _log.error("a task of the host failed", exc_info=error)


def _key(attempt_key: str) -> str:
    return f"create/{attempt_key}"


def _condemned(attempt_key: str) -> str:
    return f"condemned/{attempt_key}"
