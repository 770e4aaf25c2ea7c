"""Large inputs and outputs: the time of a call, and how often the server holds them at once."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import grpc
from flyteidl.admin import agent_pb2
from flyteidl.service.agent_pb2_grpc import AsyncAgentServiceStub

from tests.benchmarks import servers
from tests.benchmarks.figures import Effort, Figures, add
from tests.benchmarks.machine import CALLING, on_cores
from tests.benchmarks.servers import Running, Servers, running

MEGABYTES = (1, 3, 10)
_NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
Make = Callable[[AsyncAgentServiceStub, int], Callable[[], object]]


def measure(make: Servers, effort: Effort) -> dict[str, Figures]:
    """Measure each direction and size on each server, each time a fresh one."""
    kinds: dict[str, Make] = {
        "large_used": _create("create_used"),
        "large_unused": _create("create_unused"),
        "large_get": _get,
    }
    figures: dict[str, Figures] = {kind: {} for kind in kinds}
    limits = {"CONNECTOR_HOST__MAX_ANSWER_BYTES": str(64 * 2**20)}
    targets = [
        make.floor(servers.F_TYPED_UV),
        make.vouched("ours", "ours_calls").with_settings(**limits),
        make.ours("ours", "ours_calls").with_settings(**limits),
        make.flytekit("flytekit_noop", "flytekit_calls"),
    ]
    for _ in range(min(2, effort.rounds)):
        for kind, make_call in kinds.items():
            for target in targets:
                for megabytes in MEGABYTES[:2] if effort.is_quick else MEGABYTES:
                    with running(target) as server, on_cores(CALLING):
                        add(figures[kind], target.name, _one(server, make_call, megabytes))
    return figures


def _one(server: Running, make_call: Make, megabytes: int) -> dict[str, float]:
    with grpc.insecure_channel(server.address, options=_NO_LIMIT) as channel:
        stub = AsyncAgentServiceStub(channel)
        make_call(stub, 1000)()
        call = make_call(stub, megabytes * 1_000_000)
        before = _forget_peak(server.process.pid)
        try:
            taken = [_time(call)]
            peak = _peak(server.process.pid)
            taken += [_time(call) for _ in range(4)]
        except grpc.RpcError as error:
            if cast("grpc.Call", error).code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            return {}
    return {
        f"{megabytes} ms": statistics.median(taken) * 1e3,
        f"{megabytes} copies": (peak - before) / (megabytes * 1e6),
    }


def _create(task_type: str) -> Make:
    def make(stub: AsyncAgentServiceStub, size: int) -> Callable[[], object]:
        request = agent_pb2.CreateTaskRequest()
        request.template.type = task_type
        request.inputs.literals["text"].scalar.primitive.string_value = "x" * size
        return lambda: stub.CreateTask(request, timeout=60)

    return make


def _get(stub: AsyncAgentServiceStub, size: int) -> Callable[[], object]:
    category = agent_pb2.TaskCategory(name="large")
    request = agent_pb2.GetTaskRequest(task_category=category, resource_meta=b'{"job_id": "%d"}' % size)

    def call() -> None:
        answer = stub.GetTask(request, timeout=60)
        assert len(answer.resource.outputs.literals["o0"].scalar.primitive.string_value) == size

    return call


def _time(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _forget_peak(pid: int) -> int:
    """Let the peak begin anew from what is resident now, and return that, in bytes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status(pid, "VmRSS")


def _peak(pid: int) -> int:
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
