"""What a GetTask call costs the server's processor: protected, in place, and at the floor of the transport.

Run it with `uv run --all-packages python -m tests.benchmarks.per_call`; it takes about a minute and writes
`docs/reference/benchmarks-per-call.md`. CPU time of the server's process is counted, which other work on the machine
disturbs less than it does a rate.
"""

import argparse
import asyncio
import statistics
from collections import defaultdict
from dataclasses import replace
from typing import Any

import grpc.aio
from flyteidl.admin.agent_pb2 import GetTaskRequest, TaskCategory

from tests.benchmarks.servers import CACHE, Running, Target, make_ours, running, versions
from tests.support.environments import ROOT, run

REPORT = ROOT / "docs" / "reference" / "benchmarks-per-call.md"
COMMAND = "uv run --all-packages python -m tests.benchmarks.per_call"
FLOOR = "floor (grpc.aio on uvloop, real messages)"
AT_ONCE = 32
JOBS = 1000

_WHAT = (
    "CPU time that a GetTask call costs the server's process, on an async connector that does nothing, {at_once} calls at a "
    "time. Protected is the default: plugin code runs on a loop in a thread of its own. In place is for plugins that the "
    "operator vouches for (setting `in_place`). Medians of {rounds} interleaved rounds of {calls:,} calls ({where}, commit "
    "{commit})."
)


async def drive(address: str, calls: int) -> None:
    """Make so many calls, for a thousand jobs in turn."""
    requests = [
        GetTaskRequest(task_category=TaskCategory(name="noop_1"), resource_meta=b'{"job_id": "job%d"}' % number)
        for number in range(JOBS)
    ]
    raw = [request.SerializeToString() for request in requests]
    async with grpc.aio.insecure_channel(address) as channel:
        get: Any = channel.unary_unary("/flyteidl.service.AsyncAgentService/GetTask")

        async def worker(number: int) -> None:
            for call in range(calls // AT_ONCE):
                await get(raw[(number * 37 + call) % JOBS])

        await asyncio.gather(*(worker(number) for number in range(AT_ONCE)))


def cost(server: Running, calls: int) -> float:
    """Return the microseconds of CPU time that one call costs, once the server is warm."""
    asyncio.run(drive(server.address, JOBS))
    before = server.process.cpu_times()
    asyncio.run(drive(server.address, calls))
    after = server.process.cpu_times()
    return (after.user + after.system - before.user - before.system) / calls * 1e6


def targets() -> list[Target]:
    """The servers: all from one environment."""
    ours = make_ours()
    in_place = ("env", "CONNECTOR_HOST__IN_PLACE=ours", *ours.command)
    floor = (str(CACHE / "ours" / "venv" / "bin" / "python"), "floor.py", "{grpc}")
    return [
        Target(FLOOR, floor),
        replace(ours, name="connector-host, in place", command=in_place),
        replace(ours, name="connector-host, protected"),
    ]


def report(figures: dict[str, list[float]], calls: int) -> str:
    """Return the page."""
    commit = run("git", "rev-parse", "--short", "HEAD", cwd=ROOT).stdout.strip()
    floor = statistics.median(figures[FLOOR])
    rows = ["| server | microseconds of CPU a call (min-max) | ratio to the floor |", "|---|---|---|"]
    for name, values in figures.items():
        median = statistics.median(values)
        rows.append(f"| {name} | {median:.0f} ({min(values):.0f}-{max(values):.0f}) | {median / floor:.2f} |")
    what = _WHAT.format(at_once=AT_ONCE, rounds=len(figures[FLOOR]), calls=calls, where=versions(), commit=commit)
    return "\n".join(["# Benchmarks: a call", "", what, "", *rows, "", "To reproduce it:", "", f"    {COMMAND}", ""])


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=6000)
    chosen = parser.parse_args()
    figures: dict[str, list[float]] = defaultdict(list)
    measured = targets()
    for _ in range(chosen.rounds):
        for target in measured:
            with running(target) as server:
                figures[target.name].append(cost(server, chosen.calls))
    page = report(figures, chosen.calls)
    REPORT.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
