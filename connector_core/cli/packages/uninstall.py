"""`connector-host uninstall`: plugins go, what others need stays."""

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from importlib_metadata import Distribution
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from connector_core.cli.options import takes_settings
from connector_core.cli.packages.change import RESTART, Doubts, Keep, Manner, Verbose, changing
from connector_core.cli.packages.check import harm, look
from connector_core.cli.packages.installed import CORE, Changes, Installed, Set, found, installed_now
from connector_core.cli.packages.installer import InstallError, find_installer
from connector_core.cli.packages.undo import Undoable
from connector_core.errors import SettingsError


@takes_settings("modules", "prefer")
def uninstall(
    names: Annotated[list[str], typer.Argument(metavar="NAMES", help="Plugins, or their distributions.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep: Keep = False,
    verbose: Verbose = False,
    **given: Any,
) -> int:
    """Uninstall plugins from the environment of this host; what they required stays.

    The environment is put back, and the exit code is 1, if a plugin that stays would no longer work.
    """
    manner = Manner.of(keep, verbose, given)
    return changing(manner, lambda: _uninstall(names, manner, sure=yes))


def _uninstall(names: Sequence[str], manner: Manner, *, sure: bool) -> int:
    installed = installed_now()
    chosen = {canonicalize_name(one.name): one for one in (_chosen(name, installed) for name in names)}
    _refuse_what_the_host_needs(chosen)
    for one in chosen.values():
        print(f"{one} goes: {_plugins(one)}", flush=True)
    if not sure and sys.stdin.isatty() and not typer.confirm("Uninstall?", default=True):
        print("Nothing was changed.")
        return 1
    installer = find_installer(manner.progress)
    before = look(manner.progress, "loading the plugins that are here", manner.options)
    gone = {key for key, plugin in before.plugins.items() if plugin.is_of(set(chosen))}
    idle = _idle_after(chosen)
    with Undoable(chosen, manner.say_undoing) as change:
        installer.uninstall([one.name for one in chosen.values()])
        now = installed_now()
        if left := [str(now[name]) for name in chosen if name in now]:
            raise InstallError(f"{installer.name} left {', '.join(left)} where it is: {_outside(left)}")
        after = look(manner.progress, "loading those that stay", manner.options)
        problems = list(harm(before, after, set(), gone))
        if problems and not manner.keep:
            raise Doubts(problems, after, manner.hint(["uninstall", *names], problems))
        change.accept()
    for line in Changes.between(change.before, now).lines():
        print(line)
    for problem in problems:
        print(f"warning: {problem}; kept, as you asked", file=sys.stderr)
    if idle:
        print(f"What only it needed was left alone: {', '.join(idle)}.")
    print(RESTART)
    return 0


def _chosen(name: str, installed: Set) -> Installed:
    """Return the distribution of a plugin of this name, else the distribution of this name.

    The plugin goes first: a plugin is often named as the client that it uses.
    """
    owners = [one for one in installed.values() if name in one.plugins]
    if len(owners) > 1:
        raise SettingsError(f"plugin {name!r} is in {' and in '.join(map(str, owners))}: name the distribution")
    if owners:
        return owners[0]
    if one := installed.get(canonicalize_name(name)):
        return one
    if (bridge := name.split("/", maxsplit=1)[0]) != name and any(bridge in one.plugins for one in installed.values()):
        raise SettingsError(f"{name!r} is found by {bridge!r}: name its distribution, which connector-host list shows")
    plugins = sorted(plugin for one in installed.values() for plugin in one.plugins)
    raise SettingsError(f"there is no plugin or distribution {name!r} here; plugins are {', '.join(plugins) or 'none'}")


def _plugins(one: Installed) -> str:
    if not one.plugins:
        return "it brings no plugin"
    return f"plugin{'s' if len(one.plugins) > 1 else ''} {', '.join(sorted(one.plugins))}"


def _refuse_what_the_host_needs(chosen: Set) -> None:
    needed = _closure(CORE, _requirements())
    if CORE in chosen:
        raise SettingsError(f"{CORE} is the host itself: to be rid of it, use pip or uv, or remove the environment")
    if refused := sorted(chosen.keys() & needed):
        raise SettingsError(f"the host itself needs {', '.join(refused)}: nothing was uninstalled")


def _idle_after(chosen: Set) -> list[str]:
    """Return what the chosen ones require, and nothing else that is installed does."""
    requirements = _requirements()
    required = {name for one in chosen for name in requirements.get(one, set())} & requirements.keys()
    elsewhere = {name for one, needs in requirements.items() if one not in chosen for name in needs}
    return sorted(required - elsewhere - chosen.keys() - {CORE})


def _requirements() -> dict[NormalizedName, set[NormalizedName]]:
    return {canonicalize_name(one.name): set(_required(one)) for one in found()}


def _required(one: Distribution) -> Iterator[NormalizedName]:
    for text in one.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def _closure(root: NormalizedName, requirements: dict[NormalizedName, set[NormalizedName]]) -> set[NormalizedName]:
    reached: set[NormalizedName] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += requirements.get(name, set())
    return reached - {root}


def _outside(left: Sequence[str]) -> str:
    return f"{'it is' if len(left) == 1 else 'they are'} outside of this environment ({sys.prefix})"
