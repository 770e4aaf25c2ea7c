"""The HTTP face: metrics."""

from connector_core.http.metrics_server import MetricsServer

__all__ = ["MetricsServer"]
