"""`connector-host list` and `doctor`: what is installed, and what is wrong with it."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any

import typer
from importlib_metadata import Distribution, PackageNotFoundError
from msgspec.structs import replace
from packaging.requirements import InvalidRequirement, Requirement

from connector_core.cli.app import exit_code
from connector_core.cli.listing import Listing
from connector_core.cli.loading import find_plugins, load_to_look
from connector_core.cli.options import CHOICE, AsJson, given_settings, takes_settings
from connector_core.cli.report import Served, print_list, print_plugins
from connector_core.description import PluginIdentity
from connector_core.errors import ConflictError, PluginLoadError, SettingsError, SetupError
from connector_core.plugins import (
    FailedPlugin,
    PluginLoadResult,
    PluginSource,
    build_registry,
    check_required,
    declared_risks,
    refuse_shared_names,
)
from connector_core.settings import Settings


@takes_settings(*CHOICE)
def list_plugins(as_json: AsJson = False, **given: Any) -> int:
    """List the plugins that a host started here would serve, with what each brings.

    The exit code is the one with which `serve` would end: 3 where a required plugin fails to load, 1 where two clash.
    """
    return show_list(given_settings(given), as_json=as_json)


@takes_settings(*CHOICE)
def doctor(
    plugin: Annotated[str | None, typer.Argument(metavar="PLUGIN", help="Only this plugin.")] = None,
    bridge: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Say of each connector that this bridge found how it is served."),
    ] = None,
    # What `--bridge` was before it took a name.
    flytekit: Annotated[bool, typer.Option("--flytekit", hidden=True)] = False,
    flyte: Annotated[bool, typer.Option("--flyte", hidden=True)] = False,
    as_json: AsJson = False,
    **given: Any,
) -> int:
    """Examine every installed plugin: what it brings, how long it takes, what fails and where, what clashes.

    The exit code is 1 when something is wrong.
    """
    settings = given_settings(given)
    bridge = bridge or ("flytekit" if flytekit else "flyte" if flyte else None)
    if bridge is not None:
        return show_bridged(settings, bridge, as_json=as_json)
    return show_examination(settings, plugin, as_json=as_json)


def show_list(settings: Settings, *, as_json: bool) -> int:
    """Print the plugins that a host started here would serve, and return the exit code of `serve` with these settings."""
    found = find_plugins(settings)
    conflicts = _shared_names(found.sources)
    with _answers_alone_on_stdout():
        result = load_to_look(found, settings)
    conflicts += _conflicts(result, settings)
    risks = declared_risks(result, settings)
    error = _start_error(found.sources, result, settings)
    if as_json:
        listing = Listing.of(result, risks, conflicts=conflicts, start_error="" if error is None else error.message)
        print(listing.to_json())
    else:
        print_list(result, sys.stdout, _served(result, settings))
        lines = {"risk": risks, "conflict": conflicts, "broken": result.broken, "warning": result.warnings}
        for kind, texts in lines.items():
            for text in texts:
                print(f"{kind}: {text}")
        if isinstance(error, PluginLoadError):
            print(f"required: {error}")
    return 0 if error is None else exit_code(error)


def _start_error(sources: Sequence[PluginSource], result: PluginLoadResult, settings: Settings) -> SetupError | None:
    """Return what keeps a host with these plugins from starting."""
    try:
        refuse_shared_names(sources)
        check_required(result, settings)
        build_registry(result, settings.prefer)
    except SetupError as error:
        return error
    return None


def show_examination(settings: Settings, only: str | None, *, as_json: bool) -> int:
    """Print what each plugin brings and all that is wrong; return 1 if anything is.

    Raises:
        SettingsError: the plugin that is asked for is not there.
    """
    result, problems = _examine(settings, only)
    risks = declared_risks(result, settings)
    if as_json:
        print(Listing.of(result, risks, problems=problems).to_json())
    else:
        _print_examination(result, problems, risks)
    return 1 if problems else 0


def show_bridged(settings: Settings, bridge: str, *, as_json: bool) -> int:
    """Print of each connector that a bridge found whether and how it is served, and what it lacks; as `show_examination`.

    Raises:
        SettingsError: the bridge is not there, or the plugin is not one.
    """
    from connector_core.cli.bridged import bridged_connectors, print_bridged

    found = find_plugins(settings)
    if not any(source.identity.name == bridge for source in found.sources):
        raise SettingsError(f"the plugin {bridge!r} is not installed: pip install connector-plugin-{bridge}")
    with _answers_alone_on_stdout():
        everything = load_to_look(found, settings)
    _refuse_other_plugin(everything, bridge)
    result = everything.select(lambda plugin: bridge in {plugin.name, plugin.bridge})
    problems = [*_failures(result), *_conflicts(everything, settings), *_unmet_requirements(result)]
    risks = declared_risks(result, settings)
    connectors = bridged_connectors(result, _served(everything, settings))
    if as_json:
        print(json.dumps({"connectors": connectors, "problems": problems, "risks": risks}, indent=2))
    else:
        print_bridged(connectors, sys.stdout)
        _print_problems(problems, risks)
    return 1 if problems else 0


def _refuse_other_plugin(result: PluginLoadResult, name: str) -> None:
    bridges = [plugin.identity.name for plugin in result.loaded if plugin.is_bridge]
    if name in {plugin.identity.name for plugin in result.loaded} - {*bridges}:
        raise SettingsError(f"plugin {name!r} is not a bridge; bridges here: {', '.join(bridges) or 'none'}")


def _served(result: PluginLoadResult, settings: Settings) -> Served | None:
    """Return what is served, by the connector's identity; `None` where conflicts keep the host from serving anything."""
    try:
        return {connector.origin: connector for connector in build_registry(result, settings.prefer)}
    except ConflictError:
        return None


def _examine(settings: Settings, only: str | None) -> tuple[PluginLoadResult, list[str]]:
    found = find_plugins(settings)
    if only is not None:
        found = replace(found, sources=tuple(_sources_of(only, found.sources)))
    problems = _shared_names(found.sources)
    with _answers_alone_on_stdout():
        result = load_to_look(found, settings)
    if only is not None:
        result = result.select(lambda plugin: only in {plugin.name, plugin.bridge})
        if not any(result.by_state.values()):
            raise SettingsError(f"there is no plugin {only!r} among those of {only.split('/')[0]!r}")
    problems += [*_failures(result), *_conflicts(result, settings), *_unmet_requirements(result)]
    return result, problems if only is not None else [*problems, *map(str, result.broken), *result.warnings]


def _shared_names(sources: Sequence[PluginSource]) -> list[str]:
    try:
        refuse_shared_names(sources)
    except ConflictError as error:
        return str(error).splitlines()
    return []


@contextmanager
def _answers_alone_on_stdout() -> Iterator[None]:
    """Let what plugins print while they are loaded go to stderr, be it from C: programs read our stdout."""
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(ours, 1)
        os.close(ours)


def _sources_of(only: str, sources: Sequence[PluginSource]) -> list[PluginSource]:
    """Return what has to be loaded to see one plugin: its bridge, for a bridged one; all, for a module that may need any."""
    wanted = [one for one in sources if only == one.identity.name or only.startswith(f"{one.identity.name}/")]
    if not wanted:
        names = [source.identity.name for source in sources]
        raise SettingsError(f"there is no plugin {only!r}; installed are {', '.join(names) or 'none'}")
    return list(sources) if any(source.is_module for source in wanted) else wanted


def _print_examination(result: PluginLoadResult, problems: list[str], risks: list[str]) -> None:
    print_plugins(result, sys.stdout)
    for failed in result.failed:
        print(f"\n--- {failed.identity.name}: traceback ---\n{failed.traceback.rstrip()}")
    _print_problems(problems, risks)


def _print_problems(problems: list[str], risks: list[str]) -> None:
    print()
    for risk in risks:
        print(f"risk: {risk}")
    if not problems:
        print("Nothing is wrong.")
        return
    print(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}:")
    for problem in problems:
        print(f"- {problem}")


def _failures(result: PluginLoadResult) -> Iterator[str]:
    for failed in result.failed:
        yield f"plugin {failed.identity.name!r} failed to load: {_first_line(failed)}"


def _conflicts(result: PluginLoadResult, settings: Settings) -> list[str]:
    try:
        build_registry(result, settings.prefer)
    except ConflictError as error:
        return str(error).splitlines()
    return []


def _unmet_requirements(result: PluginLoadResult) -> Iterator[str]:
    identities = [plugin.identity for plugins in result.by_state.values() for plugin in plugins]
    for identity in {identity.distribution: identity for identity in identities}.values():
        yield from _clashes(identity)


def _first_line(failed: FailedPlugin) -> str:
    return failed.reason.splitlines()[0] if failed.reason else "no reason given"


def _clashes(plugin: PluginIdentity) -> Iterator[str]:
    """Say which of a distribution's requirements the installed versions do not meet."""
    if plugin.distribution is None:
        return
    try:
        requirements = Distribution.from_name(plugin.distribution).requires or ()
    except Exception:  # noqa: BLE001 - it is broken, which is a problem of its own
        return
    for text in requirements:
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
    except Exception as error:  # noqa: BLE001 - its metadata may be damaged in any way
        return f"whose installed version cannot be read: {type(error).__name__}: {error}"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"but {version} is installed"
