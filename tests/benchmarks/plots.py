"""The page's plots, as SVG that is the same for the same figures."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.benchmarks import servers
from tests.benchmarks.figures import Results
from tests.benchmarks.parts.calls import CALLS
from tests.benchmarks.parts.plugins import COUNTS

STYLE: Any = {
    "svg.hashsalt": "connector-host",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "figure.facecolor": "white",
    "legend.frameon": False,
}
COLOURS = {
    servers.F_TYPED_UV: "#b0b0b0",
    servers.VOUCHED: "#1b6e54",
    servers.PROTECTED: "#3fae8a",
    servers.FLYTEKIT: "#d08a3c",
    servers.FLYTE2: "#a9543a",
}
_CALLED = {
    "get": "GetTask",
    "create": "CreateTask",
    "create_used": "CreateTask,\ninputs used",
    "sync": "ExecuteTaskSync",
}


def save(figure: Figure, path: Path) -> None:
    """Write it without what differs from run to run."""
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = path.read_text()
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")


def draw(results: Results, folder: Path) -> list[str]:
    """Draw what there are figures for; return the names of the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with mpl.rc_context(STYLE):
        for name, (needs, plot) in _PLOTS.items():
            if needs in results.sections:
                figure, axes = plt.subplots(figsize=(7.2, 3.0))
                plot(results, axes)
                save(figure, folder / f"{name}.svg")
                drawn.append(name)
    return drawn


def _calls(results: Results, axes: Axes) -> None:
    width = 0.8 / len(COLOURS)
    for place, (name, colour) in enumerate(COLOURS.items()):
        found = [(at, results.values(call, name, "rate")) for at, call in enumerate(CALLS)]
        there = [(at, values) for at, values in found if values]
        _bars(axes, [at + (place - 2) * width for at, _ in there], [values for _, values in there], width, colour, name)
    axes.set_xticks(range(len(CALLS)), [_CALLED[call] for call in CALLS])
    axes.set_ylabel("calls a second on one core")
    axes.grid(visible=False, axis="x")
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.28))


def _bars(
    axes: Axes, at: Sequence[float], values: Sequence[Sequence[float]], width: float, colour: str, name: str
) -> None:
    medians = [statistics.median(one) for one in values]
    low = [median - min(one) for median, one in zip(medians, values, strict=True)]
    high = [max(one) - median for median, one in zip(medians, values, strict=True)]
    axes.bar(at, medians, width * 0.92, color=colour, label=name, yerr=[low, high], error_kw={"lw": 0.8})


def _neighbours(results: Results, axes: Axes) -> None:
    probes = ("get unloaded", "get beside", "list beside")
    names = (servers.PROTECTED, servers.FLYTEKIT, servers.FLYTE2)
    for place, name in enumerate(names):
        heights = [results.values("neighbours_wrongly_async", name, probe) for probe in probes]
        _bars(axes, [at + (place - 1) * 0.27 for at in range(len(probes))], heights, 0.27, COLOURS[name], name)
    axes.set_yscale("log")
    axes.set_xticks(range(len(probes)), ["GetTask, unloaded", "GetTask, beside", "ListAgents, beside"])
    axes.set_ylabel("p99, ms")
    axes.set_title("beside 50 calls that block for 5 s in an `async def`", fontsize=9)
    axes.legend()


def _plugins(results: Results, axes: Axes) -> None:
    for name in (servers.PROTECTED, servers.FLYTEKIT, servers.FLYTE2):
        found = [(count, results.values("plugins", name, str(count))) for count in COUNTS]
        there = [(count, statistics.median(values)) for count, values in found if values]
        axes.plot(*zip(*there, strict=True), marker="o", color=COLOURS[name], label=name)
    axes.set_xlabel("installed distributions with a plugin")
    axes.set_ylabel("seconds until SERVING")
    axes.set_ylim(bottom=0)
    axes.legend()


_PLOTS = {
    "calls": ("get", _calls),
    "neighbours": ("neighbours_wrongly_async", _neighbours),
    "plugins": ("plugins", _plugins),
}
