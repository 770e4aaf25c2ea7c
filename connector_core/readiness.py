"""A host's readiness: what `/readyz` and the console tell of it."""

from collections.abc import Mapping, Sequence

import msgspec

from connector_core.description import ConnectorDescription
from connector_core.errors import ConnectorError
from connector_core.plugins import PluginLoadResult
from connector_core.settings import Settings


class HostState(msgspec.Struct, frozen=True):
    """A host's state at one moment.

    Attributes:
        reasons_not_ready: why it should get no calls now.
        not_started: why connectors have not started (yet), by plugin and name of the connector.
        is_draining: whether it was asked to stop.
        failure: why it serves nobody any more, and has to be started anew; empty while it does.
    """

    reasons_not_ready: Sequence[str]
    not_started: Mapping[tuple[str, str], str]
    is_draining: bool
    failure: str = ""


def host_state(
    settings: Settings,
    plugins: PluginLoadResult,
    not_started: Mapping[ConnectorDescription, ConnectorError],
    is_draining: bool,
    failure: str = "",
) -> HostState:
    """Return the state; its reasons are empty where the host should get calls.

    What the host can do without never makes it unready: then one backend that is away would take the other connectors with
    it. A plugin that is required (`require`, `strict`) is one that it cannot do without.
    """
    reasons = [failure] if failure else []
    reasons += ["draining: the host was asked to stop"] if is_draining else []
    reasons += [
        f"plugin {plugin.identity} failed to load: {plugin.reason}"
        for plugin in plugins.failed
        if _is_required(settings, plugin.identity.name)
    ]
    reasons += [
        f"connector {connector.name!r} of plugin {connector.plugin} could not be started: {error}"
        for connector, error in not_started.items()
        if _is_required(settings, connector.plugin.name)
    ]
    by_name = {(connector.plugin.name, connector.name): str(error) for connector, error in not_started.items()}
    return HostState(reasons, by_name, is_draining, failure)


def _is_required(settings: Settings, plugin: str) -> bool:
    return settings.strict or plugin in settings.require
