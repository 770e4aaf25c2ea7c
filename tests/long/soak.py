"""A host under polls, with plugins that go wrong in every way, watched for growth: `python -m tests.long.soak`."""

import argparse
import asyncio
import itertools
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import psutil
from flyteidl.admin import agent_pb2
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub, SyncAgentServiceStub

from connector_core import Phase
from tests.support.environments import ROOT
from tests.support.hosts import HostProcess, host_process

TASK_TYPES = ("soak_async", "soak_many", "soak_blocking", "soak_sync")
DEADLINE = 3.0
WORKERS = 4

_CODES = grpc.StatusCode
_TROUBLE = {_CODES.OK, _CODES.UNAVAILABLE, _CODES.INTERNAL, _CODES.DEADLINE_EXCEEDED, _CODES.RESOURCE_EXHAUSTED}
LEGAL = {
    "ListAgents": {_CODES.OK},
    "CreateTask": _TROUBLE,
    "GetTask": {_CODES.OK, _CODES.INTERNAL, _CODES.DEADLINE_EXCEEDED},
    "DeleteTask": {*_TROUBLE, _CODES.FAILED_PRECONDITION},
    "GetTaskLogs": {*_TROUBLE, _CODES.FAILED_PRECONDITION, _CODES.UNIMPLEMENTED},
    "ExecuteTaskSync": {*_TROUBLE, _CODES.FAILED_PRECONDITION},
}
"""With what each call may be answered: GetTask only by an answer, unless the plugin answers nonsense."""

_WARM_UP = 1 / 3
_FLAT_SHARE = 0.05
_FLAT = {"memory": 8.0, "threads": 3.0, "descriptors": 3.0}
_SETTINGS: dict[str, Any] = {
    "CONNECTOR_HOST__MEMORY__ENTRIES": "2000",  # so that what is remembered is at its bound soon,
    "CONNECTOR_HOST__WORKERS": str(WORKERS),  # and so are the threads
    "CONNECTOR_HOST__DEADLINES__GET": "2",
    "CONNECTOR_HOST__DEADLINES__GET_MANY": "1",
    "CONNECTOR_HOST__DEADLINES__CREATE": "2",
    "CONNECTOR_HOST__DEADLINES__DELETE": "2",
    "CONNECTOR_HOST__DEADLINES__DO": "2",
    "CONNECTOR_HOST__STALL_SECONDS": "2",
}


@dataclass(frozen=True)
class Sample:
    """What the host held at a moment; memory in MB."""

    seconds: float
    memory: float
    threads: int
    descriptors: int
    calls: int


@dataclass
class Report:
    """What came of a soak."""

    samples: list[Sample] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    illegal: list[str] = field(default_factory=list)

    def growth(self, what: str) -> float:
        """Return by how much something grew after the warm-up, as a straight line through the samples says."""
        settled = self.samples[int(len(self.samples) * _WARM_UP) :]
        times = [sample.seconds for sample in settled]
        if len(settled) < 2:
            return 0.0
        line = statistics.linear_regression(times, [getattr(sample, what) for sample in settled])
        return float(line.slope * (times[-1] - times[0]))

    def is_flat(self, what: str) -> bool:
        """Whether it grew by no more than chance: a few, or a twentieth."""
        mean = statistics.fmean(getattr(sample, what) for sample in self.samples)
        return self.growth(what) <= max(_FLAT[what], _FLAT_SHARE * mean)


class Soak:
    """So many tasks, polled one after the other at so many calls a second, and replaced as they end."""

    def __init__(self, channel: grpc.aio.Channel, tasks: int, rate: float, seed: int) -> None:
        self.report = Report()
        self.calls = 0
        self._random = random.Random(seed)
        self._rate = rate
        self._async = AsyncAgentServiceStub(channel)
        self._sync = SyncAgentServiceStub(channel)
        self._metadata = AgentMetadataServiceStub(channel)
        self._tasks: list[tuple[str, bytes | None]] = [(kind, None) for kind in itertools.islice(_kinds(), tasks)]

    async def run(self, seconds: float) -> None:
        """Call for so long, and wait for the last answers."""
        under_way: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        for count, position in enumerate(itertools.cycle(range(len(self._tasks)))):
            due = began + count / self._rate
            if due > began + seconds:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            one = asyncio.create_task(self._advance(position))
            under_way.add(one)
            one.add_done_callback(under_way.discard)
            one.add_done_callback(self._look_at)
            if self._random.random() < 0.02:  # its client goes
                asyncio.get_running_loop().call_later(self._random.uniform(0, 0.1), one.cancel)
        await asyncio.gather(*under_way, return_exceptions=True)

    def _look_at(self, one: asyncio.Task[None]) -> None:
        if not one.cancelled() and (error := one.exception()) is not None:
            self.report.illegal.append(f"the soak itself failed: {error!r}")

    async def _advance(self, position: int) -> None:
        task_type, meta = self._tasks[position]
        lot = self._random.random()
        if lot < 0.01:
            await self._call("ListAgents", self._metadata.ListAgents(agent_pb2.ListAgentsRequest()))
        if meta is None:
            await self._create(position, task_type)
        elif lot < 0.03 and task_type != "soak_sync":
            request = agent_pb2.GetTaskLogsRequest(task_category=_category(task_type), resource_meta=meta)
            await self._call("GetTaskLogs", _drained(self._async.GetTaskLogs(request, timeout=DEADLINE)))
        else:
            await self._get(position, task_type, meta)

    async def _create(self, position: int, task_type: str) -> None:
        template, prefix = TaskTemplate(type=task_type), f"s3://soak/{uuid4().hex}/0"
        if task_type == "soak_sync" and self._random.random() < 0.5:
            header = agent_pb2.CreateRequestHeader(template=template, output_prefix=prefix)
            requests = [agent_pb2.ExecuteTaskSyncRequest(header=header), agent_pb2.ExecuteTaskSyncRequest(inputs={})]
            call = self._sync.ExecuteTaskSync(iter(requests), timeout=DEADLINE)
            await self._call("ExecuteTaskSync", _drained(call))
            return
        request = agent_pb2.CreateTaskRequest(template=template, output_prefix=prefix)
        answer = await self._call("CreateTask", self._async.CreateTask(request, timeout=DEADLINE))
        if answer is not None:
            self._tasks[position] = (task_type, answer.resource_meta)

    async def _get(self, position: int, task_type: str, meta: bytes) -> None:
        request = agent_pb2.GetTaskRequest(task_category=_category(task_type), resource_meta=meta)
        answer = await self._call("GetTask", self._async.GetTask(request, timeout=DEADLINE))
        if answer is None:
            return
        if answer.resource.phase not in {phase.value for phase in Phase}:
            self.report.illegal.append(f"GetTask answered the phase {answer.resource.phase}")
        elif Phase(answer.resource.phase).is_terminal:
            self._tasks[position] = (task_type, None)
            delete = agent_pb2.DeleteTaskRequest(task_category=_category(task_type), resource_meta=meta)
            await self._call("DeleteTask", self._async.DeleteTask(delete, timeout=DEADLINE))

    async def _call(self, method: str, call: Awaitable[Any]) -> Any:
        self.calls += 1
        try:
            answer, code, details = await call, _CODES.OK, ""
        except grpc.aio.AioRpcError as error:
            answer, code, details = None, error.code(), error.details() or ""
        self.report.answered[f"{method} {code.name}"] += 1
        if code not in LEGAL[method] or "internal error in the host" in details or "Traceback" in details:
            self.report.illegal.append(f"{method} was answered {code.name}: {details}")
        return answer


def _kinds() -> Iterator[str]:
    return itertools.cycle(TASK_TYPES)


def _category(task_type: str) -> agent_pb2.TaskCategory:
    return agent_pb2.TaskCategory(name=task_type)


async def _drained(stream: AsyncIterator[Any]) -> None:
    async for _message in stream:
        pass


async def watch(report: Report, host: HostProcess, soak: Soak, every: float) -> None:
    """Take a sample of the host, and print it, again and again."""
    process = psutil.Process(host.process.pid)
    began = time.monotonic()
    print(f"{'seconds':>8} {'memory MB':>10} {'threads':>8} {'descriptors':>12} {'calls':>9}")
    while True:
        with process.oneshot():
            memory, threads, descriptors = process.memory_info().rss / 2**20, process.num_threads(), process.num_fds()
        sample = Sample(time.monotonic() - began, memory, threads, descriptors, soak.calls)
        report.samples.append(sample)
        print(f"{sample.seconds:>8.1f} {memory:>10.1f} {threads:>8} {descriptors:>12} {sample.calls:>9,}", flush=True)
        await asyncio.sleep(every)


@contextmanager
def faulty_host() -> Iterator[HostProcess]:
    """Run a host with the plugin that goes wrong, in a process of its own."""
    with host_process("--modules", "tests.long.faulty_plugin", cwd=ROOT, **_SETTINGS) as host:
        yield host


async def soak_host(host: HostProcess, seconds: float, *, tasks: int = 500, rate: float = 100, seed: int = 1) -> Report:
    """Call a host for so long, and return what came of it."""
    async with grpc.aio.insecure_channel(host.address) as channel:
        soak = Soak(channel, tasks, rate, seed)
        watching = asyncio.create_task(watch(soak.report, host, soak, max(0.5, seconds / 60)))
        await soak.run(seconds)
        if not watching.cancel():
            watching.result()  # why it ended: the host is gone
    return soak.report


def conclude(report: Report) -> Sequence[str]:
    """Print what came of a soak, and return what was wrong."""
    for name, number in sorted(report.answered.items()):
        print(f"{name:<40} {number:>9,}")
    wrong = (
        [f"{len(report.illegal)} calls were answered as they may not be: {report.illegal[0]}"] if report.illegal else []
    )
    for what, unit in (("memory", " MB"), ("threads", ""), ("descriptors", "")):
        is_flat = report.is_flat(what)
        print(f"{what}: {report.growth(what):+.1f}{unit} after the warm-up: {'flat' if is_flat else 'NOT FLAT'}")
        wrong += [] if is_flat else [f"{what} grew by {report.growth(what):.1f}{unit}"]
    return wrong


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long to go on")
    parser.add_argument("--tasks", type=int, default=500, help="how many tasks to poll")
    parser.add_argument("--rate", type=float, default=100, help="calls a second")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    print(f"{options.tasks} tasks, {options.rate:g} calls a second, {options.seconds:g} s, --seed {options.seed}")
    with faulty_host() as host:
        report = asyncio.run(
            soak_host(host, options.seconds, tasks=options.tasks, rate=options.rate, seed=options.seed)
        )
        wrong = [*conclude(report), *([f"the host ended with {code}"] if (code := host.stop()) else [])]
    for one in wrong:
        print(f"FAILED: {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
