"""The results page, written from the figures alone."""

import statistics
from collections.abc import Iterator, Sequence

from tests.benchmarks import plots
from tests.benchmarks.claims import CLAIMS, Claim
from tests.benchmarks.figures import Results, Section, ratios, spread
from tests.benchmarks.sections import TABLES, Table
from tests.support.environments import ROOT

PAGE = ROOT / "docs" / "reference" / "benchmarks.md"
PLOTS = PAGE.with_suffix("")
COMMAND = "uv run --all-packages python -m tests.benchmarks"

_QUIET = 10.0
"""Percentage of the machine that others may take."""

_INTRODUCTION = """\
# Benchmarks

Measured by one command beside the servers that users have today and the floors of the transport, all in the same run:

```shell title="not run: takes a quarter of an hour, and wants a quiet machine"
{command}
```

`--quick` shows in three minutes that everything works; its figures mean nothing. `--parts calls,starting` measures some anew
and leaves the rest; `--report` only writes this page again. The load needs nothing but Python; the comparison with h2load wants
Debian's `nghttp2-client`.

Machine: {machine}. Installed:

{versions}

Each figure is the median of interleaved rounds, with the least and the greatest in brackets. A ratio is one of two figures of
the same round, its median and spread again over the rounds.{warnings}
"""

_CLAIMS = """\
## Targets

| what | measured | target | reached |
|---|---|---|---|
"""


def write(results: Results) -> str:
    """Write the page and its plots, and return the page."""
    plots.draw(results, PLOTS)
    text = page(results)
    PAGE.write_text(text)
    return text


def page(results: Results) -> str:
    """Return the page."""
    return "\n".join(_page(results)).rstrip() + "\n"


def claims(results: Results) -> str:
    """Return the table of targets."""
    return _CLAIMS + "\n".join(_claim(claim, results) for claim in CLAIMS if claim.values(results)) + "\n"


def _page(results: Results) -> Iterator[str]:
    versions = "\n".join(f"- {name}: {installed}" for name, installed in results.versions.items())
    yield _INTRODUCTION.format(command=COMMAND, machine=results.machine, versions=versions, warnings=_warnings(results))
    yield claims(results)
    for name, table in TABLES.items():
        if section := results.sections.get(name):
            yield f"{'#' * table.level} {table.title}\n"
            yield f"{table.about}\n"
            if table.plot:
                yield f"![{table.title}: the table below as a plot](benchmarks/{table.plot}.svg)\n"
            yield "\n".join(_table(table, section)) + "\n"
            yield f"*{section.when}, commit {section.commit}, {section.effort}.*\n"


def _warnings(results: Results) -> str:
    quick = [name for name, section in results.sections.items() if section.effort.endswith("quick")]
    busy = [name for name, section in results.sections.items() if section.others > _QUIET]
    said = ""
    if quick:
        said += f"\n\n**Measured with `--quick`, which means nothing: {', '.join(quick)}.**"
    if busy:
        said += f"\n\n**Others were at work on the machine when these were begun: {', '.join(busy)}.**"
    return said


def _claim(claim: Claim, results: Results) -> str:
    reached = "yes" if claim.is_reached(results) else "**no**"
    return f"| {claim.what} | {spread(claim.values(results), claim.form)} | {claim.target} | {reached} |"


def _table(table: Table, section: Section) -> Iterator[str]:
    rows = section.figures
    shown = {name: metric for name, metric in table.metrics.items() if any(row.get(name) for row in rows.values())}
    headings = [metric.heading for metric in shown.values()]
    headings += [f"{_short(table, metric)}/ {reference}" for metric, reference in table.ratios]
    yield f"| | {' | '.join(headings)} |"
    yield "|---" * (len(headings) + 1) + "|"
    for row, values in rows.items():
        cells = [spread(values.get(name, []), metric.form) for name, metric in shown.items()]
        cells += [_ratio(values.get(metric, []), rows.get(to, {}).get(metric, [])) for metric, to in table.ratios]
        yield f"| {row} | {' | '.join(cells)} |"


def _short(table: Table, metric: str) -> str:
    """Name the metric of a ratio where the table has ratios of several."""
    return f"{table.metrics[metric].short or metric} " if len({name for name, _ in table.ratios}) > 1 else ""


def _ratio(above: Sequence[float], below: Sequence[float]) -> str:
    found = ratios(above, below)
    return f"{statistics.median(found):.2f}" if found else "-"
