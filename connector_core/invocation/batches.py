"""GetTask calls of one connector that come at about the same time, asked as one `get_many`."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from flyteidl.admin import agent_pb2

from connector_core.connection import Connection
from connector_core.errors import ConnectorError, DeadlineExceededError, IllegalAnswerError, TransientError
from connector_core.invocation.offers import JobOffer, ManyOffer
from connector_core.invocation.places import Bulkhead
from connector_core.observing.call_records import REQUEST
from connector_core.settings import BatchSettings

_log = logging.getLogger(__name__)

_Answer = agent_pb2.Resource | ConnectorError
AskMany = Callable[[ManyOffer, float], Awaitable[list[_Answer]]]
"""Runs `get_many` until a moment on the monotonic clock."""


@dataclass(slots=True)
class _Batch:
    """The jobs of one batch, each with its waiting callers and the connection of the first of them."""

    waiting: dict[bytes, asyncio.Future[agent_pb2.Resource]] = field(default_factory=dict)
    connections: list[Connection] = field(default_factory=list)
    end: float = 0.0


class Batches:
    """Gathers one connector's `get` calls for some milliseconds, or until there are many.

    Args:
        ask: runs `get_many`.
        bulkhead: the connector's.
        batch: for how long calls are gathered, and how many at the most.
    """

    def __init__(self, ask: AskMany, bulkhead: Bulkhead, batch: BatchSettings) -> None:
        self._ask_many = ask
        self._bulkhead = bulkhead
        self._plugin = bulkhead.description.plugin.name
        self._limit = bulkhead.limits.deadlines.get("get_many", math.inf)
        self._window = batch.window
        self._size = batch.size
        self._open: _Batch | None = None
        self._asking: set[asyncio.Task[None]] = set()

    async def get(self, offer: JobOffer, end: float) -> agent_pb2.Resource:
        """Return a job's state, from the next batch.

        Raises:
            ConnectorError: this job's own error, or the whole batch's.
        """
        loop = asyncio.get_running_loop()
        batch = self._open
        if batch is None:
            batch = self._open = _Batch()
            loop.call_later(self._window, self._send, batch)
        future = batch.waiting.get(offer.resource_meta)
        if future is None:
            future = batch.waiting[offer.resource_meta] = loop.create_future()
            batch.connections.append(offer.connection)
        batch.end = max(batch.end, end)
        if len(batch.waiting) >= self._size:
            self._send(batch)
        timeout = max(0.001, end - time.monotonic())
        await asyncio.wait([future], timeout=timeout)  # the batch lasts as long as its most patient caller
        if not future.done():
            raise DeadlineExceededError(
                "did not finish before the caller's deadline", plugin=self._plugin, operation="get_many"
            )
        return future.result()

    async def close(self) -> None:
        """Cancel the batches; waiting callers get an error."""
        if self._open is not None:
            _settle_all(self._open, TransientError("the host is stopping"))
            self._open = None
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def _send(self, batch: _Batch) -> None:
        if self._open is not batch:
            return  # it was full, and has been sent
        self._open = None
        task = asyncio.create_task(self._ask(batch))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, batch: _Batch) -> None:
        REQUEST.set(None)  # it is the first caller's, and this is about all of them
        offer = ManyOffer(list(batch.waiting), batch.connections)
        now = time.monotonic()
        end = min(max(batch.end, now + 0.001), now + self._limit)
        try:
            answers = self._merged(offer, len(batch.waiting), await self._ask_many(offer, end))
        except ConnectorError as error:
            answers = [self._failure(offer, position) or error for position in range(len(batch.waiting))]
        except asyncio.CancelledError:
            _settle_all(batch, TransientError("the host is stopping"))
            raise
        except Exception:  # noqa: BLE001 - the host's own; nobody may wait for ever
            name = self._bulkhead.description.name
            _log.exception("batch failed in the host: get_many() of connector %s", name)
            _settle_all(batch, TransientError("internal error in the host; see its log"))
            return
        for future, answer in zip(batch.waiting.values(), answers, strict=True):
            _settle(future, answer)

    def _merged(self, offer: ManyOffer, number: int, answers: list[_Answer]) -> list[_Answer]:
        """Merge the answers for decoded jobs with the errors of the others."""
        expected = number - len(offer.failed)
        if len(answers) != expected:
            raise IllegalAnswerError(
                f"get_many() was called for {expected} jobs and returned {len(answers)}",
                plugin=self._plugin,
                operation="get_many",
            )
        rest = map(self._named, answers)
        return [self._failure(offer, position) or next(rest) for position in range(number)]

    def _failure(self, offer: ManyOffer, position: int) -> ConnectorError | None:
        error = offer.failed.get(position)
        return None if error is None else self._bulkhead.translated("get_many", error)

    def _named(self, answer: _Answer) -> _Answer:
        return self._bulkhead.translated("get_many", answer) if isinstance(answer, ConnectorError) else answer


def _settle_all(batch: _Batch, answer: _Answer) -> None:
    for future in batch.waiting.values():
        _settle(future, answer)


def _settle(future: asyncio.Future[agent_pb2.Resource], answer: _Answer) -> None:
    if future.done():
        return
    if isinstance(answer, ConnectorError):
        future.set_exception(answer)
        future.exception()  # it may be that nobody waits any more
    else:
        future.set_result(answer)
