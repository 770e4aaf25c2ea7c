"""The hooks through which a plugin hands connectors to the host.

A plugin is an installed distribution with an entry point in the group `connector_core.plugins`; the entry point's value is
a module or object that carries functions marked with `@hookimpl`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pluggy

from connector_core.connector import ConnectorBase

PROJECT = "connector_core"
ENTRY_POINT_GROUP = "connector_core.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_connectors(config: Mapping[str, Any]) -> Iterable[ConnectorBase]:  # type: ignore[empty-body]
    """Return the plugin's connectors; `config` is its own section `[plugins.NAME]` of the settings."""
