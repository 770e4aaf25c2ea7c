"""Figures of the last minutes: how many calls, how many of them failed, and how long they took."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import msgspec

SLOT_SECONDS = 5
SLOTS = 60
WINDOW_SECONDS = SLOT_SECONDS * SLOTS


class Window(msgspec.Struct, frozen=True):
    """The last `WINDOW_SECONDS`, slot by slot from the oldest, and as a whole.

    Attributes:
        calls: how many ended in each slot.
        failed: how many of these ended otherwise than OK.
        p50s: the median of the seconds they took, `None` for a slot without calls.
        p99s: what 99 of 100 stayed under, the same.
        p50: the median of the whole window.
        p99: the same of 99 of 100.
    """

    calls: Sequence[int]
    failed: Sequence[int]
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
        """All calls that failed."""
        return sum(self.failed)

    @property
    def per_second(self) -> float:
        """How many calls ended in a second, on average."""
        return self.total / WINDOW_SECONDS


class _Slot(msgspec.Struct):
    """What ended within a few seconds."""

    number: int = -1
    calls: int = 0
    failed: int = 0
    durations: Counter[float] = msgspec.field(default_factory=Counter)
    """How many took about so many seconds."""


class Figures:
    """Counts calls into slots of a few seconds; old ones are overwritten."""

    def __init__(self) -> None:
        self._slots = [_Slot() for _ in range(SLOTS)]

    def add(self, at: float, calls: int, failed: int, durations: Mapping[float, int]) -> None:
        """Count calls.

        Args:
            at: when they ended, in seconds since the epoch.
            calls: how many.
            failed: how many of these failed.
            durations: how many of these took about so many seconds.
        """
        number = int(at // SLOT_SECONDS)
        slot = self._slots[number % SLOTS]
        if slot.number < number:
            slot = self._slots[number % SLOTS] = _Slot(number)
        elif slot.number > number:  # the clock was set back
            return
        slot.calls += calls
        slot.failed += failed
        slot.durations.update(durations)

    def slot(self, number: int) -> _Slot:
        """Return what ended within the seconds of that number."""
        slot = self._slots[number % SLOTS]
        return slot if slot.number == number else _Slot()

    def until(self, now: float) -> Window:
        """Return the window that ends now."""
        return window_of([self], now)


def window_of(figures: Collection[Figures], now: float) -> Window:
    """Return the window that ends now, of all these together."""
    last = int(now // SLOT_SECONDS)
    slots = [_together([one.slot(number) for one in figures]) for number in range(last - SLOTS + 1, last + 1)]
    whole = _together(slots)
    return Window(
        calls=[slot.calls for slot in slots],
        failed=[slot.failed for slot in slots],
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
