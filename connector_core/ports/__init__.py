"""The host's ports: one object reserves, opens and names a port, whether gRPC or HTTP is served there.

Nothing else binds, resolves or prints an address that the host listens on.
"""

from connector_core.ports.addresses import Address
from connector_core.ports.bounds import connection_bounds
from connector_core.ports.grpc_options import grpc_options
from connector_core.ports.port import Port

__all__ = ["Address", "Port", "connection_bounds", "grpc_options"]
