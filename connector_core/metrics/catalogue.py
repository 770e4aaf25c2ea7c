"""The catalogue of a host's metrics, each declared here once, and Prometheus' registry of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from importlib_metadata import PackageNotFoundError, version

from connector_core.metrics.instruments import Gauge
from connector_core.metrics.tallies import Tallies

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

metric_prefix = "flyte_connector_"
create_operation = "create"
get_operation = "get"
delete_operation = "delete"
do_operation = "do"
get_metrics_operation = "get_metrics"
get_logs_operation = "get_logs"
get_agent_operation = "get_agent"
list_agents_operation = "list_agents"
get_connector_operation = "get_connector"
list_connectors_operation = "list_connectors"

UNKNOWN_TASK_TYPE = "unknown"
"""The label of requests for a task type that is not registered: a client's string never becomes a label."""

NO_TASK_TYPE = ""
"""The label of requests that are about no task type (the metadata service)."""

_LATENCY_BOUNDS = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 3, 10, 60)
_SIZE_BOUNDS = (1_000, 10_000, 100_000, 1_000_000, 4_194_304, 16_000_000)


class Metrics:
    """Names and label names that dashboards of today's servers use, and more.

    `error_code` holds the name of a gRPC status code. Counters, histograms and gauges are created per host, so that two
    hosts in one process do not share them.
    """

    def __init__(self) -> None:
        self.gauges: list[Gauge] = []
        of_connector = ("plugin", "connector")
        self.requests = Tallies(metric_prefix, _LATENCY_BOUNDS, _SIZE_BOUNDS)
        self.abandoned = self._gauge(
            "abandoned_calls", "Plugin calls that run on although their request has ended.", of_connector
        )
        self.log_lines_dropped = self._gauge(
            "log_lines_dropped", "Lines of the log that were dropped because its reader did not keep up.", ()
        ).labels()
        self.deletes_given_up = self._gauge(
            "deletes_given_up", "DeleteTask calls that were answered OK although the job may still run.", of_connector
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

    @cached_property
    def registry(self) -> CollectorRegistry:
        """Prometheus' registry of all of these; its client, which brings an HTTP server of its own, is imported here."""
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry()
        for collector in (self.requests, *self.gauges, _Build()):
            registry.register(collector)  # type: ignore[arg-type] # one in all but its base class
        return registry

    def _gauge(self, name: str, documentation: str, labels: Sequence[str]) -> Gauge:
        self.gauges.append(Gauge(f"{metric_prefix}{name}", documentation, labels))
        return self.gauges[-1]


class _Build:
    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import InfoMetricFamily

        yield InfoMetricFamily(
            f"{metric_prefix}build", "The host that answers here.", value={"version": core_version()}
        )

    describe = collect


def core_version() -> str:
    """Return the installed version of connector-core."""
    try:
        return version("connector-core")
    except PackageNotFoundError:
        return "unknown"
