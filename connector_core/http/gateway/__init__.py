"""The protocol as JSON over HTTP, on the routes that its own `google.api.http` options name."""

from connector_core.http.gateway.gateway import Gateway
from connector_core.http.gateway.openapi import describe
from connector_core.http.gateway.routes import derive_routes

__all__ = ["Gateway", "derive_routes", "describe"]
