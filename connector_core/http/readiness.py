"""Whether a host should get calls: what `/readyz` says."""

from collections.abc import Mapping

from connector_core.errors import ConnectorError
from connector_core.plugins import PluginLoadResult
from connector_core.registry import RegisteredConnector
from connector_core.settings import Settings


def reasons_not_ready(
    settings: Settings,
    plugins: PluginLoadResult,
    not_started: Mapping[RegisteredConnector, ConnectorError],
    is_draining: bool,
) -> list[str]:
    """Return why this host should get no calls; nothing, where it should.

    What the host can do without never makes it unready: then one backend that is away would take the other connectors with
    it. A plugin that is required (`require`, `strict`) is one that it cannot do without.
    """
    reasons = ["draining: the host was asked to stop"] if is_draining else []
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
    return reasons


def _is_required(settings: Settings, plugin: str) -> bool:
    return settings.strict or plugin in settings.require
