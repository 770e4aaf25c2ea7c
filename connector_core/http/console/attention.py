"""The problems that need somebody's attention, which stand first on the page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from connector_core.http.console import wording
from connector_core.http.console.host_load import HostLoad
from connector_core.http.face import ConsoleSource
from connector_core.observing.observer import ConnectorKey, Window
from connector_core.readiness import HostState

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
        failed, calls = window.total_failed, window.total
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
