"""`connector-host list` and `doctor`: what is installed, and what is wrong with it."""

import sys
from collections.abc import Iterator

from importlib_metadata import Distribution, PackageNotFoundError
from packaging.requirements import InvalidRequirement, Requirement

from connector_core.cli.report import as_json as described
from connector_core.cli.report import print_plugins
from connector_core.errors import ConflictError, SettingsError
from connector_core.plugins import (
    FailedPlugin,
    PluginLoadResult,
    build_registry,
    load_from_settings,
    load_sources,
    plugin_sources,
    refuse_shared_names,
)
from connector_core.registry import PluginIdentity
from connector_core.settings import Settings


def show_list(settings: Settings, *, as_json: bool) -> int:
    """Print the plugins that a host started here would serve; a failed one is listed, not an error."""
    result = load_from_settings(settings)
    served, conflicts = None, []
    try:
        served = {id(entry.connector): entry for entry in build_registry(result, settings.prefer)}
    except ConflictError as error:
        conflicts = str(error).splitlines()
    if as_json:
        print(described(result, conflicts=conflicts))
        return 0
    print_plugins(result, sys.stdout, served)
    for conflict in conflicts:
        print(f"conflict: {conflict}")
    for warning in result.warnings:
        print(f"warning: {warning}")
    return 0


def show_examination(settings: Settings, only: str | None, *, as_json: bool) -> int:
    """Print what each plugin brings and all that is wrong; return 1 if anything is.

    Raises:
        SettingsError: the plugin that is asked for is not there.
    """
    sources = plugin_sources(settings)
    if only is not None:
        names = [source.identity.name for source in sources]
        if only not in names:
            raise SettingsError(f"there is no plugin {only!r}; installed are {', '.join(names) or 'none'}")
        sources = [source for source in sources if source.identity.name == only]
    problems = []
    try:
        refuse_shared_names(sources)
    except ConflictError as error:
        problems += str(error).splitlines()
    result = load_sources(sources, settings)
    problems += _problems(result, settings)
    if only is None:
        problems += result.warnings
    if as_json:
        print(described(result, problems=problems))
    else:
        _print_examination(result, problems)
    return 1 if problems else 0


def _print_examination(result: PluginLoadResult, problems: list[str]) -> None:
    print_plugins(result, sys.stdout)
    for failed in result.failed:
        print(f"\n--- {failed.identity.name}: traceback ---\n{failed.traceback.rstrip()}")
    print()
    if not problems:
        print("Nothing is wrong.")
        return
    print(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}:")
    for problem in problems:
        print(f"- {problem}")


def _problems(result: PluginLoadResult, settings: Settings) -> Iterator[str]:
    for failed in result.failed:
        yield f"plugin {failed.identity.name!r} failed to load: {_first_line(failed)}"
    try:
        build_registry(result, settings.prefer)
    except ConflictError as error:
        yield from str(error).splitlines()
    for plugins in result.by_state.values():
        for plugin in plugins:
            yield from _clashes(plugin.identity)


def _first_line(failed: FailedPlugin) -> str:
    return failed.reason.splitlines()[0] if failed.reason else "no reason given"


def _clashes(plugin: PluginIdentity) -> Iterator[str]:
    """Say which of a distribution's requirements the installed versions do not meet."""
    if plugin.distribution is None:
        return
    for text in Distribution.from_name(plugin.distribution).requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            yield f"{plugin.distribution} {plugin.version} has a requirement that cannot be read: {text!r}"
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        problem = _unmet(requirement)
        if problem:
            yield f"{plugin.distribution} {plugin.version} requires {requirement.name}{requirement.specifier}, {problem}"


def _unmet(requirement: Requirement) -> str | None:
    try:
        version = Distribution.from_name(requirement.name).version
    except PackageNotFoundError:
        return "which is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"but {version} is installed"
