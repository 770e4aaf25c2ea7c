"""Counts of the last five minutes' calls, brought up to date once a second whether somebody looks or not."""

import asyncio
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import msgspec

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
SLOT_SECONDS = 5
SLOTS = 60
WINDOW_SECONDS = SLOT_SECONDS * SLOTS

ConnectorKey = tuple[str, str]
"""The names of a plugin and of one of its connectors."""

NO_CONNECTOR: ConnectorKey = ("", "")

_LISTS = {list_agents_operation, list_connectors_operation}


class Window(msgspec.Struct, frozen=True):
    """The last `WINDOW_SECONDS`, slot by slot from the oldest, and as a whole.

    Attributes:
        calls: how many ended in each slot.
        failed: how many of these failed, but for those in `callers`.
        callers: how many failed by their caller's doing.
        p50s: the median of the seconds they took, `None` for a slot without calls.
        p99s: the 99th percentile of these, the same.
        p50: the median of the whole window.
        p99: the 99th percentile of the whole window.
    """

    calls: Sequence[int]
    failed: Sequence[int]
    callers: Sequence[int]
    p50s: Sequence[float | None]
    p99s: Sequence[float | None]
    p50: float | None
    p99: float | None

    @property
    def total(self) -> int:
        """All calls."""
        return sum(self.calls)

    @property
    def total_failed(self) -> int:
        """All calls that failed, but for those that did by their caller's doing."""
        return sum(self.failed)

    @property
    def total_callers(self) -> int:
        """All calls that failed by their caller's doing."""
        return sum(self.callers)

    @property
    def per_second(self) -> float:
        """Calls that ended in a second, on average."""
        return self.total / WINDOW_SECONDS


class _Slot(msgspec.Struct):
    """Calls that ended within a few seconds."""

    number: int = -1
    calls: int = 0
    failed: int = 0
    callers: int = 0
    durations: Counter[float] = msgspec.field(default_factory=Counter)
    """The numbers of calls by seconds, roughly."""


class SlottedCounts:
    """Calls counted into slots of a few seconds; old slots are overwritten."""

    def __init__(self) -> None:
        self._slots = [_Slot() for _ in range(SLOTS)]

    def add(self, at: float, calls: int, failed: int, callers: int, durations: Mapping[float, int]) -> None:
        """Count calls.

        Args:
            at: when they ended, in seconds since the epoch.
            calls: how many.
            failed: how many of these failed, but for the next.
            callers: how many failed by their caller's doing.
            durations: how many of these took about so many seconds.
        """
        number = int(at // SLOT_SECONDS)
        slot = self._slots[number % SLOTS]
        if slot.number < number:
            slot = self._slots[number % SLOTS] = _Slot(number)
        elif slot.number > number:
            # The clock was set back.
            return
        slot.calls += calls
        slot.failed += failed
        slot.callers += callers
        slot.durations.update(durations)

    def slot(self, number: int) -> _Slot:
        """Return the calls that ended within the seconds of that number."""
        slot = self._slots[number % SLOTS]
        return slot if slot.number == number else _Slot()

    def until(self, now: float) -> Window:
        """Return the window that ends now."""
        return window_of([self], now)


def window_of(counts: Collection[SlottedCounts], now: float) -> Window:
    """Return the window that ends now, of all these together."""
    last = int(now // SLOT_SECONDS)
    slots = [_together([each.slot(number) for each in counts]) for number in range(last - SLOTS + 1, last + 1)]
    whole = _together(slots)
    return Window(
        calls=[slot.calls for slot in slots],
        failed=[slot.failed for slot in slots],
        callers=[slot.callers for slot in slots],
        p50s=[_percentile(slot.durations, 0.5) for slot in slots],
        p99s=[_percentile(slot.durations, 0.99) for slot in slots],
        p50=_percentile(whole.durations, 0.5),
        p99=_percentile(whole.durations, 0.99),
    )


def _together(slots: Collection[_Slot]) -> _Slot:
    total = _Slot()
    for slot in slots:
        if slot.calls:
            total.calls += slot.calls
            total.failed += slot.failed
            total.callers += slot.callers
            total.durations.update(slot.durations)
    return total


def _percentile(durations: Counter[float], share: float) -> float | None:
    """Return what this share of the durations stay under, `None` where there are none."""
    left = math.ceil(durations.total() * share)
    for seconds in sorted(durations):
        left -= durations[seconds]
        if left <= 0:
            return seconds
    return None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A tally's counts when it was last read."""

    succeeded: int
    failed: int
    callers: int
    counts: Sequence[int]


_NOTHING = _Seen(0, 0, 0, ())


class Observer:
    """Counts of calls by the second in which they ended: Prometheus' own counts, read once a second.

    Args:
        metrics: the counts.
        stopping: ends it.

    Attributes:
        turns: how often it has read; what was derived in one turn is out of date in the next.
        by_connector: counts of the calls that are about tasks, by connector; `NO_CONNECTOR` has those that found none.
        listed_at: when connectors were last listed, which the engine does every few seconds.
    """

    def __init__(self, metrics: Metrics, stopping: asyncio.Event) -> None:
        self._tallies = metrics.requests
        self._stopping = stopping
        self._next_turn = asyncio.Event()
        self._seen: dict[TallyKey, _Seen] = {}
        self.turns = 0
        self.by_connector: defaultdict[ConnectorKey, SlottedCounts] = defaultdict(SlottedCounts)
        self.listed_at: float | None = None

    async def run(self) -> None:
        """Read once a second until it is time to stop."""
        try:
            await self._run()
        except Exception:  # noqa: BLE001 - HTTP is served without it
            _log.critical("console stopped updating: internal error in the host", exc_info=True)

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
        """Wait until it has read again; say whether it goes on after that."""
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
        seen = _Seen(tally.succeeded, sum(dict(tally.failed).values()), tally.callers, tally.latency.counts)
        succeeded, failed = seen.succeeded - before.succeeded, seen.failed - before.failed
        if not succeeded + failed:
            # As of most connectors in most seconds.
            return
        seen = self._seen[key] = replace(seen, counts=list(seen.counts))
        callers = min(failed, max(0, seen.callers - before.callers))
        if key.task_type != NO_TASK_TYPE:
            durations = {} if key.operation == get_logs_operation else _durations(tally.latency, seen, before)
            self.by_connector[key.plugin, key.connector].add(
                now, succeeded + failed, failed - callers, callers, durations
            )
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
