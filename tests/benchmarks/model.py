"""The engine's way of polling, and hosts that answer it: what so many running tasks take, and what a backend gets of it.

The engine's habits are parameters, whose defaults are those of Flyte 1.16; all that is random is seeded.
"""

import heapq
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

BUSY = 0.6
"""The part of a core that is planned with: the rest is for sweeps, creates and a replica that is away."""
LIFE = 600.0
"""Seconds that a task runs, on average: one create and one last poll each."""
SEED = 2026


@dataclass(frozen=True)
class Engine:
    """How the engine polls: each process goes through its running tasks every `interval` seconds."""

    interval: float = 30.0
    workers: int = 10
    qps: float = 10.0
    burst: int = 100
    processes: int = 1


@dataclass(frozen=True)
class Hosts:
    """What answers: replicas that have a core each, and a backend behind them."""

    count: int
    cpu: float
    backend: float = 0.05


@dataclass(frozen=True)
class Sweep:
    """What a simulated interval gives."""

    seconds: float
    p50: float
    p99: float
    busy: float


def simulate(tasks: int, engine: Engine, hosts: Hosts, seed: int = SEED) -> Sweep:
    """Let each process of the engine go through its tasks once, beginning at moments of its own.

    A worker takes the next task that the rate limiter lets pass, calls the next replica and waits for the answer. A replica
    serves one call after the other for `cpu` seconds; the backend's time varies, and occupies nobody.
    """
    chance = random.Random(seed)
    begins = [chance.uniform(0, engine.interval) for _ in range(engine.processes)]
    left = [tasks // engine.processes] * engine.processes
    asked = [0] * engine.processes
    turn = [chance.randrange(hosts.count) for _ in range(engine.processes)]
    free_at = [0.0] * hosts.count
    taken: list[float] = []
    ends = [0.0] * engine.processes
    workers = [(begin, number) for number, begin in enumerate(begins) for _ in range(engine.workers)]
    heapq.heapify(workers)
    while workers:
        now, process = heapq.heappop(workers)
        if not left[process]:
            continue
        let_pass = begins[process] + max(0, asked[process] + 1 - engine.burst) / engine.qps
        if let_pass > now:
            heapq.heappush(workers, (let_pass, process))
            continue
        left[process] -= 1
        asked[process] += 1
        turn[process] = host = (turn[process] + 1) % hosts.count
        free_at[host] = max(now, free_at[host]) + hosts.cpu
        done = free_at[host] + chance.lognormvariate(math.log(hosts.backend), 0.5)
        taken.append(done - now)
        ends[process] = max(ends[process], done)
        heapq.heappush(workers, (done, process))
    taken.sort()
    seconds = statistics.mean(end - begin for begin, end in zip(begins, ends, strict=True))
    busy = tasks * hosts.cpu / hosts.count / max(engine.interval, seconds)
    return Sweep(seconds, taken[len(taken) // 2], taken[int(len(taken) * 0.99)], busy)


def calls_a_second(tasks: int, engine: Engine) -> tuple[float, float]:
    """Return the polls and the creates that so many running tasks mean."""
    return tasks / engine.interval, tasks / LIFE


def replicas(tasks: int, engine: Engine, get: float, create: float) -> int:
    """Return how many replicas with a core each that takes."""
    polls, creates = calls_a_second(tasks, engine)
    return max(1, math.ceil((polls * get + creates * create) / BUSY))


def asks_backend(tasks: int, engine: Engine, count: int, *, window: float = 0.0, remembered: float = 0.0) -> float:
    """Return the calls a second that a backend gets.

    Args:
        tasks: running ones.
        engine: who polls.
        count: replicas, each of which gathers and remembers for itself.
        window: of `get_many`, in seconds; 0 asks for each job alone.
        remembered: `min_poll_interval`, in seconds. Any replica may get a job's next poll, and each remembers its own answers.
    """
    spared = max(
        0, math.ceil(remembered / engine.interval) - 1
    )  # polls after an answer that the same replica need not ask for
    polls = tasks / engine.interval * count / (count + spared)
    if not window:
        return polls
    each = polls / count
    return count / (1 / each + window)  # a batch opens with the first poll, and takes those that come within the window


def reached(
    age: float | None, at: Sequence[float], *, engines: int = 20, before: int = 2, after: int = 4
) -> list[float]:
    """Return the share of calls that reach replicas added at time 0, at each of these moments.

    Each process of the engine has a connection to each old replica, begun at some time; when one ends by age (give or take
    a tenth, as gRPC does it) the process asks DNS, and finds all.
    """
    chance = random.Random(SEED)
    moments = []
    for _ in range(engines):
        ends = [math.inf] * before if age is None else [_rest(age, chance) for _ in range(before)]
        moments.append(min(ends))
    share = (after - before) / after
    return [share * sum(moment <= now for moment in moments) / engines for now in at]


def _rest(age: float, chance: random.Random) -> float:
    lifetime = age * chance.uniform(0.9, 1.1)
    return lifetime * chance.random()
