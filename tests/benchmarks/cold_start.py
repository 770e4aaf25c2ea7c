"""Cold start to the first answered ListAgents, and resident memory then, beside flytekit's own server.

Run it with `uv run --all-packages python -m tests.benchmarks.cold_start`; it takes about a minute and writes
`docs/reference/benchmarks.md`.
"""

import argparse
import statistics
from collections import defaultdict

from tests.benchmarks.servers import Target, make_flytekit, make_ours, running, versions
from tests.support.environments import ROOT, run

REPORT = ROOT / "docs" / "reference" / "benchmarks.md"
_WHAT = (
    "From the start of the process until ListAgents is answered, and resident memory right then. Each server has the same "
    "two connectors that do nothing; each environment is byte-compiled. Medians of {count} interleaved runs ({where}, "
    "commit {commit}):"
)
COMMAND = "uv run --all-packages python -m tests.benchmarks.cold_start"


def measure(targets: list[Target], runs: int) -> dict[str, list[tuple[float, float]]]:
    """Start each server so many times, in turn; return seconds and megabytes by server."""
    figures: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for number in range(runs + 1):
        for target in targets:
            with running(target) as server:
                if number:  # the first round fills the caches
                    figures[target.name].append((server.seconds_to_serving, server.resident_megabytes()))
    return figures


def report(figures: dict[str, list[tuple[float, float]]]) -> str:
    """Return the page."""
    commit = run("git", "rev-parse", "--short", "HEAD", cwd=ROOT).stdout.strip()
    rows = ["| server | seconds to the first answer (min-max) | resident MB (min-max) |", "|---|---|---|"]
    medians = {}
    for name, pairs in figures.items():
        seconds, megabytes = zip(*pairs, strict=True)
        medians[name] = (statistics.median(seconds), statistics.median(megabytes))
        rows.append(
            f"| {name} | {medians[name][0]:.2f} ({min(seconds):.2f}-{max(seconds):.2f}) "
            f"| {medians[name][1]:.0f} ({min(megabytes):.0f}-{max(megabytes):.0f}) |"
        )
    ours, theirs = medians["connector-host"], medians["flytekit"]
    ratios = f"| connector-host / flytekit | {ours[0] / theirs[0]:.2f} | {ours[1] / theirs[1]:.2f} |"
    count = len(next(iter(figures.values())))
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "## Cold start and memory",
            "",
            _WHAT.format(count=count, where=versions(), commit=commit),
            "",
            *rows,
            ratios,
            "",
            "To reproduce it:",
            "",
            f"    {COMMAND}",
            "",
        ]
    )


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    page = report(measure([make_ours(), make_flytekit()], runs))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
