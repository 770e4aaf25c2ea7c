"""`connector-host install`: install, load what has come, say what it brings, or put the environment back."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from packaging.utils import NormalizedName

from connector_core.cli.packages.change import RESTART, Doubts, Manner, changing
from connector_core.cli.packages.check import Look, Seen, harm, look
from connector_core.cli.packages.installed import CORE, Changes, Installed, Set, installed_now
from connector_core.cli.packages.installer import Wanted, find_installer
from connector_core.cli.packages.undo import Undoable
from connector_core.hookspecs import ENTRY_POINT_GROUP


def install(wanted: Wanted, manner: Manner) -> int:
    """Install plugins and return the exit code: 0 when all is well, or kept as it is.

    Raises:
        SetupError: it cannot be done, or an installer says so.
    """
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
    """What is said when something has been installed."""

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

    def _show_plugin(self, plugin: Seen) -> None:
        if plugin.state != "loaded":
            print(
                f"plugin {plugin} {'FAILED to load' if plugin.state == 'failed' else 'is skipped'}: {plugin.first_line}"
            )
            return
        print(f"plugin {plugin} is loaded{':' if plugin.connectors else ', and brings no connector. ' + plugin.note}")
        for one in plugin.connectors:
            print(f"    {one['name']} serves {', '.join(one['task_types'])} ({one['kind']})")

    def _warn_without_plugin(self, one: Installed) -> None:
        # Kept: what a plugin can use is often a distribution of its own, such as a driver or the client of a storage.
        text = f"warning: {one} brings no plugin (nothing in the entry point group {ENTRY_POINT_GROUP})"
        print(f"{text}: there is nothing new to serve", file=sys.stderr)
