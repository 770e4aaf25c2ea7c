"""Runs the commands that the operator allows, by `allow = ["/bin/echo"]` in the section `[plugins.process]`."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from connector_core import hookimpl
from connector_plugin_process.config import read_config
from connector_plugin_process.connector import ProcessConnector

log = logging.getLogger(__name__)


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[ProcessConnector]:
    """Bring the process connector, or none while no executable is allowed: running commands for callers is a decision."""
    settings = read_config(config)
    if not settings.allow:
        log.info(
            "process brings no connector: nothing may run until the settings name executables by absolute path, "
            'such as allow = ["/bin/echo"] in the section [plugins.process]'
        )
        return []
    return [ProcessConnector(settings)]
