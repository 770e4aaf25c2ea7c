"""The arguments of gRPC's server that the settings come to."""

from connector_core.settings import Settings

_MAX_PENDING = 100_000
_INT32_MAX = 2**31 - 1


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
