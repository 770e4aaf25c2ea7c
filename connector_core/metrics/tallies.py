"""What became of requests, counted in plain numbers and made into Prometheus' samples when they are scraped.

Each request touches half a dozen of these. Prometheus' own instruments take a lock and two calls for each of them; requests
are counted on the serving loop alone, which needs neither (docs/explanation/performance.md has what that gives).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily
    from prometheus_client.metrics_core import Metric


class Distribution:
    """How often values fell under which bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add the samples."""
        from prometheus_client.utils import floatToGoString

        names = [*map(floatToGoString, self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(names, accumulate(self._counts), strict=True)), self._sum)


class RequestTally:
    """What became of the requests of one operation on one task type."""

    __slots__ = ("failed", "in_flight", "latency", "succeeded")

    def __init__(self, latency_bounds: Sequence[float]) -> None:
        self.in_flight = 0
        self.succeeded = 0
        self.failed: dict[str, int] = {}
        self.latency = Distribution(latency_bounds)

    def ended(self, code: str, seconds: float) -> None:
        """Count the end of a request: the name of its gRPC status code, and how long it took."""
        self.in_flight -= 1
        self.latency.observe(seconds)
        if code == "OK":
            self.succeeded += 1
        else:
            self.failed[code] = self.failed.get(code, 0) + 1


class Tallies:
    """All requests of a host, by task type and operation; only names that the host chose may get in.

    Args:
        prefix: of the metrics' names.
        latency_bounds: in seconds.
        size_bounds: of inputs, in bytes.
    """

    def __init__(self, prefix: str, latency_bounds: Sequence[float], size_bounds: Sequence[float]) -> None:
        self._prefix = prefix
        self._latency_bounds = latency_bounds
        self._size_bounds = size_bounds
        self._requests: dict[tuple[str, str], RequestTally] = {}
        self._sizes: dict[str, Distribution] = {}

    def of(self, task_type: str, operation: str) -> RequestTally:
        """Return the tally of one operation on one task type."""
        key = (task_type, operation)
        if (found := self._requests.get(key)) is None:
            found = self._requests[key] = RequestTally(self._latency_bounds)
        return found

    def input_size(self, task_type: str) -> Distribution:
        """Return the sizes of a task type's inputs."""
        if (found := self._sizes.get(task_type)) is None:
            found = self._sizes[task_type] = Distribution(self._size_bounds)
        return found

    def collect(self) -> Iterator[Metric]:
        """Give all samples; called by whoever scrapes, in a thread of his."""
        from prometheus_client.core import GaugeMetricFamily

        on_task = ("task_type", "operation")
        requests = dict(self._requests)  # one step of the interpreter, as each read below
        success = self._counter("requests_success", "Requests answered OK.", on_task)
        failure = self._counter(
            "requests_failure", "Requests that ended with another status, cut ones included.", (*on_task, "error_code")
        )
        latency = self._histogram("request_latency_seconds", "Time from a request's arrival to its answer.", on_task)
        in_flight = GaugeMetricFamily(f"{self._prefix}requests_in_flight", "Requests being worked on.", labels=on_task)
        for labels, tally in requests.items():
            success.add_metric(labels, tally.succeeded)
            for code, count in dict(tally.failed).items():
                failure.add_metric((*labels, code), count)
            tally.latency.add_to(latency, labels)
            in_flight.add_metric(labels, tally.in_flight)
        sizes = self._histogram("input_literal_bytes", "Size of the inputs of create and do.", ("task_type",))
        _add_sizes(sizes, dict(self._sizes))
        yield from (success, failure, latency, in_flight, sizes)

    def describe(self) -> Iterator[Metric]:
        """Give the names, for those who ask a registry for some of them."""
        return self.collect()

    def _counter(self, name: str, documentation: str, labels: Sequence[str]) -> Any:
        from prometheus_client.core import CounterMetricFamily

        return CounterMetricFamily(f"{self._prefix}{name}", documentation, labels=labels)

    def _histogram(self, name: str, documentation: str, labels: Sequence[str]) -> HistogramMetricFamily:
        from prometheus_client.core import HistogramMetricFamily

        return HistogramMetricFamily(f"{self._prefix}{name}", documentation, labels=labels)


def _add_sizes(family: HistogramMetricFamily, sizes: Mapping[str, Distribution]) -> None:
    for task_type, distribution in sizes.items():
        distribution.add_to(family, (task_type,))
