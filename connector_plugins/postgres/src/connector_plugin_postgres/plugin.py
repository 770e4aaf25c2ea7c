"""Runs SQL on the databases that the operator names, by `[plugins.postgres.connections.NAME]` with a `dsn`."""

from collections.abc import Mapping, Sequence
from typing import Any

from connector_core import hookimpl
from connector_core.connector import ConnectorBase


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[ConnectorBase]:
    """Bring the connector, or none while no connection is named: running callers' SQL is a decision."""
    from connector_plugin_postgres.config import load_config

    settings = load_config(config)
    if not settings.connections:
        return []  # the host says so of a plugin that brings nothing
    from connector_plugin_postgres.connector import PostgresConnector

    return [PostgresConnector(settings)]
