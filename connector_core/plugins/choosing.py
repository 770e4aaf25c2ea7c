"""From loaded plugins to a registry: who serves what, and what the host cannot do without."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from connector_core.errors import ConflictError, PluginLoadError
from connector_core.plugins.outcomes import PluginLoadResult
from connector_core.registry import ConnectorRegistry, RegisteredConnector
from connector_core.settings import Settings
from connector_core.task import TaskCategory


def build_registry(result: PluginLoadResult, prefer: Mapping[str, str]) -> ConnectorRegistry:
    """Put the connectors of all loaded plugins into a registry.

    Args:
        result: the loaded plugins.
        prefer: for a task category (`NAME[@VERSION]`) that several claim, the name of the plugin that serves it.

    Raises:
        ConflictError: plugins claim the same task category and no setting says which of them serves it; all such
            categories are named, with the plugins' distributions.
    """
    connectors = [connector for plugin in result.loaded for connector in plugin.connectors]
    claims: dict[TaskCategory, list[RegisteredConnector]] = defaultdict(list)
    for connector in connectors:
        for category in connector.categories:
            claims[category].append(connector)
    winners: dict[TaskCategory, RegisteredConnector] = {}
    conflicts = []
    for category, claiming in claims.items():
        chosen = claiming if len(claiming) == 1 else [c for c in claiming if c.plugin.name == prefer.get(str(category))]
        if len(chosen) == 1:
            winners[category] = chosen[0]
        else:
            conflicts.append(_conflict(category, claiming, prefer.get(str(category))))
    if conflicts:
        raise ConflictError("\n".join(conflicts))
    registry = ConnectorRegistry()
    for connector in connectors:
        kept = tuple(category for category in connector.categories if winners[category] is connector)
        if kept:
            registry.add(connector if kept == connector.categories else replace(connector, categories=kept))
    return registry


def _conflict(category: TaskCategory, claiming: Sequence[RegisteredConnector], preferred: str | None) -> str:
    plugins = [one.plugin for one in claiming]
    claim = f"task type {str(category)!r} is claimed by plugin {' and by plugin '.join(map(str, plugins))}"
    if preferred is not None:
        return f"{claim}; --prefer {category}={preferred} names neither"
    choices = " or ".join(f"--prefer {category}={plugin.name}" for plugin in plugins)
    return f"{claim}: say which one serves it with {choices}"


def check_required(result: PluginLoadResult, settings: Settings) -> None:
    """Refuse to go on without what the settings require.

    Raises:
        PluginLoadError: naming every plugin whose failure is fatal, and why it failed.
    """
    reasons = [
        f"plugin {plugin.identity} failed to load: {plugin.reason}"
        for plugin in result.failed
        if settings.strict or plugin.identity.name in settings.require
    ]
    here = [plugin.identity.name for plugins in result.by_state.values() for plugin in plugins]
    reasons += [
        f"plugin {plugin.identity} is required, but {plugin.reason}"
        for plugin in result.skipped
        if plugin.identity.name in settings.require
    ]
    reasons += [
        f"plugin {name!r} is required, but not installed (there are {', '.join(here) or 'none'})"
        for name in settings.require
        if name not in here
    ]
    if reasons:
        raise PluginLoadError("\n".join(reasons))
