"""Runs jobs and calls at the endpoints that the operator names, by `[plugins.http.endpoints.NAME]` with a `url`."""

from collections.abc import Mapping, Sequence
from typing import Any

from connector_core import hookimpl
from connector_core.connector import ConnectorBase


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[ConnectorBase]:
    """Bring the connectors of jobs and calls, or none while no endpoint is named: calling URLs for callers is a decision."""
    from connector_plugin_http.config import load_config

    settings = load_config(config)
    if not settings.endpoints:
        return []  # the host says so of a plugin that brings nothing
    # httpx is for hosts that call something.
    from connector_plugin_http.calls import HttpCallConnector, WebhookConnector
    from connector_plugin_http.connector import HttpJobConnector
    from connector_plugin_http.endpoints import Endpoints

    endpoints = Endpoints(settings)
    connectors: list[ConnectorBase] = [HttpJobConnector(settings, endpoints), HttpCallConnector(settings, endpoints)]
    return [*connectors, WebhookConnector(settings, endpoints)] if settings.webhook else connectors
