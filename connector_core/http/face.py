"""What the HTTP app is made of: values that the server puts together and the app reads."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec
from google.protobuf.descriptor import ServiceDescriptor

from connector_core.http.calls import ServedCalls
from connector_core.http.console.observer import Observer
from connector_core.http.recent import RecentCalls
from connector_core.metrics import Metrics
from connector_core.plugins import PluginLoadResult
from connector_core.registry import ConnectorRegistry
from connector_core.settings import Settings


class GatewayOptions(msgspec.Struct, frozen=True):
    """What of the protocol is served as JSON, and to whom.

    Attributes:
        with_tasks: whether jobs can be started, read and cancelled, and not only connectors be listed.
        tokens: what a caller of these routes has to bring, one of them.
        hosts: names and addresses that may stand in the `Host` header of such a call, besides the address that was called.
        max_body_bytes: the largest body that is read.
    """

    with_tasks: bool
    tokens: tuple[bytes, ...]
    hosts: frozenset[str]
    max_body_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "GatewayOptions":
        """Return what the settings say.

        Raises:
            SettingsError: tasks are to be served, but not to whom.
        """
        hosts = frozenset({settings.host, *settings.gateway_hosts})
        return cls(settings.gateway == "tasks", settings.gateway_tokens(), hosts, settings.max_request_bytes)


class HostState(msgspec.Struct, frozen=True):
    """How the host is, read on the loop that serves gRPC.

    Attributes:
        reasons_not_ready: why it should get no calls now.
        not_started: why connectors have not started (yet), by plugin and name of the connector.
        is_draining: whether it was asked to stop.
    """

    reasons_not_ready: Sequence[str]
    not_started: Mapping[tuple[str, str], str]
    is_draining: bool


class ConsoleSource(msgspec.Struct, frozen=True):
    """What the console shows.

    Attributes:
        plugins: what became of the plugins.
        registry: what is served.
        observer: knows how many calls have ended, and when.
        recent: the last calls that have ended.
        state: how the host is; it is asked on the loop that serves gRPC.
        scrub: takes secrets out of what a plugin's code said.
        hosts: names that may stand in the `Host` header; addresses may in any case.
        stall_seconds: from when on a loop counts as late.
        started_at: when the host was started, in seconds since the epoch.
    """

    plugins: PluginLoadResult
    registry: ConnectorRegistry
    observer: Observer
    recent: RecentCalls
    state: Callable[[], HostState]
    scrub: Callable[[str], str]
    hosts: frozenset[str]
    stall_seconds: float
    started_at: float


class HttpFace(msgspec.Struct, frozen=True):
    """All that the HTTP app shows and calls.

    Attributes:
        metrics: what `/metrics` shows.
        services: returns the protocol's services, of each generation that is served.
        calls: the servicers, on the loop that serves gRPC.
        not_ready: why this host should get no calls now; it is asked on the loop that serves gRPC.
        gateway: what is served as JSON.
        console: what the console shows; `None` where there is none.
        stopping: is set, in the thread that serves HTTP, when the port closes.
    """

    metrics: Metrics
    services: Callable[[], Sequence[ServiceDescriptor]]
    calls: ServedCalls
    not_ready: Callable[[], Sequence[str]]
    gateway: GatewayOptions
    console: ConsoleSource | None
    stopping: asyncio.Event
