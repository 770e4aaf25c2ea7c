"""How many replicas so many running tasks need, from the measured cost of a call and the engine's way of polling.

python -m tests.benchmarks.scaling          writes the figures and plots of docs/explanation/scaling.md anew
"""

import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.benchmarks import plots
from tests.benchmarks.figures import Results
from tests.benchmarks.model import Engine, Hosts, asks_backend, calls_a_second, reached, replicas, simulate
from tests.benchmarks.parts import starting
from tests.benchmarks.servers import FLYTEKIT, PROTECTED, VOUCHED
from tests.support.environments import ROOT

PAGE = ROOT / "docs" / "explanation" / "scaling.md"
PLOTS = PAGE.with_suffix("")
RESULTS = ROOT / "tests" / "benchmarks" / "results.json"
TASKS = (1_000, 100_000, 1_000_000)
SERVERS = (PROTECTED, VOUCHED, FLYTEKIT)


@dataclass(frozen=True)
class Costs:
    """Seconds of CPU that a call takes, as measured."""

    get: float
    create: float

    @classmethod
    def measured(cls, results: Results, server: str) -> "Costs":
        """Read them."""
        get, create = (results.median(section, server, "cpu") / 1e6 for section in ("get", "create"))
        return cls(get, create)


def figures(results: Results) -> dict[str, str]:
    """Return the page's tables by name."""
    engine = Engine()
    costs = {server: Costs.measured(results, server) for server in SERVERS}
    return {
        "costs": "\n".join(_costs(costs, results)),
        "replicas": "\n".join(_replicas(costs, engine)),
        "engine": "\n".join(_engine(costs[PROTECTED], engine)),
        "backend": "\n".join(_backend(costs[PROTECTED], engine)),
        "added": "\n".join(_added()),
    }


def _costs(costs: dict[str, Costs], results: Results) -> Iterator[str]:
    yield "| | CPU of a GetTask, µs | CPU of a CreateTask, µs |"
    yield "|---|---|---|"
    for server, cost in costs.items():
        yield f"| {server} | {cost.get * 1e6:,.0f} | {cost.create * 1e6:,.0f} |"
    memory = results.values("memory", PROTECTED, "jobs"), results.values("memory", PROTECTED, "calls")
    if all(memory):
        each = (statistics.median(memory[0]) - statistics.median(memory[1])) * 1e6 / starting.JOBS
        yield f"\nA job that is remembered takes {max(each, 0):,.0f} bytes of a host's memory."


def _replicas(costs: dict[str, Costs], engine: Engine) -> Iterator[str]:
    yield f"| running tasks | polls a second | creates a second | {' | '.join(costs)} |"
    yield "|---|---|---|" + "---|" * len(costs)
    for tasks in TASKS:
        polls, creates = calls_a_second(tasks, engine)
        needed = " | ".join(f"{replicas(tasks, engine, cost.get, cost.create):,}" for cost in costs.values())
        yield f"| {tasks:,} | {polls:,.0f} | {creates:,.1f} | {needed} |"


def _engine(cost: Costs, engine: Engine) -> Iterator[str]:
    yield "| engine | replicas | a sweep takes, s | p50, ms | p99, ms | replicas busy |"
    yield "|---|---|---|---|---|---|"
    fast = replace(engine, qps=10_000, burst=10_000)
    for tasks, settings, said in (
        (300, engine, "300 tasks, as it comes (10 workers, 10 a second, burst of 100)"),
        (1_000, engine, "1,000 tasks, as it comes"),
        (1_000, replace(engine, qps=100), "1,000 tasks, 100 a second"),
        (10_000, fast, "10,000 tasks, no rate limit"),
        (10_000, replace(fast, workers=100), "10,000 tasks, no rate limit, 100 workers"),
        (100_000, replace(fast, workers=100, processes=2), "100,000 tasks, the same, two processes"),
        (100_000, replace(fast, workers=200, processes=2), "100,000 tasks, 200 workers, two processes"),
    ):
        count = replicas(tasks, settings, cost.get, cost.create)
        sweep = simulate(tasks, settings, Hosts(count, cost.get))
        late = " (too long)" if sweep.seconds > settings.interval else ""
        yield (
            f"| {said} | {count} | {sweep.seconds:,.1f}{late} | {sweep.p50 * 1e3:,.0f} | {sweep.p99 * 1e3:,.0f} "
            f"| {sweep.busy:.0%} |"
        )


def _backend(cost: Costs, engine: Engine) -> Iterator[str]:
    yield "| running tasks | replicas | asked for each poll | `get_many`, window 20 ms | `min_poll_interval` 60 s | 600 s |"
    yield "|---|---|---|---|---|---|"
    for tasks in TASKS:
        count = replicas(tasks, engine, cost.get, cost.create)
        ways = (
            asks_backend(tasks, engine, count),
            asks_backend(tasks, engine, count, window=0.02),
            asks_backend(tasks, engine, count, remembered=60),
            asks_backend(tasks, engine, count, remembered=600),
        )
        yield f"| {tasks:,} | {count} | {' | '.join(f'{way:,.0f}' for way in ways)} |"


_AGES: dict[str, float | None] = {"never": None, "30 minutes": 1800, "5 minutes": 300}
_MOMENTS = (60, 300, 900, 1800)


def _added() -> Iterator[str]:
    yield "| connections end | after 1 minute | 5 minutes | 15 minutes | 30 minutes |"
    yield "|---|---|---|---|---|"
    for said, age in _AGES.items():
        yield f"| {said} | {' | '.join(f'{share:.0%}' for share in reached(age, _MOMENTS))} |"


def fill(page: str, tables: dict[str, str]) -> str:
    """Put each table between its marks, and leave the rest of the page as it is."""
    for name, table in tables.items():
        marks = re.compile(rf"(<!-- figures: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        parts = marks.split(page)
        assert len(parts) == 4, f"the page has another number of places for {name} than one"
        page = f"{parts[0]}{parts[1]}{table}\n\n{parts[2]}{parts[3]}"
    return page


def write(results: Results) -> None:
    """Write the page's figures and plots anew."""
    PAGE.write_text(fill(PAGE.read_text(), figures(results)))
    draw(results)


def draw(results: Results) -> None:
    """Draw the page's plots."""
    PLOTS.mkdir(exist_ok=True)
    with mpl.rc_context(plots.STYLE):
        _draw("replicas", lambda axes: _plot_replicas(axes, results))
        _draw("engine", lambda axes: _plot_engine(axes, results))
        _draw("backend", lambda axes: _plot_backend(axes, results))
        _draw("added", _plot_added)


def _draw(name: str, plot: Callable[[Axes], None]) -> None:
    figure, axes = plt.subplots(figsize=(7.2, 3.0))
    plot(axes)
    axes.legend()
    plots.save(figure, PLOTS / f"{name}.svg")


_SCALE = [round(10 ** (power / 20)) for power in range(60, 121)]


def _plot_replicas(axes: Axes, results: Results) -> None:
    for server in SERVERS:
        cost = Costs.measured(results, server)
        cores = [replicas(tasks, Engine(), cost.get, cost.create) for tasks in _SCALE]
        axes.loglog(_SCALE, cores, label=server, color=plots.COLOURS[server], drawstyle="steps-post")
    axes.set(xlabel="running tasks, each polled every 30 s", ylabel="replicas with one core")


def _plot_engine(axes: Axes, results: Results) -> None:
    cost = Costs.measured(results, PROTECTED)
    tasks = [100, 200, 500, 1000, 2000, 5000, 10_000]
    for qps, workers, colour in (
        (10, 10, "#a9543a"),
        (100, 10, "#d08a3c"),
        (1000, 10, "#3fae8a"),
        (1000, 100, "#1b6e54"),
    ):
        engine = Engine(qps=qps, workers=workers)
        seconds = [simulate(count, engine, Hosts(2, cost.get)).seconds for count in tasks]
        axes.loglog(tasks, seconds, marker="o", ms=3, color=colour, label=f"{qps} a second, {workers} workers")
    axes.axhline(30, color="#555555", lw=0.8, ls="--", label="the interval")
    axes.set(xlabel="running tasks of one engine process", ylabel="seconds to poll all of them")


def _plot_backend(axes: Axes, results: Results) -> None:
    cost, engine = Costs.measured(results, PROTECTED), Engine()
    for said, remembered, window, colour in (
        ("each poll asks", 0.0, 0.0, "#a9543a"),
        ("min_poll_interval 600 s", 600.0, 0.0, "#d08a3c"),
        ("get_many, window 20 ms", 0.0, 0.02, "#3fae8a"),
    ):
        counts = [replicas(tasks, engine, cost.get, cost.create) for tasks in _SCALE]
        calls = [
            asks_backend(tasks, engine, count, window=window, remembered=remembered)
            for tasks, count in zip(_SCALE, counts, strict=True)
        ]
        axes.loglog(_SCALE, calls, color=colour, label=said)
    axes.set(xlabel="running tasks", ylabel="calls of the backend a second")


def _plot_added(axes: Axes) -> None:
    at = list(range(0, 2400, 10))
    for (said, age), colour in zip(_AGES.items(), ("#a9543a", "#3fae8a", "#1b6e54"), strict=True):
        axes.plot([now / 60 for now in at], [share * 100 for share in reached(age, at)], color=colour, label=said)
    axes.axhline(50, color="#555555", lw=0.8, ls="--")
    axes.set(xlabel="minutes after two replicas became four", ylabel="% of calls on the new ones", ylim=(-2, 60))


if __name__ == "__main__":
    write(Results.read(RESULTS))
