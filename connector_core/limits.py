"""The limits of each connector's calls, as the settings and its author have them."""

import math
from collections.abc import Collection
from typing import Any

import msgspec

from connector_core.description import ConnectorDescription
from connector_core.invocation import CallLimits
from connector_core.plugins import refusals
from connector_core.settings import Settings, section
from connector_core.tables import Table


def limits_of(settings: Settings, connector: ConnectorDescription, plugins: Collection[str] = ()) -> CallLimits:
    """Return what a connector's calls may take.

    The operator's section for the connector goes before the one for its plugin, that before the author's `deadlines`, and
    those before the general settings.

    Args:
        settings: the host's.
        connector: the connector.
        plugins: the names of all plugins.
    """
    plugin = connector.plugin.name
    names = (f"{plugin}/{connector.name}", plugin, connector.plugin.bridge)
    sections = [section(settings.limits, name, plugins) for name in names if name is not None]
    own = [_given(one) for one in sections if one is not None]
    deadlines = {**_given(settings.deadlines), **connector.deadlines}
    for chosen in reversed(own):
        deadlines |= chosen.pop("deadlines")
    limits: dict[str, Any] = {name: getattr(settings, name) for name in ("workers", "queue", "in_flight")}
    limits["wait"] = math.inf if settings.wait is None else settings.wait
    for chosen in reversed(own):
        limits |= chosen
    return CallLimits(
        deadlines=deadlines, in_place=plugin in settings.in_place, refusals=refusals(connector, settings), **limits
    )


def _given(table: Table) -> dict[str, Any]:
    """Return what a table of settings sets."""
    fields = msgspec.structs.asdict(table)
    return {name: _given(one) if isinstance(one, Table) else one for name, one in fields.items() if one is not None}
