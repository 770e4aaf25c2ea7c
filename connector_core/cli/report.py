"""What people read of plugins: tables and the lines below them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from connector_core.description import ConnectorDescription, PluginIdentity
from connector_core.errors import ConnectorError
from connector_core.plugins import FailedPlugin, FoundPlugin, LoadedPlugin, PluginLoadResult, SkippedPlugin
from connector_core.registry import ConnectorRegistry

Served = Mapping[tuple[str, str], ConnectorDescription]
"""What a registry serves, by each connector's origin."""

HEADINGS = ("plugin", "version", "connector", "task types", "kind", "load ms")
LIST_HEADINGS = ("plugin", "distribution", "version", "state", "connector", "task types", "kind")

_STYLES = {"loaded": "green", "FAILED": "bold red", "skipped": "dim"}
NO_CONNECTOR = "No plugin brings a connector: install one, such as connector-plugin-sleep."
_NARROW = 110
"""Columns of a terminal below which a list leaves out the connectors' names: the task types say what they are for."""


def print_serving(
    result: PluginLoadResult,
    registry: ConnectorRegistry,
    not_started: Mapping[ConnectorDescription, ConnectorError],
    out: TextIO,
) -> None:
    """Print what is served, then what is not and why."""
    print_plugins(result, out, served={connector.origin: connector for connector in registry})
    for connector, error in not_started.items():
        _line(out, f"connector {connector.name} of plugin {connector.plugin.name} has not started: {error}", "yellow")


def print_plugins(result: PluginLoadResult, out: TextIO, served: Served | None = None) -> None:
    """Print a table of the connectors, then a line for each plugin that brings none, was skipped or failed."""
    rows = [row for plugin in result.loaded for row in _rows(plugin, served)]
    if rows:
        print_table(out, HEADINGS, rows)
    elif not result.failed:
        _line(out, NO_CONNECTOR, "yellow")
    _print_remarks(result, out)


def print_list(result: PluginLoadResult, out: TextIO, served: Served | None) -> None:
    """Print a table of all plugins, whatever became of them, then a line for each that needs one.

    Args:
        result: the plugins.
        out: where to print.
        served: the connectors of the registry; none, where plugins clash.
    """
    rows = [row for group in result.by_state.values() for plugin in group for row in _listed(plugin, served)]
    if rows:
        print_table(out, LIST_HEADINGS, rows)
    else:
        _line(out, NO_CONNECTOR, "yellow")
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
    for plugin in result.loaded:
        if not plugin.connectors:
            _line(
                out, f"plugin {_title(plugin.identity)} brings no connector. {_first_paragraph(plugin.summary)}", "dim"
            )
    for skipped in result.skipped:
        _line(out, f"plugin {_title(skipped.identity)} is skipped: {skipped.reason}", "dim")
    for failed in result.failed:
        _line(out, f"plugin {_title(failed.identity)} FAILED to load: {failed.reason}", "bold red")
        _line(out, f"    for the traceback: connector-host doctor {_doctor_arguments(failed.identity)}", "red")


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


def as_json(result: PluginLoadResult, **more: Any) -> str:
    """Return everything about the plugins as JSON."""
    described = {
        "plugins": [_described(plugin) for group in result.by_state.values() for plugin in group],
        "warnings": list(result.warnings),
        "broken_distributions": [{"path": broken.path, "reason": broken.reason} for broken in result.broken],
    }
    return json.dumps({**described, **more}, indent=2)


def _described(plugin: FoundPlugin) -> dict[str, Any]:
    identity = plugin.identity
    described: dict[str, Any] = {
        "name": identity.name,
        "distribution": identity.distribution,
        "version": identity.version,
    }
    match plugin:
        case LoadedPlugin():
            connectors = [
                {"name": one.name, "kind": one.side, "task_types": [str(category) for category in one.categories]}
                for one in plugin.descriptions
            ]
            described |= {"state": "loaded", "load_seconds": plugin.seconds, "connectors": connectors}
            if not connectors:
                described["note"] = plugin.summary
        case FailedPlugin():
            described |= {"state": "failed", "load_seconds": plugin.seconds, "reason": plugin.reason}
            described |= {"traceback": plugin.traceback, "connectors": []}
        case SkippedPlugin():
            described |= {"state": "skipped", "reason": plugin.reason, "connectors": []}
    return described


def _title(identity: PluginIdentity) -> str:
    return (
        identity.name
        if identity.distribution is None
        else f"{identity.name} ({identity.distribution} {identity.version})"
    )


def _doctor_arguments(identity: PluginIdentity) -> str:
    is_module = identity.distribution is None
    return f"{identity.name} --modules {identity.name}" if is_module else identity.name


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n", 1)[0].split())


def print_table(out: TextIO, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Draw a table on a terminal, plain aligned columns elsewhere: logs and pipes are read by other programs."""
    if out.isatty():
        _draw(out, headings, rows)
        return
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]
    for row in (headings, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=out)


def _draw(out: TextIO, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out)
    table = Table(box=box.SIMPLE_HEAD)
    is_list = headings == LIST_HEADINGS
    shown = [name for name in headings if not (is_list and console.width < _NARROW and name == "connector")]
    for name in shown:
        table.add_column(name, overflow="fold", no_wrap=name in {"version", "state", "kind", "load ms"})
    for row in rows:
        cells = dict(zip(headings, row, strict=True))
        style = _STYLES.get(cells.get("state", ""), "")
        table.add_row(*(Text(cells[name], style if name == "state" else "") for name in shown))
    console.print(table)


def _line(out: TextIO, text: str, style: str) -> None:
    if out.isatty():
        from rich.console import Console

        Console(file=out, highlight=False).print(text, style=style, markup=False)
    else:
        print(text, file=out)
