"""Keeps up with the calls that end: once a second, on the loop that serves HTTP, whether somebody looks or not."""

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from connector_core.http.console.figures import Figures, Window, window_of
from connector_core.metrics import (
    NO_TASK_TYPE,
    Metrics,
    get_logs_operation,
    list_agents_operation,
    list_connectors_operation,
)
from connector_core.metrics.tallies import Distribution, RequestTally, TallyKey

_log = logging.getLogger(__name__)

TURN_SECONDS = 1.0

ConnectorKey = tuple[str, str]
"""The names of a plugin and of one of its connectors."""

NO_CONNECTOR: ConnectorKey = ("", "")


_LISTS = {list_agents_operation, list_connectors_operation}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a tally had when it was last looked at."""

    succeeded: int
    failed: int
    counts: Sequence[int]


_NOTHING = _Seen(0, 0, ())


class Observer:
    """What is known of calls that have ended.

    Calls are counted once, for Prometheus; here is only told apart when they ended, and that once a second.

    Args:
        metrics: what counts them.
        stopping: ends it.

    Attributes:
        turns: how often it has looked; what was derived in one turn is out of date in the next.
        by_connector: figures of the calls that are about tasks, by connector; `NO_CONNECTOR` has those that found none.
        listed_at: when connectors were last listed, which the engine does every few seconds.
    """

    def __init__(self, metrics: Metrics, stopping: asyncio.Event) -> None:
        self._tallies = metrics.requests
        self._stopping = stopping
        self._next_turn = asyncio.Event()
        self._seen: dict[TallyKey, _Seen] = {}
        self.turns = 0
        self.by_connector: defaultdict[ConnectorKey, Figures] = defaultdict(Figures)
        self.listed_at: float | None = None

    async def run(self) -> None:
        """Look once a second until it is time to stop."""
        try:
            await self._run()
        except Exception:  # noqa: BLE001 - HTTP is served without it
            _log.critical("the console is not kept up to date any more: the host has a bug", exc_info=True)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self.look()
            self._wake()
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await self._stopping.wait()
            except TimeoutError:
                continue
        self._wake()

    async def next_turn(self) -> bool:
        """Wait until it has looked again; say whether it goes on after that."""
        if not self._stopping.is_set():
            await self._next_turn.wait()
        return not self._stopping.is_set()

    def look(self) -> None:
        """Take in the calls that have ended since."""
        now = time.time()
        for key, tally in self._tallies.items():
            self._take_in(key, tally, now)
        self.turns += 1

    def _wake(self) -> None:
        waiting, self._next_turn = self._next_turn, asyncio.Event()
        waiting.set()

    def until(self, now: float) -> Window:
        """Return the window that ends now, of all calls that are about tasks."""
        return window_of(self.by_connector.values(), now)

    def _take_in(self, key: TallyKey, tally: RequestTally, now: float) -> None:
        before = self._seen.get(key, _NOTHING)
        now_succeeded, now_failed = tally.succeeded, sum(dict(tally.failed).values())
        succeeded, failed = now_succeeded - before.succeeded, now_failed - before.failed
        if not succeeded + failed:  # as of most connectors in most seconds
            return
        seen = self._seen[key] = _Seen(now_succeeded, now_failed, list(tally.latency.counts))
        if key.task_type != NO_TASK_TYPE:
            durations = {} if key.operation == get_logs_operation else _durations(tally.latency, seen, before)
            self.by_connector[key.plugin, key.connector].add(now, succeeded + failed, failed, durations)
        elif succeeded and key.operation in _LISTS:
            self.listed_at = now


def _durations(latency: Distribution, seen: _Seen, before: _Seen) -> dict[float, int]:
    """Return how many calls took about how many seconds; following a log lasts as long as the job, which says nothing."""
    return {
        _middle(latency.bounds, place): new - was
        for place, (new, was) in enumerate(zip_longest(seen.counts, before.counts, fillvalue=0))
        if new > was
    }


def _middle(bounds: Sequence[float], place: int) -> float:
    """Return what stands for the values between a bound and the one before it."""
    lower, upper = bounds[max(place - 1, 0)], bounds[min(place, len(bounds) - 1)]
    return math.sqrt(lower * upper)
