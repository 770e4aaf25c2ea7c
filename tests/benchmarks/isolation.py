"""What a connector that blocks costs everybody else, and how many blocking calls get through; beside flytekit's own server.

Run it with `uv run --all-packages python -m tests.benchmarks.isolation`; it takes some minutes, most of them the peer's, and
writes `docs/reference/benchmarks-isolation.md`.
"""

import argparse
import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc.aio
from flyteidl.admin.agent_pb2 import CreateTaskRequest, GetTaskRequest, ListAgentsRequest, TaskCategory
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub

from tests.benchmarks.servers import Target, make_flytekit, make_ours, running, versions
from tests.support.environments import ROOT, run

REPORT = ROOT / "docs" / "reference" / "benchmarks-isolation.md"
COMMAND = "uv run --all-packages python -m tests.benchmarks.isolation"

OFFENDERS = 50
BRIEF_CALLS = 64
PATIENCE = 90.0
Figures = dict[str, list[float]]
Probe = Callable[[], Awaitable[Any]]


async def measure(address: str) -> dict[str, float]:
    """Measure one running server: probes unloaded and beside each kind of offender, and the rate of brief blocking calls."""
    figures: dict[str, float] = {}
    async with grpc.aio.insecure_channel(address) as channel:
        jobs, metadata = AsyncAgentServiceStub(channel), AgentMetadataServiceStub(channel)
        look, plain = (
            GetTaskRequest(task_category=TaskCategory(name=name), resource_meta=b'{"job_id": "job"}')
            for name in ("noop_1", "plain")
        )
        probes: dict[str, Probe] = {
            "GetTask of another connector, `async def`": lambda: jobs.GetTask(look, timeout=PATIENCE),
            "GetTask of another connector, plain `def`": lambda: jobs.GetTask(plain, timeout=PATIENCE),
            "ListAgents": lambda: metadata.ListAgents(ListAgentsRequest(), timeout=PATIENCE),
        }
        for name, probe in probes.items():
            figures[f"{name}, unloaded"] = await _median(probe, 200)
        for offender in ("blocking", "wrongly_async"):
            for name, probe in probes.items():
                figures[f"{name}, beside 50 calls of {offender}"] = await _beside(jobs, offender, probe)
        figures["blocking calls of 100 ms a second, 64 at a time"] = await _rate(jobs)
    return figures


async def _beside(jobs: Any, offender: str, probe: Probe) -> float:
    request = CreateTaskRequest(template=TaskTemplate(type=offender))
    offences = [asyncio.ensure_future(jobs.CreateTask(request, timeout=PATIENCE)) for _ in range(OFFENDERS)]
    await asyncio.sleep(0.2)  # until they are under way; nothing here says when
    seconds = await _median(probe, 30, stop_when_slow=True)
    await asyncio.gather(*offences, return_exceptions=True)
    return seconds


async def _median(probe: Probe, times: int, *, stop_when_slow: bool = False) -> float:
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await asyncio.gather(probe(), return_exceptions=True)
        taken.append(time.perf_counter() - began)
        if stop_when_slow and taken[-1] > 1:
            break
    return statistics.median(taken) * 1000


async def _rate(jobs: Any) -> float:
    look = GetTaskRequest(task_category=TaskCategory(name="blocking"), resource_meta=b'{"job_id": "job%d"}')

    async def worker(number: int) -> None:
        own = GetTaskRequest()
        own.CopyFrom(look)
        own.resource_meta = b'{"job_id": "job%d"}' % number
        for _ in range(5):
            await jobs.GetTask(own, timeout=PATIENCE)

    began = time.perf_counter()
    await asyncio.gather(*(worker(number) for number in range(BRIEF_CALLS)))
    return BRIEF_CALLS * 5 / (time.perf_counter() - began)


def report(figures: dict[str, Figures]) -> str:
    """Return the page."""
    commit = run("git", "rev-parse", "--short", "HEAD", cwd=ROOT).stdout.strip()
    names = list(figures)
    rows = [f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for what in figures[names[0]]:
        unit = "" if "a second" in what else " ms"
        cells = [f"{statistics.median(figures[name][what]):,.1f}{unit}" for name in names]
        rows.append(f"| {what} | {' | '.join(cells)} |")
    rounds = len(next(iter(figures[names[0]].values())))
    return "\n".join(
        [
            "# Benchmarks: isolation",
            "",
            _WHAT.format(rounds=rounds, where=versions(), commit=commit),
            "",
            *rows,
            "",
            "To reproduce it:",
            "",
            f"    {COMMAND}",
            "",
        ]
    )


_WHAT = (
    "What a connector that blocks costs everybody else: the time of a call (median of 30, a slow one ends the row early) "
    "while 50 CreateTask calls of a connector block for a second each, in a plain function (`blocking`) or wrongly in an "
    "`async def` (`wrongly_async`). And how many calls that block for 100 ms get through, with `--worker 64` on both. "
    "Medians of {rounds} interleaved rounds ({where}, commit {commit})."
)


def measure_all(targets: Sequence[Target], rounds: int) -> dict[str, Figures]:
    """Measure each server so many times, in turn."""
    figures: dict[str, Figures] = {target.name: defaultdict(list) for target in targets}
    for _ in range(rounds):
        for target in targets:
            with running(replace(target, command=(*target.command, "--worker", "64"))) as server:
                for what, figure in asyncio.run(measure(server.address)).items():
                    figures[target.name][what].append(figure)
    return figures


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    targets = [make_ours("ours_plain", "ours_offenders", "ours_wrong"), make_flytekit("flytekit_offenders")]
    page = report(measure_all(targets, rounds))
    REPORT.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
