"""`connector-host doctor --bridge NAME`: of each connector that a bridge found, whether and how it is served."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from connector_core.cli.drawing import print_table
from connector_core.cli.report import Served
from connector_core.description import ConnectorDescription, PluginIdentity
from connector_core.plugins import LoadedPlugin, PluginLoadResult

_OPTIONAL = {"get_logs": "logs", "get_metrics": "metrics"}
_HEADINGS = ("plugin", "distribution", "connector", "task types", "kind", "code", "lacks", "risk", "bridged")


def bridged_connectors(result: PluginLoadResult, served: Served | None) -> list[dict[str, Any]]:
    """Describe each connector, and each plugin that brings none, as JSON has it."""
    described = [one for plugin in result.loaded if plugin.identity.bridge for one in _of_plugin(plugin, served)]
    described += [
        {**_origin(failed.identity), "bridged": False, "reason": failed.reason, "traceback": failed.traceback}
        for failed in result.failed
    ]
    described += [
        {**_origin(skipped.identity), "bridged": False, "reason": skipped.reason} for skipped in result.skipped
    ]
    return described


def print_bridged(connectors: Sequence[Mapping[str, Any]], out: TextIO) -> None:
    """Print a table of them, and what holds for all."""
    print_table(out, _HEADINGS, [_row(one) for one in connectors])
    print(
        "\nOf no bridged connector it is known whether its delete() may come twice, which the engine's may.", file=out
    )


def _of_plugin(plugin: LoadedPlugin, served: Served | None) -> Iterator[dict[str, Any]]:
    if not plugin.connectors:
        yield {**_origin(plugin.identity), "bridged": False, "reason": plugin.summary or "it registers no connector"}
    for entry in plugin.descriptions:
        yield {**_origin(plugin.identity), **_described(entry), **_whether_bridged(entry, served)}


def _origin(identity: PluginIdentity) -> dict[str, Any]:
    return {"plugin": identity.name, "distribution": identity.distribution, "version": identity.version}


def _described(entry: ConnectorDescription) -> dict[str, Any]:
    described: dict[str, Any] = {
        "connector": entry.name,
        "class": entry.implementation.replace(":", "."),
        "task_types": [str(category) for category in entry.categories],
        "kind": entry.side,
        "methods": {name: kind.value for name, kind in entry.operations.items()},
        "lacks": [],
        "risk": entry.risk,
    }
    if not entry.is_sync:
        described["lacks"] = [what for name, what in _OPTIONAL.items() if name not in entry.operations]
        described["metadata_risk"] = entry.metadata_risk
        described["delete_is_idempotent"] = "unknown"
    return described


def _whether_bridged(entry: ConnectorDescription, served: Served | None) -> dict[str, Any]:
    if served is None:
        return {"bridged": False, "reason": "conflicts keep the host from starting"}
    if (kept := served.get(entry.origin)) is None:
        return {"bridged": False, "reason": "another plugin is preferred"}
    lost = [str(category) for category in entry.categories if category not in kept.categories]
    reasons = [f"another plugin is preferred for {', '.join(lost)}"] if lost else []
    if kept.name != entry.name:
        reasons.append(f"another plugin keeps the name, and this one is called {kept.name!r}")
    return {"bridged": True, "reason": "; ".join(reasons)}


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    methods = one.get("methods", {})
    kinds = sorted(set(methods.values()))
    code = kinds[0] if len(kinds) == 1 else ", ".join(f"{name} {kind}" for name, kind in methods.items())
    origin = f"{one['distribution']} {one['version']}" if one["distribution"] else "-"
    bridged = "yes" if one["bridged"] else "no"
    return (
        one["plugin"],
        origin,
        one.get("connector", "-"),
        ", ".join(one.get("task_types", ())) or "-",
        one.get("kind", "-"),
        code or "-",
        ", ".join(one.get("lacks", ())) or "-",
        ", ".join(filter(None, (one.get("risk"), one.get("metadata_risk")))) or "-",
        f"{bridged}: {one['reason'].splitlines()[0]}" if one["reason"] else bridged,
    )
