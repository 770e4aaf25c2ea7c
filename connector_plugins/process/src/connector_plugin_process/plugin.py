"""Runs the commands that the operator allows, by `allow = ["/bin/echo"]` in the section `[plugins.process]`."""

from collections.abc import Mapping, Sequence
from typing import Any

from connector_core import hookimpl
from connector_plugin_process.config import read_config
from connector_plugin_process.connector import ProcessConnector


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[ProcessConnector]:
    """Bring the process connector, or none while no executable is allowed: running commands for callers is a decision."""
    settings = read_config(config)
    return [ProcessConnector(settings)] if settings.allow else []  # the host says so of a plugin that brings nothing
