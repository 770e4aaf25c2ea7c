"""The plugins that a host would serve, loaded in another process, and the harm that a change of the environment does."""

import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from connector_core.cli.listing import ListedPlugin, Listing
from connector_core.cli.packages.progress import Progress
from connector_core.errors import SettingsError
from connector_core.processes import run_apart, told_end

_SECONDS = 120.0
_USAGE = 2

Key = tuple[str, str | None]
"""A plugin's name and its distribution's: two distributions may claim one name."""


@dataclass(frozen=True)
class Look:
    """All plugins of an environment, or why they could not be looked at."""

    plugins: dict[Key, ListedPlugin] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    trouble: str = ""
    output: str = ""


def look(progress: Progress, what: str, options: Sequence[str], *, timeout: float = _SECONDS) -> Look:
    """Load all plugins as a host started here would, in another process: an import cannot be taken back.

    Raises:
        SettingsError: the settings do not hold.
    """
    program = [sys.executable, "-P", "-X", "faulthandler", "-m", "connector_core.cli"]
    with progress.doing(what):
        ended = run_apart([*program, "list", "--json", *options], timeout, {"PYTHONUNBUFFERED": "1"})
    if ended.code == _USAGE:
        raise SettingsError(ended.errors.strip().removeprefix("connector-host: "))
    if ended.has_run_out_of_time:
        return Look(trouble=f"the plugins do not finish loading within {timeout:g} s", output=ended.errors)
    try:
        listing = Listing.from_json(ended.output)
    except ValueError:
        return Look(trouble=f"loading the plugins ends the process with {told_end(ended.code)}", output=ended.errors)
    return Look({(one.name, one.distribution): one for one in listing.plugins}, listing.conflicts or ())


def harm(before: Look, after: Look, changed: Collection[str], gone: Collection[Key] = ()) -> Iterator[str]:
    """Say what does not work any more, or does not work in what has come.

    Args:
        before: the plugins before the change.
        after: the plugins after it.
        changed: the canonical names of the distributions that came or changed.
        gone: plugins that are meant to go.
    """
    if after.trouble:
        yield after.trouble
        return
    for key, new in after.plugins.items():
        old = before.plugins.get(key)
        if new.state == "failed" and (new.is_of(changed) or (old is not None and old.state == "loaded")):
            yield f"plugin {new} fails to load: {new.first_line}"
    for key, old in before.plugins.items():
        if old.state == "loaded" and key not in gone:
            yield from _loss(old, after.plugins.get(key))
    yield from (conflict for conflict in after.conflicts if conflict not in before.conflicts)


def _loss(old: ListedPlugin, new: ListedPlugin | None) -> Iterator[str]:
    if new is None:
        yield f"plugin {old} would be gone"
    elif new.state == "loaded":
        yield from (
            f"plugin {new} would no longer serve the task type {task_type!r}"
            for task_type in sorted(old.task_types - new.task_types)
        )
    elif new.state == "skipped":
        yield f"plugin {old} would be skipped: {new.first_line}"


def command(*parts: str) -> str:
    """Return a command of ours as it is typed."""
    return shlex.join(["connector-host", *parts])
