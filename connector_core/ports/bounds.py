"""Bounds of connections: how many each port takes, so that neither leaves the other, or the host, without descriptors."""

import resource
from typing import NamedTuple

_MANY = 65_536
"""Descriptors that are shared out where the limit is higher, or where there is none."""


class ConnectionBounds(NamedTuple):
    """The most connections of each port."""

    grpc: int
    http: int


def connection_bounds() -> ConnectionBounds:
    """Return them: half of the process' descriptors for gRPC, an eighth for HTTP, the rest for files and plugins' own."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = _MANY if limit == resource.RLIM_INFINITY else min(limit, _MANY)
    return ConnectionBounds(grpc=max(descriptors // 2, 8), http=max(descriptors // 8, 4))
