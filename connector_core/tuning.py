"""What the settings come to for the server: its loops, what calls may take, gRPC's own arguments."""

import asyncio
import math
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from connector_core.errors import SettingsError
from connector_core.invocation import CallLimits
from connector_core.registry import RegisteredConnector
from connector_core.settings import Settings, section
from connector_core.tables import Table

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_MAX_PENDING = 100_000
_INT32_MAX = 2**31 - 1


def loop_factory(choice: str) -> LoopFactory:
    """Return what makes event loops: uvloop's where it is asked for, or installed and `auto`; asyncio's otherwise."""
    if choice != "asyncio":
        try:
            import uvloop
        except ImportError:
            if choice == "uvloop":
                raise SettingsError("loop is uvloop, which is not installed here: pip install uvloop") from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


def limits_of(settings: Settings, connector: RegisteredConnector, plugins: Collection[str] = ()) -> CallLimits:
    """Return what a connector's calls may take.

    The operator's section for the connector goes before the one for its plugin, that before the author's `deadlines`, and
    those before the general settings.

    Args:
        settings: the host's.
        connector: the connector.
        plugins: the names of all plugins.
    """
    plugin = connector.plugin.name
    names = (f"{plugin}/{connector.name}", plugin, connector.plugin.bridge)
    sections = [section(settings.limits, name, plugins) for name in names if name is not None]
    own = [_given(one) for one in sections if one is not None]
    deadlines = {**_given(settings.deadlines), **connector.deadlines}
    for chosen in reversed(own):
        deadlines |= chosen.pop("deadlines")
    limits: dict[str, Any] = {name: getattr(settings, name) for name in ("workers", "queue", "in_flight")}
    limits["wait"] = math.inf if settings.wait is None else settings.wait
    for chosen in reversed(own):
        limits |= chosen
    return CallLimits(deadlines=deadlines, in_place=plugin in settings.in_place, **limits)


def _given(table: Table) -> dict[str, Any]:
    """Return what a table of settings sets."""
    fields = msgspec.structs.asdict(table)
    return {name: _given(one) if isinstance(one, Table) else one for name, one in fields.items() if one is not None}


def grpc_options(settings: Settings) -> list[tuple[str, int]]:
    """Return the arguments of gRPC's server."""
    return [
        *_connection_age(settings),
        ("grpc.so_reuseport", 0),  # a second host on the port must fail, not share the traffic in silence
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        # The engine pings every 30 s while calls are active, grpc-go every 10 s at the most; gRPC's default allows a ping in
        # 5 minutes, and counts one that comes a millisecond early.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # gRPC's own bounds (1,000, and 3,000 for sure) answer a burst of polls CANCELLED, which counts against tasks for
        # ever. What a host takes is bounded for each connector instead.
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
    ]


def _connection_age(settings: Settings) -> list[tuple[str, int]]:
    """Clients ask DNS again when a connection ends, and only then; how long calls may go on is left to their deadlines."""
    age = settings.max_connection_age
    return [("grpc.max_connection_age_ms", min(int(age * 1000), _INT32_MAX))] if age else []
