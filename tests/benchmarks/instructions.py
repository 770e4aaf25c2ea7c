"""How many byte-code instructions and function calls a request costs: figures that no other work on the machine disturbs.

    python -m tests.benchmarks.instructions             compare with the baseline of this Python
    python -m tests.benchmarks.instructions --accept    make what is measured the baseline

A server is called over gRPC from a thread that is not counted. Counted is what runs in Python on the loop that serves, and
on the one that plugin code has, but for the machinery of the loop and what brings completions to it, whose turns depend on the
weather.
"""

import argparse
import asyncio
import itertools
import json
import queue
import statistics
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import grpc
from flyteidl.admin import agent_pb2

from connector_core import AsyncConnectorBase, Phase, Resource, ResourceMeta, SyncConnectorBase
from connector_core.literals import to_literal_map
from connector_core.testing.harness import running_server

BASELINE = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.10
CALLS = 50
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ACCEPT = "uv run --all-packages python -m tests.benchmarks.instructions --accept"

_NOT_OURS = (
    "/asyncio/",
    "/uvloop/",
    "/selectors.py",
    "/threading.py",
    "/concurrent/futures/",
    "/queue.py",
    "/transport/completions.py",
    __file__,
)
Counts = dict[str, dict[str, float]]


@dataclass
class Meta(ResourceMeta):
    """A handle as most have it."""

    job_id: str


class Job(AsyncConnectorBase[Meta]):
    """Does nothing, and takes its inputs."""

    name = task_type_name = "job"

    async def create(self, inputs: Mapping[str, Any]) -> Meta:
        return Meta("job")

    async def get(self, resource_meta: Meta) -> Resource:
        return Resource(Phase.RUNNING)

    async def delete(self, resource_meta: Meta) -> None: ...


class Answer(SyncConnectorBase):
    """Answers at once."""

    name = task_type_name = "answer"

    async def do(self) -> Resource:
        return Resource(Phase.SUCCEEDED)


class Counter:
    """Counts instructions and calls of the threads that begin, or begin anew, while it is installed."""

    def __init__(self) -> None:
        self.is_on = False
        self.instructions = 0
        self.calls = 0
        self._ours: dict[CodeType, bool] = {}

    def install(self) -> None:
        """Count this thread and those that are started from now on."""
        sys._getframe().f_trace_opcodes = (
            True  # Python 3.12 has such events only if they are asked for before `settrace`
        )
        for module in (sys, threading):
            module.settrace(self._on_frame)
            module.setprofile(self._on_call)

    def uninstall(self) -> None:
        """Count no more."""
        for module in (sys, threading):
            module.settrace(None)
            module.setprofile(None)

    def _on_frame(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if not self.is_on or not self._counts(frame.f_code):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._on_instruction

    def _on_instruction(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        if event == "opcode" and self.is_on:
            self.instructions += 1
        return self._on_instruction

    def _on_call(self, frame: FrameType, event: str, argument: object) -> None:
        if self.is_on and event in ("call", "c_call") and self._counts(frame.f_code):
            self.calls += 1

    def _counts(self, code: CodeType) -> bool:
        if code not in self._ours:
            self._ours[code] = not any(part in code.co_filename for part in _NOT_OURS)
        return self._ours[code]


class Client(threading.Thread):
    """Makes calls from a thread that was started before anything is counted."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._asked: queue.Queue[Callable[[], None]] = queue.Queue()
        self.start()

    async def do(self, work: Callable[[], None]) -> None:
        """Run something there, and wait for its end."""
        done: asyncio.Future[None] = (loop := asyncio.get_running_loop()).create_future()

        def working() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - goes to who waits
                loop.call_soon_threadsafe(done.set_exception, error)
            else:
                loop.call_soon_threadsafe(done.set_result, None)

        self._asked.put(working)
        await done

    def run(self) -> None:
        while True:
            self._asked.get()()


def requests() -> dict[str, tuple[str, Callable[[int], list[bytes]]]]:
    """Return the method of each kind of call, and the messages of the call about a task of some number."""
    service = "/flyteidl.service.AsyncAgentService"
    inputs = to_literal_map({"table": "sessions", "limit": 100, "share": 0.5, "dry": False, "days": ["mo", "tu"]})

    def create(number: int) -> list[bytes]:
        request = agent_pb2.CreateTaskRequest(inputs=inputs, output_prefix=f"s3://bucket/{number}/n0/data/0")
        request.template.type = "job"
        request.task_execution_metadata.task_execution_id.node_execution_id.execution_id.name = f"n{number}"
        return [request.SerializeToString()]

    def get(number: int) -> list[bytes]:
        category = agent_pb2.TaskCategory(name="job")
        request = agent_pb2.GetTaskRequest(task_category=category, resource_meta=Meta(f"job {number % 5}").encode())
        return [request.SerializeToString()]

    def sync(number: int) -> list[bytes]:
        header = agent_pb2.CreateRequestHeader(output_prefix=f"s3://bucket/{number}/n0/data/0")
        header.template.type = "answer"
        parts = (agent_pb2.ExecuteTaskSyncRequest(header=header), agent_pb2.ExecuteTaskSyncRequest(inputs=inputs))
        return [part.SerializeToString() for part in parts]

    return {
        "CreateTask": (f"{service}/CreateTask", create),
        "GetTask": (f"{service}/GetTask", get),
        "ExecuteTaskSync": ("/flyteidl.service.SyncAgentService/ExecuteTaskSync", sync),
    }


async def measure() -> Counts:
    """Return instructions and calls for each kind of request, protected and vouched."""
    counts: Counts = {}
    client = Client()
    for kind, in_place in (("protected", ()), ("vouched", ("test-job", "test-answer"))):
        counter = Counter()
        counter.install()
        try:
            async with running_server(Job(), Answer(), settings={"in_place": in_place, "loop": "asyncio"}) as server:
                await asyncio.to_thread(server.metrics_text)  # HTTP is there, and stays quiet from now on
                for name, (path, messages) in requests().items():
                    counts[f"{name}, {kind}"] = await _count(counter, client, server.address, path, messages)
        finally:
            counter.uninstall()
    return counts


async def _count(
    counter: Counter, client: Client, address: str, path: str, messages: Callable[[int], list[bytes]]
) -> dict[str, float]:
    with grpc.insecure_channel(address) as channel:
        is_stream = path.endswith("Sync")
        method: Any = channel.stream_stream(path) if is_stream else channel.unary_unary(path)

        seen: list[tuple[int, int]] = []

        def call(numbers: range) -> None:
            for number in numbers:
                if is_stream:
                    list(method(iter(messages(number)), timeout=10))
                else:
                    method(messages(number)[0], timeout=10)
                seen.append((counter.instructions, counter.calls))

        await client.do(lambda: call(range(CALLS)))
        counter.is_on = True
        await client.do(lambda: call(range(CALLS, 2 * CALLS)))
        counter.is_on = False
    instructions, calls = zip(*seen[CALLS:], strict=True)
    assert instructions[0] > 0, "this Python traces no instructions"
    return {"instructions": _typical(instructions), "calls": _typical(calls)}


def _typical(totals: Sequence[int]) -> float:
    """Return the median of what each call added; now and then one is served in more turns of the loop than others."""
    return statistics.median(after - before for before, after in itertools.pairwise(totals))


def grown(baseline: Counts, measured: Counts) -> list[str]:
    """Say what costs more than the baseline by more than the tolerance."""
    return [
        f"{name} takes {measured[name][what]:,.0f} {what}, {measured[name][what] / before - 1:+.0%} "
        f"(baseline of Python {PYTHON}: {before:,.0f})"
        for name, counts in baseline.items()
        for what, before in counts.items()
        if measured[name][what] > before * (1 + TOLERANCE)
    ]


def read() -> dict[str, Counts]:
    """Return the baselines, by Python's minor version."""
    found: dict[str, Counts] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    return found


def main() -> None:
    """Compare with the baseline, or make a new one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="make what is measured the baseline of this Python")
    chosen = parser.parse_args()
    measured, baselines = asyncio.run(measure()), read()
    for name, counts in measured.items():
        print(f"{name}: {counts['instructions']:,.0f} instructions, {counts['calls']:,.0f} calls")
    if chosen.accept:
        baselines[PYTHON] = {
            name: {what: round(count) for what, count in counts.items()} for name, counts in measured.items()
        }
        BASELINE.write_text(json.dumps(dict(sorted(baselines.items())), indent=1) + "\n")
    elif PYTHON not in baselines:
        sys.exit(f"there is no baseline for Python {PYTHON}; make one:\n    {ACCEPT}")
    elif worse := grown(baselines[PYTHON], measured):
        sys.exit("\n".join([*worse, f"If that is worth it, accept it:\n    {ACCEPT}"]))


if __name__ == "__main__":
    main()
