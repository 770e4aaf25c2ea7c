"""Gauges: numbers that go up and down, kept plain and made into Prometheus' samples when they are scraped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily


class Reading:
    """One number of a gauge; any thread may change it."""

    __slots__ = ("_lock", "_read", "_value")

    def __init__(self) -> None:
        self._value = 0.0
        self._read: Callable[[], float] | None = None
        self._lock = threading.Lock()

    def set(self, value: float) -> None:
        """Let it be this number."""
        self._value = value

    def inc(self) -> None:
        """Count one up."""
        with self._lock:
            self._value += 1

    def dec(self) -> None:
        """Count one down."""
        with self._lock:
            self._value -= 1

    def set_function(self, read: Callable[[], float]) -> None:
        """Let it be what a function says whenever it is looked at."""
        self._read = read

    def get(self) -> float:
        """Return it."""
        return float(self._read()) if self._read is not None else self._value


class Gauge:
    """A gauge by labels.

    Args:
        name: of the metric.
        documentation: what it says.
        label_names: by what its numbers differ.
    """

    def __init__(self, name: str, documentation: str, label_names: Sequence[str]) -> None:
        self.name = name
        self.label_names = tuple(label_names)
        self._documentation = documentation
        self._readings: dict[tuple[str, ...], Reading] = {}
        self._lock = threading.Lock()

    def labels(self, *values: str) -> Reading:
        """Return the number for these values of the labels."""
        if (found := self._readings.get(values)) is None:
            if len(values) != len(self.label_names):
                raise ValueError(f"{self.name} has the labels {self.label_names}, not {len(values)}")
            with self._lock:
                found = self._readings.setdefault(values, Reading())
        return found

    def values(self) -> dict[tuple[str, ...], float]:
        """Return all its numbers by the values of their labels; any thread may ask."""
        return {values: reading.get() for values, reading in dict(self._readings).items()}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all samples; called in the thread that answers a scrape."""
        for family in self.describe():
            for values, number in self.values().items():
                family.add_metric(values, number)
            yield family

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Give the name, for those who ask a registry for some of them."""
        from prometheus_client.core import GaugeMetricFamily

        yield GaugeMetricFamily(self.name, self._documentation, labels=self.label_names)
