"""The resources that a running job uses, in the form that Flyte's consoles draw."""

import contextlib
import time
from collections.abc import Sequence

import psutil
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from google.protobuf.struct_pb2 import Struct

from connector_plugin_process.job import Job

CPU = "EXECUTION_METRIC_USED_CPU_AVG"
MEMORY = "EXECUTION_METRIC_USED_MEMORY_BYTES_AVG"


def usage_of(job: Job, queries: Sequence[str] = ()) -> list[ExecutionMetricResult]:
    """Measure the job's processes now; nothing for a job that does not run.

    Cores used on average since the job began, its ended processes included, and bytes of resident memory now, memory
    shared among its processes counted for each. `queries` chooses among the two by name; none means both.

    `data` has the form of a Prometheus range query's result with one series of one sample, since no history is kept:
    `{"resultType": "matrix", "result": [{"metric": {"job": ..., "host": ...}, "values": [[<Unix time>, "<value>"]]}]}`.
    """
    now = time.time()
    if not job.is_running():
        return []
    seconds, memory = _measure(job.started.pid)
    if not job.is_running():  # it ended while we looked, so whose numbers these are is not certain
        return []
    cores = seconds / max(now - job.started.at, 0.01)
    values = {CPU: f"{cores:.4f}", MEMORY: str(memory)}
    return [_result(job, name, now, value) for name, value in values.items() if not queries or name in queries]


def _measure(wrapper: int) -> tuple[float, int]:
    """Return the CPU seconds of all processes below the wrapper, ended ones included, and their resident bytes."""
    seconds, memory = 0.0, 0
    with contextlib.suppress(psutil.NoSuchProcess):
        above = psutil.Process(wrapper)
        members = above.children(recursive=True)
        reaped = above.cpu_times()
        seconds = reaped.children_user + reaped.children_system
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied), member.oneshot():
                used = member.cpu_times()
                seconds += used.user + used.system + used.children_user + used.children_system
                memory += member.memory_info().rss
    return seconds, memory


def _result(job: Job, name: str, at: float, value: str) -> ExecutionMetricResult:
    data = Struct()
    data["resultType"] = "matrix"
    series = data.get_or_create_list("result").add_struct()
    series["metric"] = {"job": job.job_id, "host": job.started.owner}
    series["values"] = [[at, value]]
    return ExecutionMetricResult(metric=name, data=data)
