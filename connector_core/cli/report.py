"""Tables of plugins for people, and the lines below them."""

from collections.abc import Iterable, Mapping
from typing import TextIO

from connector_core.cli.drawing import print_line, print_table
from connector_core.description import ConnectorDescription, PluginIdentity
from connector_core.errors import ConnectorError
from connector_core.plugins import FoundPlugin, LoadedPlugin, PluginLoadResult, SkippedPlugin
from connector_core.ports import Port
from connector_core.registry import ConnectorRegistry

Served = Mapping[tuple[str, str], ConnectorDescription]
"""A registry's connectors, by origin."""

HEADINGS = ("plugin", "version", "connector", "task types", "kind", "load ms")
LIST_HEADINGS = ("plugin", "distribution", "version", "state", "connector", "task types", "kind")

_STYLES = {"loaded": "green", "FAILED": "bold red", "skipped": "dim"}
NO_CONNECTOR = "No plugin brings a connector: install one, such as connector-plugin-sleep."
_UNBROKEN = ("version", "state", "kind", "load ms")


def print_serving(
    result: PluginLoadResult,
    registry: ConnectorRegistry,
    not_started: Mapping[ConnectorDescription, ConnectorError],
    out: TextIO,
) -> None:
    """Print what is served, then briefly what is not and why; `print_list` has more of it."""
    _print_connectors(result, out, {connector.origin: connector for connector in registry})
    print_locations(result, out)
    if idle := [plugin.identity.name for plugin in _without_connectors(result)]:
        print_line(out, f"without a connector: {', '.join(idle)} (connector-host list says what they need)", "dim")
    skipped: dict[str, list[str]] = {}
    for plugin in result.skipped:
        skipped.setdefault(plugin.reason, []).append(plugin.identity.name)
    for reason, names in skipped.items():
        print_line(out, f"skipped: {', '.join(names)}: {reason}", "dim")
    print_failures(result, not_started, out)


def print_failures(
    result: PluginLoadResult, not_started: Mapping[ConnectorDescription, ConnectorError], out: TextIO
) -> None:
    """Print what is not served, though it should be, and why."""
    _print_failed_plugins(result, out)
    for connector, error in not_started.items():
        print_line(
            out, f"connector {connector.name} of plugin {connector.plugin.name} has not started: {error}", "yellow"
        )


def reach_of(port: Port) -> str:
    """Say where a port is, and who can reach it."""
    if port.is_local:
        return f"{port}: open to this machine alone (--host 0.0.0.0 opens it to the network)"
    return f"{port}: open to everyone who reaches this address, without authentication or encryption"


def print_plugins(result: PluginLoadResult, out: TextIO, served: Served | None = None) -> None:
    """Print a table of the connectors, then a line for each plugin that brings none, was skipped or failed."""
    _print_connectors(result, out, served)
    _print_remarks(result, out)


def _print_connectors(result: PluginLoadResult, out: TextIO, served: Served | None) -> None:
    rows = [row for plugin in result.loaded for row in _rows(plugin, served)]
    if rows:
        print_table(out, HEADINGS, rows, unbroken=_UNBROKEN)
    elif not result.failed:
        print_line(out, NO_CONNECTOR, "yellow")


def print_list(result: PluginLoadResult, out: TextIO, served: Served | None) -> None:
    """Print a table of all plugins, whatever became of them, then a line for each that needs one.

    Args:
        result: the plugins.
        out: where to print.
        served: the connectors of the registry; none, where plugins clash.
    """
    rows = [row for group in result.by_state.values() for plugin in group for row in _listed(plugin, served)]
    if rows:
        # The task types say what connectors are for.
        print_table(out, LIST_HEADINGS, rows, styles=_STYLES, unbroken=_UNBROKEN, spare=("connector",))
    else:
        print_line(out, NO_CONNECTOR, "yellow")
    _print_remarks(result, out)


def _listed(plugin: FoundPlugin, served: Served | None) -> Iterable[tuple[str, ...]]:
    identity = plugin.identity
    head = (identity.name, identity.distribution or "-", identity.version or "-")
    match plugin:
        case LoadedPlugin(connectors=(_, *_)):
            for _name, _version, *what, _milliseconds in _rows(plugin, served):
                yield (*head, "loaded", *what)
        case LoadedPlugin():
            yield (*head, "loaded", "-", "-", "-")
        case SkippedPlugin():
            yield (*head, "skipped", "-", "-", "-")
        case _:
            yield (*head, "FAILED", "-", "-", "-")


def _print_remarks(result: PluginLoadResult, out: TextIO) -> None:
    print_locations(result, out)
    for plugin in _without_connectors(result):
        summary = _first_paragraph(plugin.summary)
        print_line(out, f"plugin {_title(plugin.identity)} brings no connector. {summary}", "dim")
    for skipped in result.skipped:
        print_line(out, f"plugin {_title(skipped.identity)} is skipped: {skipped.reason}", "dim")
    _print_failed_plugins(result, out)


def _without_connectors(result: PluginLoadResult) -> Iterable[LoadedPlugin]:
    """Yield the loaded plugins that bring no connector, be it by what they bridge."""
    bridges = {plugin.identity.bridge for plugin in result.loaded if plugin.descriptions}
    return (one for one in result.loaded if not one.descriptions and one.identity.name not in bridges)


def _print_failed_plugins(result: PluginLoadResult, out: TextIO) -> None:
    for failed in result.failed:
        print_line(out, f"plugin {_title(failed.identity)} FAILED to load: {failed.reason}", "bold red")
        print_line(out, f"    for the traceback: {doctor_command(failed.identity)}", "red")


def print_locations(result: PluginLoadResult, out: TextIO) -> None:
    """Print which plugins have processes of their own; nothing where none has."""
    located: dict[str, list[str]] = {}
    for plugin in result.loaded:
        if plugin.location:
            located.setdefault(plugin.location, []).append(plugin.identity.name)
    for location, names in located.items():
        print_line(out, f"location {location} (a process of its own): {', '.join(names)}", "dim")


def _rows(plugin: LoadedPlugin, served: Served | None) -> Iterable[tuple[str, ...]]:
    for connector in plugin.descriptions:
        entry = connector if served is None else served.get(connector.origin)
        yield (
            plugin.identity.name,
            plugin.identity.version or "-",
            entry.name if entry else connector.name,
            ", ".join(map(str, entry.categories)) if entry else "(another plugin is preferred)",
            connector.side,
            f"{plugin.seconds * 1000:.0f}",
        )


def _title(identity: PluginIdentity) -> str:
    return (
        identity.name
        if identity.distribution is None
        else f"{identity.name} ({identity.distribution} {identity.version})"
    )


def doctor_command(identity: PluginIdentity) -> str:
    """Return the command that shows all about a plugin; one of `--modules` is found by that alone."""
    is_module = identity.distribution is None and identity.bridge is None
    return f"connector-host doctor {identity.name}" + (f" --modules {identity.name}" if is_module else "")


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n", 1)[0].split())
