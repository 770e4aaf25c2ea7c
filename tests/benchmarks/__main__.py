"""All benchmarks by one command: `uv run --all-packages python -m tests.benchmarks`.

It makes the peers' environments in `.benchmarks/`, measures everything interleaved, and writes `docs/reference/benchmarks.md`
with its plots, and the figures of `docs/explanation/scaling.md`. `--quick` takes three minutes and shows only that everything
works.
"""

import argparse
import datetime as dt
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.benchmarks import machine, report, scaling
from tests.benchmarks.figures import Effort, Figures, Results, Section
from tests.benchmarks.parts import blocking, calls, hosts, installed, large, neighbours, plugins, starting
from tests.benchmarks.peers import CACHE, Environments, make_environments
from tests.benchmarks.servers import Servers
from tests.support.environments import ROOT, run

RESULTS = ROOT / "tests" / "benchmarks" / "results.json"
REHEARSAL = CACHE / "rehearsal.json"

Measure = Callable[[Servers, Effort], dict[str, Figures]]
PARTS: Mapping[str, Measure] = {
    "calls": calls.measure,
    "blocking": blocking.measure,
    "neighbours": neighbours.measure,
    "starting": starting.measure,
    "plugins": plugins.measure,
    "installed": installed.measure,
    "large": large.measure,
    "hosts": hosts.measure,
}


def main() -> None:
    """Measure and write the page."""
    chosen = _arguments()
    path = REHEARSAL if chosen.quick else RESULTS
    results = Results.read(path)
    failed: list[str] = []
    if not chosen.report:
        environments = make_environments(fresh=chosen.fresh)
        effort = Effort.quick() if chosen.quick else Effort(chosen.rounds, chosen.seconds)
        failed = [name for name in chosen.parts if not _measure(name, environments, effort, results, path)]
    if chosen.quick:
        print(report.claims(results))
        print(f"A rehearsal: the figures are in {path}, the page is as it was.")
    else:
        results = Results.read(path)  # as they are kept, which is rounded
        report.write(results)
        scaling.write(results)
        print(report.claims(results))
    if failed:
        sys.exit(f"these could not be measured, and have the figures that they had: {', '.join(failed)}")


def _measure(name: str, environments: Environments, effort: Effort, results: Results, path: Path) -> bool:
    """Measure a part and keep its figures; return whether that went well: the others are measured all the same."""
    others, began = machine.taken_by_others(), time.perf_counter()
    print(f"{name} ...", end=" ", flush=True)
    try:
        found = PARTS[name](Servers(environments), effort)
    except Exception:  # noqa: BLE001 - it is shown
        traceback.print_exc()
        return False
    commit = run("git", "rev-parse", "--short", "HEAD", cwd=ROOT).stdout.strip()
    dirty = "+" if run("git", "status", "--porcelain", "connector_core", cwd=ROOT).stdout else ""
    when = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    said = "quick" if effort.is_quick else f"{effort.rounds} rounds of {effort.seconds:g} s"
    for section, figures in found.items():
        results.sections[section] = Section(figures, commit + dirty, when, said, others)
    results.machine, results.versions = machine.describe(), environments.versions()
    results.write(path)
    print(f"{time.perf_counter() - began:.0f} s", flush=True)
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5); some parts take fewer")
    parser.add_argument("--seconds", type=float, default=1.25, help="how long each rate is measured (1.25)")
    parser.add_argument("--quick", action="store_true", help="one short round of everything; the page is left alone")
    parser.add_argument(
        "--fresh", action="store_true", help="make the peers' environments anew, from their newest releases"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing; write the page again")
    parser.add_argument(
        "--parts", type=_parts, default=tuple(PARTS), metavar="NAMES", help=f"some of {', '.join(PARTS)}, with commas"
    )
    return parser.parse_args()


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    main()
