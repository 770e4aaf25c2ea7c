"""The values that the page shows: read once, drawn for everybody who looks."""

import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from connector_core.description import ConnectorDescription, PluginIdentity
from connector_core.http.console import wording
from connector_core.http.face import ConsoleSource
from connector_core.metrics import NO_TASK_TYPE, Gauge, Metrics
from connector_core.observing.observer import ConnectorKey, SlottedCounts, Window
from connector_core.plugins import FailedPlugin, FoundPlugin, LoadedPlugin, SkippedPlugin
from connector_core.readiness import HostState
from connector_core.settings import Settings

_MEMORY = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class HostLoad:
    """The load at one moment.

    Attributes:
        in_flight: calls being worked on, by task type.
        lag: how late each event loop is, in seconds.
        busy: threads that run a connector's blocking code, by the names of plugin and connector.
        waiting: calls that wait for one of these, the same.
        abandoned: plugin calls that run on although their request has ended, the same.
        threads: threads of this process that Python knows.
        memory: bytes that are resident; `None` where the system does not say.
    """

    in_flight: Mapping[str, int]
    lag: Mapping[str, float]
    busy: Mapping[ConnectorKey, int]
    waiting: Mapping[ConnectorKey, int]
    abandoned: Mapping[ConnectorKey, int]
    threads: int
    memory: int | None

    @classmethod
    def of(cls, metrics: Metrics) -> "HostLoad":
        """Read it now; any thread may."""
        in_flight: dict[str, int] = {}
        for key, tally in metrics.requests.items():
            in_flight[key.task_type] = in_flight.get(key.task_type, 0) + tally.in_flight
        return cls(
            in_flight=in_flight,
            lag={loop: seconds for (loop,), seconds in metrics.loop_lag.values().items()},
            busy=_by_connector(metrics.pool_busy),
            waiting=_by_connector(metrics.pool_waiting),
            abandoned=_by_connector(metrics.abandoned),
            threads=threading.active_count(),
            memory=_resident_bytes(),
        )


def _by_connector(gauge: Gauge) -> dict[ConnectorKey, int]:
    return {(plugin, connector): int(number) for (plugin, connector), number in gauge.values().items()}


def _resident_bytes() -> int | None:
    try:
        return int(_MEMORY.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None


_NOTABLE_SHARE = 0.05
_NOTABLE_CALLS = 3
"""One call that failed is not news, and neither is one in a hundred."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that somebody should look at.

    Attributes:
        kind: `bad`, where calls fail, or `warn`.
        title: what it is.
        detail: more about it, in a line.
        target: the part of the page that has all of it.
        command: what to run, if that helps.
    """

    kind: str
    title: str
    detail: str = ""
    target: str = ""
    command: str = ""


def problems(
    source: ConsoleSource,
    load: HostLoad,
    state: HostState | None,
    windows: Mapping[ConnectorKey, Window],
    stall_seconds: float,
) -> list[Problem]:
    """Return what is wrong now, the worst first."""
    found = [*_of_the_host(state, source.scrub), *_of_plugins(source), *_of_connectors(state, source.scrub)]
    found += _of_calls(windows)
    found += [*_of_loops(load, stall_seconds), *_of_threads(load)]
    return sorted(found, key=lambda problem: problem.kind != "bad")


def _of_the_host(state: HostState | None, scrub: wording.Scrub) -> Iterator[Problem]:
    if state is None:
        yield Problem("bad", "The event loop that serves gRPC is blocked", "the log names what blocks it")
    elif state.is_draining:
        yield Problem("warn", "The host was asked to stop", "it takes no new calls and lets those in flight finish")
    elif state.reasons_not_ready:
        yield Problem(
            "bad",
            "The host is not ready: it gets no calls",
            wording.first_line(state.reasons_not_ready[0], scrub),
            "plugins",
        )


def _of_plugins(source: ConsoleSource) -> Iterator[Problem]:
    for plugin in source.plugins.failed:
        name, command = plugin.identity.name, wording.doctor_command(plugin.identity)
        yield Problem(
            "bad", f"Plugin {name} failed to load", wording.first_line(plugin.reason, source.scrub), "plugins", command
        )
    for warning in source.plugins.warnings:
        yield Problem("warn", "The settings name what is not there", wording.first_line(warning, source.scrub))


def _of_connectors(state: HostState | None, scrub: wording.Scrub) -> Iterator[Problem]:
    for (plugin, name), reason in (state.not_started if state is not None else {}).items():
        yield Problem(
            "bad",
            f"Connector {name} of plugin {plugin} has not started",
            wording.first_line(reason, scrub),
            "connectors",
        )


def _of_calls(windows: Mapping[ConnectorKey, Window]) -> Iterator[Problem]:
    for (plugin, name), window in windows.items():
        # Many mistakes of callers must not hide that all their other calls fail.
        failed, calls = window.total_failed, window.total - window.total_callers
        if failed >= _NOTABLE_CALLS and failed >= calls * _NOTABLE_SHARE:
            yield Problem(
                "bad",
                f"{wording.share(failed, calls)} of the calls of connector {name} failed",
                f"{failed:,} of {calls:,} in 5 minutes, plugin {plugin}",
                "calls",
            )


def _of_loops(load: HostLoad, stall_seconds: float) -> Iterator[Problem]:
    for loop, lag in load.lag.items():
        if lag >= stall_seconds:
            yield Problem(
                "warn",
                f"The event loop of {loop} is blocked: no response for {wording.duration(lag)}",
                "code there runs without an `await`; the log has its stack",
            )


def _of_threads(load: HostLoad) -> Iterator[Problem]:
    for (plugin, name), waiting in load.waiting.items():
        if waiting:
            yield Problem(
                "warn",
                f"{waiting:,} calls of connector {name} wait for a thread",
                f"all of its threads are busy (setting: workers), plugin {plugin}",
                "connectors",
            )
    for (plugin, name), abandoned in load.abandoned.items():
        if abandoned:
            yield Problem(
                "warn",
                f"{abandoned:,} calls of connector {name} run on although nobody waits for them",
                f"they outlived their deadline and keep their threads, plugin {plugin}",
                "connectors",
            )


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
