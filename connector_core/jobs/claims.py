"""Claims on attempts: which host may start an attempt's job, what it started, and whether that was answered.

There is one record for each attempt. The host that adds it may create; a host replaces it before it answers the create
or deletes the job. So of two hosts one creates, and a job is never answered by one and deleted by the other.
"""

import asyncio
import base64
import json
import logging
import math
from binascii import b2a_base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self

from connector_core.errors import MemoryUnavailableError, TransientError
from connector_core.jobs.memory import Memory
from connector_core.texts import cut_text

_log = logging.getLogger(__name__)

_LOOK_AGAIN = 0.05
_JSON = {False: b"false", True: b"true"}


class SupersededError(TransientError):
    """A later attempt of the same task has begun, so that nobody wants this one's job any more."""


class _Record(NamedTuple):
    """The record of an attempt: its claimant; when done, its resource meta and what became of that.

    A doomed attempt's job is being deleted, or is gone if the record has no resource meta any more.
    """

    owner: str
    resource_meta: bytes | None = None
    is_answered: bool = False
    is_doomed: bool = False

    def encode(self) -> bytes:
        """Write JSON, by hand: there is nothing in it to escape, and each create writes three of these."""
        meta = b"null" if self.resource_meta is None else b'"%b"' % b2a_base64(self.resource_meta, newline=False)
        return b'["%b", %b, %b, %b]' % (self.owner.encode(), meta, _JSON[self.is_answered], _JSON[self.is_doomed])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a record; one that cannot be read is that of an attempt that has nothing, as if it had been evicted."""
        try:
            owner, meta, is_answered, is_doomed = json.loads(data.decode())
            resource_meta = None if meta is None else base64.b64decode(meta, validate=True)
        except (ValueError, TypeError):
            _log.warning("unreadable record of an attempt, treated as absent: %d bytes", len(data))
            return cls("", is_doomed=True)
        return cls(str(owner), resource_meta, bool(is_answered), bool(is_doomed))


class Done(NamedTuple):
    """An attempt's resource meta, and the record that it stands in; `None` where that could not be written."""

    resource_meta: bytes
    data: bytes | None


class Claims:
    """The records of all attempts, in a memory.

    Args:
        memory: keeps them.
        owner: names this host, and this life of it, in a shared memory.
        seconds: how long what was done is remembered.
    """

    def __init__(self, memory: Memory, owner: str, seconds: float) -> None:
        self._memory = memory
        self._alone = None if memory.is_shared else memory.at_once
        self._owner = owner if self._alone is None else ""  # in a memory of its own there is no other
        self._seconds = seconds
        self._claim = _Record(self._owner).encode()

    def is_new(self, attempt: str) -> bool:
        """Return whether an attempt is new, and stays unknown to others until its create has to wait."""
        alone = self._alone
        return alone is not None and alone.get(attempt) is None and alone.get(_later(attempt)) is None

    def claim_at_once(self, attempt: str) -> None:
        """Claim an attempt that is new, before others have a turn; until its create ends, as it does if the memory lives."""
        if self._alone is not None:
            self._alone.add(attempt, self._claim, math.inf)

    def answer_at_once(self, attempt: str, resource_meta: bytes) -> None:
        """Remember what was created for an attempt that is new, and that the answer goes out before others have a turn."""
        if self._alone is not None:
            self._alone.put(attempt, _Record(self._owner, resource_meta, is_answered=True).encode(), self._seconds)

    async def claim(self, attempt: str, lease: float) -> Done | None:
        """Become the one who creates, for so long; or return what somebody else has created, once he has.

        Raises:
            TransientError: this attempt is over, or the memory cannot be reached.
        """
        while not await self._memory.add(attempt, self._claim, lease):
            if (data := await self._memory.get(attempt)) is None:
                continue
            record = _Record.decode(data)
            if record.resource_meta is not None:
                if record.is_doomed:
                    raise TransientError(
                        "the job of this attempt is being deleted: its create was not answered in time"
                    )
                return Done(record.resource_meta, data)
            if await self._memory.get(_later(attempt)) is not None:
                raise SupersededError("this attempt is given up: a later attempt of this task has begun")
            if self._is_free(record):
                if await self._memory.replace(attempt, data, self._claim, lease):
                    return None
                continue
            await asyncio.sleep(_LOOK_AGAIN)
        return None

    def _is_free(self, record: _Record) -> bool:
        """Return whether an attempt without a job has no create in progress.

        A claim of this life is one whose answer was lost on the way; one of an earlier life cannot tell how it ended.
        """
        return record.is_doomed or not self._memory.is_shared or record.owner == self._owner

    @contextmanager
    def held(self, attempt: str, lease: float) -> Iterator[None]:
        """Renew a claim until the block ends, since one connector may be allowed more time than others."""
        renewing: list[asyncio.Task[None]] = []

        def begin() -> None:  # few creates last for so long that there is anything to renew
            renewing.append(asyncio.create_task(self._renew(attempt, lease)))

        timer = asyncio.get_running_loop().call_later(lease / 3, begin)
        try:
            yield
        finally:
            timer.cancel()
            for task in renewing:
                task.cancel()

    async def _renew(self, attempt: str, lease: float) -> None:
        while True:
            try:
                if not await self._memory.replace(attempt, self._claim, self._claim, lease):
                    return
            except MemoryUnavailableError as error:
                _log.warning("claim not renewed: %s", error)
            await asyncio.sleep(lease / 3)

    async def let_go(self, attempt: str) -> None:
        """Give a claim back: the create has failed, and may be begun anew."""
        try:
            if await self._memory.get(attempt) == self._claim:
                await self._memory.remove(attempt)
        except MemoryUnavailableError as error:
            _log.warning("claim not released, it expires by itself: %s", error)

    async def keep(self, attempt: str, resource_meta: bytes) -> Done:
        """Remember what was created, in place of the claim.

        Another host may have begun the attempt meanwhile, if the memory has lost the claim. If it is done, what it created
        is returned instead.

        Raises:
            TransientError: it is still under way.
        """
        data = _Record(self._owner, resource_meta).encode()
        found = None
        try:
            while found is None:
                if await self._memory.replace(attempt, self._claim, data, self._seconds):
                    return Done(resource_meta, data)
                if await self._memory.add(attempt, data, self._seconds):
                    return Done(resource_meta, data)
                found = await self._memory.get(attempt)
        except MemoryUnavailableError as error:
            # The job runs. To refuse the answer now would lose it.
            _log.warning("create not remembered: a retried create may start a second job: %s", error)
            return Done(resource_meta, None)
        record = _Record.decode(found)
        if record.resource_meta is None:
            shown = cut_text(resource_meta.decode(errors="backslashreplace"), 1000)
            _log.error(
                "duplicate create: two hosts ran one attempt; unless both got the same job, this one is an orphan: %s",
                shown,
            )
            raise TransientError("another host also ran the create of this attempt; its answer is used")
        return Done(record.resource_meta, found)

    async def answer(self, attempt: str, done: Done) -> None:
        """Remember that the answer goes out: from now on only DeleteTask deletes this job.

        Raises:
            TransientError: it is being deleted, or another job counts.
            MemoryUnavailableError: it could not be remembered; not where it could not be from the beginning.
        """
        answered = _Record(self._owner, done.resource_meta, is_answered=True).encode()
        data = done.data
        while not await self._written(attempt, data, answered):
            data = await self._memory.get(attempt)
            record = _Record.decode(data or self._claim)
            if record.is_doomed or record.resource_meta not in {None, done.resource_meta}:
                raise TransientError(
                    "this attempt was given up while it was being answered: a later one has begun, or another host's counts"
                )
            if record.is_answered:
                return

    async def _written(self, attempt: str, data: bytes | None, new: bytes) -> bool:
        if data is None:
            return await self._memory.add(attempt, new, self._seconds)
        return await self._memory.replace(attempt, data, new, self._seconds)

    async def job_of(self, attempt: str) -> bytes | None:
        """Return the resource meta of the job that an attempt has started; `None` where it has none that is to stay."""
        if (data := await self._memory.get(attempt)) is None:
            return None
        record = _Record.decode(data)
        return None if record.is_doomed else record.resource_meta

    async def later_job(self, attempt: str) -> bytes | None:
        """Return the job of the later attempt that doomed this one: empty where it has none."""
        return await self._memory.get(_later(attempt))

    async def doom(self, attempt: str, later: bytes | None = None) -> bytes | None:
        """Return the resource meta of a job that nobody was told about, which is to be deleted now; `None` if there is none.

        Args:
            attempt: whose job.
            later: the job of the later attempt that has begun (empty where it has none), for whoever still has this one
                under way; a job that both attempts share is not an orphan.
        """
        data = await self._memory.get(attempt)
        if data is not None and later is not None and _Record.decode(data).resource_meta is None:
            await self._memory.put(_later(attempt), later, self._seconds)
            data = await self._memory.get(attempt)  # it may have ended just now
        if data is None:
            return None
        record = _Record.decode(data)
        if record.resource_meta is None or record.is_answered:
            return None
        if record.resource_meta == later:
            await self._memory.remove(attempt)
            return None
        if record.is_doomed and record.owner == self._owner:
            return None  # it is being deleted
        doomed = record._replace(owner=self._owner, is_doomed=True).encode()
        if not await self._memory.replace(attempt, data, doomed, self._seconds):
            return None  # it is being answered, or deleted by somebody else
        return record.resource_meta

    async def gone(self, attempt: str) -> None:
        """Remember that a doomed job is gone: a create about to be answered must not take the record for evicted."""
        await self._memory.put(attempt, _Record(self._owner, is_doomed=True).encode(), self._seconds)


def name_of(connector: str, key: str) -> str:
    """Name an attempt at a connector: that is what its record is kept under."""
    return f"create/{connector}/{key}"


def _later(attempt: str) -> str:
    return f"later{attempt.removeprefix('create')}"
