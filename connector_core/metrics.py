"""The instruments of one host, in a Prometheus registry of its own."""

from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

metric_prefix = "flyte_connector_"
create_operation = "create"
get_operation = "get"
delete_operation = "delete"
do_operation = "do"
get_metrics_operation = "get_metrics"
get_logs_operation = "get_logs"
get_agent_operation = "get_agent"
list_agents_operation = "list_agents"

UNKNOWN_TASK_TYPE = "unknown"
"""The label of requests for a task type that is not registered: a client's string never becomes a label."""

NO_TASK_TYPE = ""
"""The label of requests that are about no task type (the metadata service)."""

_LATENCY_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 3, 10, 60)
_SIZE_BUCKETS = (1_000, 10_000, 100_000, 1_000_000, 4_194_304, 16_000_000)


class RequestInstruments(NamedTuple):
    """The instruments of one operation on one task type, found once."""

    success: Counter
    latency: Histogram
    in_flight: Gauge


class Metrics:
    """Names and label names that dashboards of today's servers use, and more.

    `error_code` holds the name of a gRPC status code. Counters, histograms and gauges are created per host, so that two
    hosts in one process do not share them.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        on_task = ("task_type", "operation")
        of_connector = ("plugin", "connector")
        self._success = self._counter("requests_success", "Requests answered OK.", on_task)
        self._failure = self._counter(
            "requests_failure", "Requests that ended with another status, cut ones included.", (*on_task, "error_code")
        )
        self._latency = self._histogram(
            "request_latency_seconds", "Time from a request's arrival to its answer.", on_task, _LATENCY_BUCKETS
        )
        self._input_size = self._histogram(
            "input_literal_bytes", "Size of the inputs of create and do.", ("task_type",), _SIZE_BUCKETS
        )
        self._in_flight = self._gauge("requests_in_flight", "Requests being worked on.", on_task)
        self.abandoned = self._gauge(
            "abandoned_calls", "Plugin calls that run on although their request has ended.", of_connector
        )
        self.log_lines_dropped = self._gauge(
            "log_lines_dropped", "Lines that the log left out since whoever reads it did not keep up.", ()
        )
        self.loop_lag = self._gauge(
            "loop_lag_seconds", "How late an event loop is: the serving one, or a plugin's.", ("loop",)
        )
        self.pool_busy = self._gauge("pool_busy_threads", "Threads that run a connector's blocking code.", of_connector)
        self.pool_waiting = self._gauge("pool_waiting_calls", "Calls that wait for one of these threads.", of_connector)
        self.plugin_load = self._gauge("plugin_load_seconds", "Time it took to load a plugin.", ("plugin",))
        self.plugin_state = self._gauge(
            "plugin_state", "1 for the state that a plugin is in.", ("plugin", "distribution", "state")
        )
        self.connector_started = self._gauge(
            "connector_started", "1 if the connector's start() has succeeded, else 0.", of_connector
        )
        build = Info(f"{metric_prefix}build", "The host that answers here.", registry=self.registry)
        build.info({"version": core_version()})
        self.request = lru_cache(maxsize=None)(self._find_request)
        self.input_size = lru_cache(maxsize=None)(self._input_size.labels)

    def _find_request(self, task_type: str, operation: str) -> RequestInstruments:
        labels = (task_type, operation)
        return RequestInstruments(
            self._success.labels(*labels), self._latency.labels(*labels), self._in_flight.labels(*labels)
        )

    def failure(self, task_type: str, operation: str, error_code: str) -> Counter:
        """Return the counter of requests that ended with this status."""
        return self._failure.labels(task_type, operation, error_code)

    def _counter(self, name: str, documentation: str, labels: Iterable[str]) -> Counter:
        return Counter(f"{metric_prefix}{name}", documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str, labels: Iterable[str]) -> Gauge:
        return Gauge(f"{metric_prefix}{name}", documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str, labels: Iterable[str], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{metric_prefix}{name}", documentation, labels, registry=self.registry, buckets=buckets)


def core_version() -> str:
    """Return the installed version of connector-core."""
    try:
        return version("connector-core")
    except PackageNotFoundError:
        return "unknown"
