"""The entry point's module: the hook that brings the connector."""

from collections.abc import Sequence

from connector_core import hookimpl
from connector_plugin_sleep.connector import SleepConnector


@hookimpl
def register_connectors() -> Sequence[SleepConnector]:
    """Bring the sleep connector."""
    return [SleepConnector()]
