"""Every connector package that installs here, served by a host: `python -m tests.long.bridges` writes the table of the docs."""

import argparse
import datetime as dt
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.support.bridge_probe import BY_ITS_CLASS, SAME
from tests.support.environments import ROOT, build_wheel
from tests.support.matrix import GROUPS, Examined, Group, Row, examine, install

PAGE = ROOT / "docs" / "reference" / "bridged-connectors.md"

INTRODUCTION = f"""\
# Bridged connectors

Connectors that are written for flytekit or for Flyte's SDK 2, and served as they are by `connector-plugin-flytekit` and
`connector-plugin-flyte`. `python -m tests.long.bridges` writes this page. It installs each package from the registry into a
fresh environment with the host and the bridge, lists it, serves it, asks ListAgents and ListConnectors, and sends a made-up
resource meta of each connector there and back. Packages that need other versions of one library have environments of their own.

The last column says what became of the resource meta: *{SAME}*, or *{BY_ITS_CLASS}*, where the connector's own class does not
read all that it wrote as it was (nested data comes back as dictionaries); its bytes are its own in both cases. A sync connector
has none.
"""


def main() -> int:
    """Examine the groups and write the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "groups", nargs="*", help=f"only these, without writing: {', '.join(one.name for one in GROUPS)}"
    )
    asked = parser.parse_args().groups
    groups = [group for group in GROUPS if not asked or group.name in asked]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for group in groups:
            results.append(examined(group, Path(folder)))
            print(_told(results[-1]), flush=True)
    if not asked:
        PAGE.write_text(page(results))
    return 1 if any(result.problems for result in results) else 0


def examined(group: Group, folder: Path) -> Examined:
    """Install a group and examine it."""
    own = folder / group.name
    own.mkdir()
    wheels = [build_wheel(package, own) for package in (ROOT, ROOT / "connector_plugins" / group.bridge)]
    place, refused = install(group, own / "venv", (f"connector-core[v2] @ {wheels[0].as_uri()}", wheels[1]))
    return replace(examine(group, place, own), not_installed=refused)


def page(results: Sequence[Examined]) -> str:
    """Return the docs' page."""
    today, commit = dt.datetime.now(dt.UTC).date(), _commit()
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    tables = []
    shown: set[Row] = set()
    for result in results:
        rows = [row for row in result.rows if row not in shown]  # flytekit's own are in every environment of it
        shown |= set(rows)
        tables += [f"## Environment {result.group.name}\n", *_limits(result.group), _table(rows), *_missing(result)]
    packages = len({row.distribution for row in shown})
    tried = f"Written on {today} at commit {commit}, with {where}: {len(shown)} connectors of {packages} packages.\n"
    return "\n".join([INTRODUCTION, tried, *tables])


def _table(rows: Sequence[Row]) -> str:
    lines = ["| package | plugin | connector | task types | kind | resource meta |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.distribution} {row.version} | `{row.plugin}` | {row.connector} | "
        f"{', '.join(f'`{one}`' for one in row.task_types)} | {row.kind} | {row.verdict} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _limits(group: Group) -> list[str]:
    return [f"With `{limit}`: {why}.\n" for limit, why in group.limits.items()]


def _missing(result: Examined) -> list[str]:
    lines = [f"- `{package}` cannot be installed: {reason}" for package, reason in result.not_installed.items()]
    lines += [f"- `{name}` cannot be imported: {reason}" for name, reason in result.not_served.items()]
    return ["\n".join(lines) + "\n"] if lines else []


def _told(result: Examined) -> str:
    lines = [f"== {result.group.name}: {len(result.rows)} connectors", *(f"PROBLEM {one}" for one in result.problems)]
    return "\n".join(lines + _missing(result))


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
