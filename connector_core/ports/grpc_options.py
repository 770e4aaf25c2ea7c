"""The arguments of gRPC's server that the settings come to."""

from connector_core.ports.bounds import connection_bounds
from connector_core.settings import Settings

_MAX_PENDING = 100_000
_HANDSHAKE_MS = 10_000
_INT32_MAX = 2**31 - 1
_LONGEST_ANSWER = 60.0
"""Seconds in which a client has to answer a ping."""


def grpc_options(settings: Settings) -> list[tuple[str, int]]:
    """Return the arguments of gRPC's server."""
    return [
        *_connection_age(settings),
        *_keepalive(settings),
        ("grpc.so_reuseport", 0),  # a second host on the port must fail, not share the traffic in silence
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_concurrent_streams", min(settings.max_concurrent_streams, _INT32_MAX)),
        # Connections that do not even begin to speak HTTP/2 would keep their descriptors for two minutes.
        ("grpc.max_allowed_incoming_connections", connection_bounds().grpc),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
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


def _keepalive(settings: Settings) -> list[tuple[str, int]]:
    """A peer that vanished silently would keep its streams' places until TCP gives up, which takes two hours."""
    seconds = settings.keepalive_seconds
    if not seconds:
        return []
    answer = int(min(seconds, _LONGEST_ANSWER) * 1000)
    return [
        ("grpc.keepalive_time_ms", min(int(seconds * 1000), _INT32_MAX)),
        ("grpc.keepalive_timeout_ms", answer),
        ("grpc.http2.ping_timeout_ms", answer),
        # Core stops after two pings on connections where no data goes out, which are those that this is for.
        ("grpc.http2.max_pings_without_data", 0),
    ]
