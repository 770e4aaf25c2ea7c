"""connector-host: the host for Flyte connectors, and what an author needs to write one."""

from connector_core.connection import Connection
from connector_core.connector import AsyncConnectorBase, SyncConnectorBase
from connector_core.errors import (
    BackendUnavailableError,
    ConnectorError,
    InvalidInputError,
    JobNotFoundError,
    PermanentError,
    PermissionDeniedError,
    RateLimitedError,
    TransientError,
)
from connector_core.hookspecs import hookimpl, hookspec
from connector_core.registry import ConnectorRegistry
from connector_core.resource import LinkType, LogLink, LogPage, Phase, Resource
from connector_core.resource_meta import ResourceMeta
from connector_core.secrets import get_secret
from connector_core.task import TaskCategory

__all__ = [
    "AsyncConnectorBase",
    "BackendUnavailableError",
    "Connection",
    "ConnectorError",
    "ConnectorRegistry",
    "InvalidInputError",
    "JobNotFoundError",
    "LinkType",
    "LogLink",
    "LogPage",
    "PermanentError",
    "PermissionDeniedError",
    "Phase",
    "RateLimitedError",
    "Resource",
    "ResourceMeta",
    "SyncConnectorBase",
    "TaskCategory",
    "TransientError",
    "get_secret",
    "hookimpl",
    "hookspec",
]
