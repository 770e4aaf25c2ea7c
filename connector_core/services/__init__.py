"""The gRPC face: decode, look up, invoke, encode."""

from connector_core.services.async_service import AsyncConnectorService
from connector_core.services.health import HealthService
from connector_core.services.metadata_service import ConnectorMetadataService
from connector_core.services.recording import record_connector_metrics
from connector_core.services.sync_service import SyncConnectorService

__all__ = [
    "AsyncConnectorService",
    "ConnectorMetadataService",
    "HealthService",
    "SyncConnectorService",
    "record_connector_metrics",
]
