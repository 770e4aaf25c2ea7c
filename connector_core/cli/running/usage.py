"""What GetTaskMetrics answers, in a few words: the last value of each metric."""

from collections.abc import Iterable

from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from google.protobuf.json_format import MessageToDict

_PREFIX = "EXECUTION_METRIC_"
_CPU = "USED_CPU_AVG"
_MEMORY = "USED_MEMORY_BYTES_AVG"


def usage_of(results: Iterable[ExecutionMetricResult]) -> list[str]:
    """Return one text for each metric that has a value."""
    found = [(result.metric.removeprefix(_PREFIX), _last_value(result)) for result in results]
    return [_text(name, value) for name, value in found if value is not None]


def _last_value(result: ExecutionMetricResult) -> float | None:
    """Return the last sample of the first series, of data in the form of a Prometheus range query's result."""
    try:
        return float(MessageToDict(result.data)["result"][0]["values"][-1][1])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _text(name: str, value: float) -> str:
    if name == _CPU:
        return f"CPU {value:.2f} cores"
    if name == _MEMORY:
        return f"memory {_bytes(value)}"
    return f"{name.lower().replace('_', ' ')} {value:g}"


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
