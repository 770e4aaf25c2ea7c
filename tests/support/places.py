"""Connectors run through invocation, without a registry or a server around them."""

from typing import Any

import msgspec

from connector_core.connector import ConnectorBase
from connector_core.description import EMBEDDED, ConnectorDescription, PluginIdentity
from connector_core.inspection import InspectedConnector, inspect_connector
from connector_core.invocation import CallLimits, Invoker, LocalPlaces, LocalRuntime
from connector_core.limits import limits_of
from connector_core.metrics import Metrics
from connector_core.settings import Settings

_INSPECTED: dict[int, InspectedConnector] = {}


def described(connector: ConnectorBase, plugin: PluginIdentity = EMBEDDED) -> ConnectorDescription:
    """Return a connector's description, by which `invoker` finds it again; names tell connectors of one invoker apart."""
    inspected = inspect_connector(connector, plugin)
    _INSPECTED[id(inspected.description)] = inspected
    return inspected.description


def limits(**changes: Any) -> CallLimits:
    """Return a connector's limits as the default settings have them, with some changed."""
    chosen = limits_of(Settings(), ConnectorDescription("any", EMBEDDED, (), "async", {}))
    return msgspec.structs.replace(chosen, **changes)


def local_invoker(metrics: Metrics | None = None, chosen: CallLimits | None = None, **runtime: Any) -> Invoker:
    """Return an invoker of what `described` has described; made on the serving loop."""
    places = LocalPlaces(lambda description: _INSPECTED[id(description)], LocalRuntime(metrics or Metrics(), **runtime))
    return Invoker(places, lambda _description: chosen or limits())
