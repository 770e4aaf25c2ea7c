"""What the HTTP app is made of: values that the server puts together and the app reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from connector_core.http.calls import ServedCalls
from connector_core.settings import Settings


@dataclass(frozen=True, slots=True)
class GatewayOptions:
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


@dataclass(frozen=True, slots=True)
class HttpFace:
    """All that the HTTP app shows and calls.

    Attributes:
        metrics: what `/metrics` shows.
        calls: the servicers, on the loop that serves gRPC.
        not_ready: why this host should get no calls now; it is asked on the loop that serves gRPC.
        gateway: what is served as JSON.
    """

    metrics: CollectorRegistry
    calls: ServedCalls
    not_ready: Callable[[], Sequence[str]]
    gateway: GatewayOptions
