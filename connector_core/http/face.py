"""The parts of the HTTP app: values that the server puts together and the app reads."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from google.protobuf.descriptor import ServiceDescriptor

from connector_core.http.servicer_calls import ServedCalls
from connector_core.metrics import Metrics
from connector_core.observing.observer import Observer
from connector_core.observing.recent_calls import RecentCalls
from connector_core.plugins import PluginLoadResult
from connector_core.readiness import HostState
from connector_core.registry import ConnectorRegistry
from connector_core.settings import Settings


class ConsoleSource(msgspec.Struct, frozen=True):
    """The sources of what the console shows.

    Attributes:
        plugins: what became of the plugins.
        registry: what is served.
        observer: knows how many calls have ended, and when.
        recent: the last calls that have ended.
        scrub: takes secrets out of what a plugin's code said.
        started_at: when the host was started, in seconds since the epoch.
    """

    plugins: PluginLoadResult
    registry: ConnectorRegistry
    observer: Observer
    recent: RecentCalls
    scrub: Callable[[str], str]
    started_at: float


class HttpFace(msgspec.Struct, frozen=True):
    """All that the HTTP app shows and calls.

    Attributes:
        settings: the host's; they say what is served as JSON, and which names callers may use.
        tokens: what a caller of the routes that run tasks has to bring, one of them.
        metrics: what `/metrics` shows.
        services: returns the protocol's services, of each generation that is served.
        calls: the servicers, on the loop that serves gRPC.
        state: returns the host's state; called on the loop that serves gRPC.
        console: what the console shows; `None` where there is none.
        stopping: is set, in the thread that serves HTTP, when the port closes.
    """

    settings: Settings
    tokens: tuple[bytes, ...]
    metrics: Metrics
    services: Callable[[], Sequence[ServiceDescriptor]]
    calls: ServedCalls
    state: Callable[[], HostState]
    console: ConsoleSource | None
    stopping: asyncio.Event
