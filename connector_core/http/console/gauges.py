"""What the host's own metrics say at this moment."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, ProcessCollector

from connector_core.metrics import metric_prefix

_IN_FLIGHT = f"{metric_prefix}requests_in_flight"
_LAG = f"{metric_prefix}loop_lag_seconds"
_BUSY = f"{metric_prefix}pool_busy_threads"
_WAITING = f"{metric_prefix}pool_waiting_calls"
_ABANDONED = f"{metric_prefix}abandoned_calls"
_NAMES = (_IN_FLIGHT, _LAG, _BUSY, _WAITING, _ABANDONED)

ByConnector = dict[tuple[str, str], int]


@dataclass(slots=True)
class Gauges:
    """What they say.

    Attributes:
        in_flight: calls being worked on, by task type.
        lag: how late each loop is, in seconds.
        busy: threads that run a connector's blocking code, by the names of plugin and connector.
        waiting: calls that wait for one of these, the same.
        abandoned: plugin calls that run on although their request has ended, the same.
        threads: threads of this process that Python knows.
        memory: bytes that are resident; `None` where the system does not say.
    """

    in_flight: dict[str, int] = field(default_factory=dict)
    lag: dict[str, float] = field(default_factory=dict)
    busy: ByConnector = field(default_factory=dict)
    waiting: ByConnector = field(default_factory=dict)
    abandoned: ByConnector = field(default_factory=dict)
    threads: int = 0
    memory: float | None = None


def read_gauges(registry: CollectorRegistry) -> Gauges:
    """Read those that the console shows."""
    read = Gauges(threads=threading.active_count(), memory=_memory())
    by_connector = {_BUSY: read.busy, _WAITING: read.waiting, _ABANDONED: read.abandoned}
    for name, labels, value in _samples(registry):
        if name == _IN_FLIGHT:
            task_type = labels["task_type"]
            read.in_flight[task_type] = read.in_flight.get(task_type, 0) + int(value)
        elif name == _LAG:
            read.lag[labels["loop"]] = value
        else:
            by_connector[name][labels["plugin"], labels["connector"]] = int(value)
    return read


def _samples(registry: CollectorRegistry) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for family in registry.restricted_registry(_NAMES).collect():
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def _memory() -> float | None:
    for family in ProcessCollector(registry=None).collect():
        if family.name == "process_resident_memory_bytes":
            return family.samples[0].value
    return None
