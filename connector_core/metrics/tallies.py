"""Tallies of requests: plain numbers, made into Prometheus' samples when they are scraped.

Each request touches half a dozen of these. Prometheus' own instruments take a lock and two calls for each of them; requests
are counted on the serving loop alone, which needs neither (docs/explanation/performance.md has what that gives).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily
    from prometheus_client.metrics_core import Metric

_SHORTEST = 1e-5
_GROWTH = 1.1
_LONGEST = 1e5


def fine_bounds(shown: Sequence[float]) -> list[float]:
    """Return bounds in seconds that grow by a tenth, so that percentiles are right to five percent, with `shown` among them."""
    bounds = set(shown)
    bound = _SHORTEST
    while bound < _LONGEST:
        bounds.add(bound)
        bound *= _GROWTH
    return sorted(bounds)


class Distribution:
    """A histogram: counts of values by bounds, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def __iadd__(self, other: Distribution) -> Distribution:
        """Count what another one of the same bounds has."""
        self.counts = list(map(add, self.counts, list(other.counts)))
        self.total += other.total
        return self

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str], shown: Sequence[float]) -> None:
        """Add the samples of some of the bounds."""
        from prometheus_client.utils import floatToGoString

        below = dict(zip(self.bounds, accumulate(self.counts), strict=False))
        samples = list(zip(map(floatToGoString, shown), map(below.__getitem__, shown), strict=True))
        family.add_metric(labels, [*samples, ("+Inf", sum(self.counts))], self.total)


class TallyKey(NamedTuple):
    """The key of requests that are counted together; plugin and connector are empty where there is none."""

    task_type: str
    operation: str
    plugin: str = ""
    connector: str = ""


class RequestTally:
    """The outcomes of the requests of one operation on one task type of one connector."""

    __slots__ = ("callers", "failed", "in_flight", "latency", "succeeded")

    def __init__(self, latency_bounds: Sequence[float]) -> None:
        self.in_flight = 0
        self.succeeded = 0
        self.failed: dict[str, int] = {}
        self.callers = 0
        self.latency = Distribution(latency_bounds)

    def ended(self, code: str, seconds: float, is_callers_doing: bool = False) -> None:
        """Count the end of a request.

        Args:
            code: the name of its gRPC status code.
            seconds: how long it took.
            is_callers_doing: whether it failed by its caller's doing.
        """
        self.in_flight -= 1
        self.latency.observe(seconds)
        if code == "OK":
            self.succeeded += 1
        else:
            self.failed[code] = self.failed.get(code, 0) + 1
            self.callers += is_callers_doing

    def __iadd__(self, other: RequestTally) -> RequestTally:
        """Count what another one has."""
        self.in_flight += other.in_flight
        self.succeeded += other.succeeded
        for code, count in dict(other.failed).items():
            self.failed[code] = self.failed.get(code, 0) + count
        self.callers += other.callers
        self.latency += other.latency
        return self


class Tallies:
    """All requests of a host, by task type, operation and connector; only names that the host chose may get in.

    Args:
        prefix: of the metrics' names.
        latency_bounds: in seconds; those that are shown.
        size_bounds: of inputs, in bytes.
    """

    def __init__(self, prefix: str, latency_bounds: Sequence[float], size_bounds: Sequence[float]) -> None:
        self._prefix = prefix
        self._latency_shown = latency_bounds
        self._latency_bounds = fine_bounds(latency_bounds)
        self._size_bounds = size_bounds
        self._requests: dict[TallyKey, RequestTally] = {}
        self._sizes: dict[str, Distribution] = {}

    def of(self, key: TallyKey) -> RequestTally:
        """Return a tally."""
        if (found := self._requests.get(key)) is None:
            found = self._requests[key] = RequestTally(self._latency_bounds)
        return found

    def items(self) -> Iterable[tuple[TallyKey, RequestTally]]:
        """Return all there are, for a reader in whatever thread: copying is one step of the interpreter, as each read."""
        return dict(self._requests).items()

    def input_size(self, task_type: str) -> Distribution:
        """Return the sizes of a task type's inputs."""
        if (found := self._sizes.get(task_type)) is None:
            found = self._sizes[task_type] = Distribution(self._size_bounds)
        return found

    def collect(self) -> Iterator[Metric]:
        """Yield all samples; called in the thread that answers a scrape."""
        from prometheus_client.core import GaugeMetricFamily

        on_task = ("task_type", "operation")
        success = self._counter("requests_success", "Requests answered OK.", on_task)
        failure = self._counter(
            "requests_failure", "Requests that ended with another status, cut ones included.", (*on_task, "error_code")
        )
        callers = self._counter(
            "requests_callers_failure",
            "Those of them that failed by their caller's doing: a bad request, or a call that was given up.",
            on_task,
        )
        latency = self._histogram("request_latency_seconds", "Time from a request's arrival to its answer.", on_task)
        in_flight = GaugeMetricFamily(f"{self._prefix}requests_in_flight", "Requests being worked on.", labels=on_task)
        for labels, tally in self._by_labels().items():
            success.add_metric(labels, tally.succeeded)
            for code, count in tally.failed.items():
                failure.add_metric((*labels, code), count)
            callers.add_metric(labels, tally.callers)
            tally.latency.add_to(latency, labels, self._latency_shown)
            in_flight.add_metric(labels, tally.in_flight)
        sizes = self._histogram("input_literal_bytes", "Size of the inputs of create and do.", ("task_type",))
        for task_type, distribution in dict(self._sizes).items():
            distribution.add_to(sizes, (task_type,), self._size_bounds)
        yield from (success, failure, callers, latency, in_flight, sizes)

    def describe(self) -> Iterator[Metric]:
        """Give the names, for those who ask a registry for some of them."""
        return self.collect()

    def _by_labels(self) -> Mapping[tuple[str, str], RequestTally]:
        """Return what is shown: two connectors may serve two versions of one task type, which is one label."""
        sums: defaultdict[tuple[str, str], RequestTally] = defaultdict(lambda: RequestTally(self._latency_bounds))
        for key, tally in self.items():
            sums[key.task_type, key.operation] += tally
        return sums

    def _counter(self, name: str, documentation: str, labels: Sequence[str]) -> Any:
        from prometheus_client.core import CounterMetricFamily

        return CounterMetricFamily(f"{self._prefix}{name}", documentation, labels=labels)

    def _histogram(self, name: str, documentation: str, labels: Sequence[str]) -> HistogramMetricFamily:
        from prometheus_client.core import HistogramMetricFamily

        return HistogramMetricFamily(f"{self._prefix}{name}", documentation, labels=labels)
