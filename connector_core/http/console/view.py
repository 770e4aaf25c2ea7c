"""The values that the page shows: read once, drawn for everybody who looks."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connector_core.description import ConnectorDescription, PluginIdentity
from connector_core.http.console import wording
from connector_core.http.console.attention import Problem, problems
from connector_core.http.console.host_load import HostLoad
from connector_core.http.face import ConsoleSource
from connector_core.metrics import NO_TASK_TYPE, Metrics
from connector_core.observing.observer import SlottedCounts, Window
from connector_core.plugins import FailedPlugin, FoundPlugin, LoadedPlugin, SkippedPlugin
from connector_core.readiness import HostState
from connector_core.settings import Settings


@dataclass(frozen=True, slots=True)
class PluginRow:
    """A plugin, whatever became of it."""

    identity: PluginIdentity
    state: str
    connectors: Sequence[str] = ()
    seconds: float | None = None
    reason: Sequence[str] = ()
    note: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class ConnectorRow:
    """A connector, and how it does."""

    name: str
    plugin: PluginIdentity
    is_sync: bool
    categories: Sequence[str]
    window: Window
    in_flight: int
    busy: int
    waiting: int
    abandoned: int
    not_started: Sequence[str]


@dataclass(frozen=True, slots=True)
class View:
    """The page but for the recent calls."""

    status: tuple[str, str]
    problems: Sequence[Problem]
    window: Window
    in_flight: int
    loops: Sequence[tuple[str, float]]
    stall_seconds: float
    busy: int
    waiting: int
    threads: int
    memory: int | None
    uptime: float
    started_at: float
    since_listed: float | None
    connectors: Sequence[ConnectorRow]
    plugins: Sequence[PluginRow]
    warnings: Sequence[str]


def view_of(source: ConsoleSource, settings: Settings, metrics: Metrics, state: HostState | None) -> View:
    """Put together what is shown now; `state` is `None` while the loop that serves gRPC does not answer."""
    now = time.time()
    not_started = state.not_started if state is not None else {}
    load, listed_at = HostLoad.of(metrics), source.observer.listed_at
    connectors = [
        _connector_row(source, entry, load, not_started)
        for entry in sorted(source.registry, key=lambda entry: (entry.plugin.name, entry.name))
    ]
    return View(
        status=_status(state),
        problems=problems(
            source, load, state, {(row.plugin.name, row.name): row.window for row in connectors}, settings.stall_seconds
        ),
        window=source.observer.until(now),
        in_flight=sum(number for task_type, number in load.in_flight.items() if task_type != NO_TASK_TYPE),
        loops=sorted(load.lag.items(), key=lambda loop: (-loop[1], loop[0] != "serving", loop[0])),
        stall_seconds=settings.stall_seconds,
        busy=sum(load.busy.values()),
        waiting=sum(load.waiting.values()),
        threads=load.threads,
        memory=load.memory,
        uptime=now - source.started_at,
        started_at=source.started_at,
        since_listed=now - listed_at if listed_at is not None else None,
        connectors=connectors,
        plugins=[_plugin_row(plugin, source.scrub) for plugin in _problems_first(source)],
        warnings=source.plugins.warnings,
    )


def _status(state: HostState | None) -> tuple[str, str]:
    if state is None:
        return "bad", "Stuck"
    if state.is_draining:
        return "warn", "Draining"
    return ("bad", "Not ready") if state.reasons_not_ready else ("ok", "Ready")


def _connector_row(
    source: ConsoleSource,
    entry: ConnectorDescription,
    load: HostLoad,
    not_started: Mapping[tuple[str, str], str],
) -> ConnectorRow:
    key = (entry.plugin.name, entry.name)
    task_types = {category.name for category in entry.categories}
    return ConnectorRow(
        name=entry.name,
        plugin=entry.plugin,
        is_sync=entry.is_sync,
        categories=[str(category) for category in entry.categories],
        window=source.observer.by_connector.get(key, SlottedCounts()).until(time.time()),
        in_flight=sum(load.in_flight.get(task_type, 0) for task_type in task_types),
        busy=load.busy.get(key, 0),
        waiting=load.waiting.get(key, 0),
        abandoned=load.abandoned.get(key, 0),
        not_started=wording.foreign(not_started[key], source.scrub) if key in not_started else (),
    )


def _problems_first(source: ConsoleSource) -> Sequence[FoundPlugin]:
    return [*source.plugins.failed, *source.plugins.loaded, *source.plugins.skipped]


def _plugin_row(plugin: FoundPlugin, scrub: wording.Scrub) -> PluginRow:
    command = wording.doctor_command(plugin.identity)
    match plugin:
        case LoadedPlugin():
            note = "" if plugin.connectors else " ".join(wording.foreign(plugin.summary.split("\n\n", 1)[0], scrub))
            names = [connector.name for connector in plugin.descriptions]
            return PluginRow(plugin.identity, "loaded", names, plugin.seconds, note=note)
        case FailedPlugin():
            reason = wording.foreign(plugin.reason, scrub) or ["no reason given"]
            return PluginRow(plugin.identity, "failed", (), plugin.seconds, reason, command=command)
        case SkippedPlugin():
            return PluginRow(plugin.identity, "skipped", note=plugin.reason)
    raise AssertionError(f"a plugin is in no known state: {plugin}")
