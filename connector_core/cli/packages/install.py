"""`connector-host install`: install, load what has come, say what it brings, or put the environment back."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated, Any

import typer
from packaging.utils import NormalizedName

from connector_core.cli.listing import ListedPlugin
from connector_core.cli.options import takes_settings
from connector_core.cli.packages.change import RESTART, Doubts, Keep, Manner, Verbose, changing
from connector_core.cli.packages.check import Look, harm, look
from connector_core.cli.packages.installed import CORE, Changes, Installed, Set, installed_now
from connector_core.cli.packages.installer import Wanted, find_installer
from connector_core.cli.packages.undo import Undoable
from connector_core.hookspecs import ENTRY_POINT_GROUP


@takes_settings("modules", "prefer")
def install(
    requirements: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REQUIREMENTS",
            help="What pip takes: names, with extras and versions, wheels, folders, URLs. "
            "After `--`, options for the installer.",
        ),
    ] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", "-U", help="Take newer versions of what is named, if there are any.")
    ] = False,
    editable: Annotated[
        list[str] | None,
        typer.Option("--editable", "-e", metavar="FOLDER", help="A folder to use as it stands, for its author."),
    ] = None,
    keep: Keep = False,
    verbose: Verbose = False,
    **given: Any,
) -> int:
    """Install plugins into the environment of this host, and see whether they load.

    For example: connector-host install connector-plugin-duckdb, or connector-host install ./my-plugin -- --no-index

    All plugins are loaded before and after, as a host started here with these options would. If a new one fails to
    load, or one that worked does not any more, the environment is put back as it was and the exit code is 1. Installs with
    uv where there is one, else with pip.
    """
    requested = requirements or []
    names = list(takewhile(lambda one: not one.startswith("-"), requested))
    options = requested[len(names) :]
    if not (names or editable or options):
        raise typer.BadParameter("name what to install")
    wanted = Wanted(names, editable or (), options, upgrade)
    manner = Manner.of(keep, verbose, given)
    return changing(manner, lambda: _install(wanted, manner))


def _install(wanted: Wanted, manner: Manner) -> int:
    installer = find_installer(manner.progress)
    before = look(manner.progress, "loading the plugins that are here", manner.options)
    planned = installer.plan(wanted)
    with Undoable(planned, manner.say_undoing) as change:
        installer.install(wanted)
        now = installed_now()
        changes = Changes.between(change.before, now)
        asked_for = _asked_for(wanted, now)
        after = look(manner.progress, "loading them with what has come", manner.options)
        problems = list(harm(before, after, changes.names | asked_for))
        if problems and not manner.keep:
            raise Doubts(problems, after, manner.hint(["install", *_retyped(wanted)], problems))
        change.accept()
    return _Report(wanted, now, changes, asked_for).show(before, after, problems)


def _asked_for(wanted: Wanted, now: Set) -> set[NormalizedName]:
    """Return the distributions that were asked for, by canonical name, as far as their requirements say."""
    return {name for name, one in now.items() if name in wanted.names or one.url in wanted.places}


def _retyped(wanted: Wanted) -> Sequence[str]:
    upgrade = ["--upgrade"] if wanted.upgrade else []
    editable = [part for one in wanted.editable for part in ("--editable", one)]
    options = ["--", *wanted.options] if wanted.options else []
    return [*upgrade, *editable, *wanted.requirements, *options]


@dataclass(frozen=True)
class _Report:
    """The report of an installation."""

    wanted: Wanted
    now: Set
    changes: Changes
    asked_for: set[NormalizedName]

    def show(self, before: Look, after: Look, problems: Sequence[str]) -> int:
        for line in self.changes.lines():
            print(line)
        newer = "" if self.wanted.upgrade else " (--upgrade looks for a newer one)"
        for name in sorted(self.asked_for - self.changes.names):
            print(f"= {self.now[name]} was installed already{newer}")
        of_interest = self.changes.names | self.asked_for
        for key, plugin in after.plugins.items():
            former = before.plugins.get(key)
            if plugin.is_of(of_interest) or (former and former.state == "failed" and plugin.state == "loaded"):
                self._show_plugin(plugin)
        for name in sorted(self.asked_for - {CORE}):
            if not any(plugin.is_of({name}) for plugin in after.plugins.values()):
                self._warn_without_plugin(self.now[name])
        for problem in problems:
            print(f"warning: {problem}; kept, as you asked", file=sys.stderr)
        if self.changes.names:
            print(RESTART)
        return 0

    def _show_plugin(self, plugin: ListedPlugin) -> None:
        if plugin.state != "loaded":
            print(
                f"plugin {plugin} {'FAILED to load' if plugin.state == 'failed' else 'is skipped'}: {plugin.first_line}"
            )
            return
        print(
            f"plugin {plugin} is loaded{':' if plugin.connectors else ', and brings no connector. ' + (plugin.note or '')}"
        )
        for one in plugin.connectors:
            print(f"    {one.name} serves {', '.join(one.task_types)} ({one.kind})")

    def _warn_without_plugin(self, one: Installed) -> None:
        # Kept: what a plugin can use is often a distribution of its own, such as a driver or the client of a storage.
        text = f"warning: {one} brings no plugin (nothing in the entry point group {ENTRY_POINT_GROUP})"
        print(f"{text}: there is nothing new to serve", file=sys.stderr)
