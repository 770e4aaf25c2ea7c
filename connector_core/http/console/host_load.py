"""The load of the host at one moment, read from its own metrics and from the system."""

import resource
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from connector_core.metrics import Gauge, Metrics
from connector_core.observing.observer import ConnectorKey

_MEMORY = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class HostLoad:
    """The load at one moment.

    Attributes:
        in_flight: calls being worked on, by task type.
        lag: how late each event loop is, in seconds.
        busy: threads that run a connector's blocking code, by the names of plugin and connector.
        waiting: calls that wait for one of these, the same.
        abandoned: plugin calls that run on although their request has ended, the same.
        threads: threads of this process that Python knows.
        memory: bytes that are resident; `None` where the system does not say.
    """

    in_flight: Mapping[str, int]
    lag: Mapping[str, float]
    busy: Mapping[ConnectorKey, int]
    waiting: Mapping[ConnectorKey, int]
    abandoned: Mapping[ConnectorKey, int]
    threads: int
    memory: int | None

    @classmethod
    def of(cls, metrics: Metrics) -> "HostLoad":
        """Read it now; any thread may."""
        in_flight: dict[str, int] = {}
        for key, tally in metrics.requests.items():
            in_flight[key.task_type] = in_flight.get(key.task_type, 0) + tally.in_flight
        return cls(
            in_flight=in_flight,
            lag={loop: seconds for (loop,), seconds in metrics.loop_lag.values().items()},
            busy=_by_connector(metrics.pool_busy),
            waiting=_by_connector(metrics.pool_waiting),
            abandoned=_by_connector(metrics.abandoned),
            threads=threading.active_count(),
            memory=_resident_bytes(),
        )


def _by_connector(gauge: Gauge) -> dict[ConnectorKey, int]:
    return {(plugin, connector): int(number) for (plugin, connector), number in gauge.values().items()}


def _resident_bytes() -> int | None:
    try:
        return int(_MEMORY.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None
