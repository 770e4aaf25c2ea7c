"""The operator's choices among loaded plugins: which plugin serves what, which ones are required, which risks are taken."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from shlex import quote

from connector_core.description import ConnectorDescription, Described
from connector_core.errors import ConflictError, PluginLoadError
from connector_core.plugins.discovery import PluginLoadResult
from connector_core.registry import ConnectorRegistry
from connector_core.settings import Settings
from connector_core.settings.value_kinds import OF_NAME
from connector_core.task import TaskCategory


def build_registry(result: PluginLoadResult, prefer: Mapping[str, str]) -> ConnectorRegistry:
    """Put the connectors of all loaded plugins into a registry.

    Args:
        result: the loaded plugins.
        prefer: for a task category (`NAME[@VERSION]`) that several claim, the name of the plugin that serves it; for a
            connector's name (`name:NAME`) that several use, of the plugin whose connector keeps it.

    Raises:
        ConflictError: plugins claim the same task category or name and no setting says which of them has it; all such
            are named, with the plugins' distributions.
    """
    connectors = [connector for plugin in result.loaded for connector in plugin.connectors]
    claims: dict[TaskCategory, list[ConnectorDescription]] = defaultdict(list)
    for connector in connectors:
        for category in connector.description.categories:
            claims[category].append(connector.description)
    winners: dict[TaskCategory, ConnectorDescription] = {}
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
    for connector in _with_names_of_their_own(_served(connectors, winners), prefer):
        registry.add(connector)
    return registry


def _served(
    connectors: Iterable[Described], winners: Mapping[TaskCategory, ConnectorDescription]
) -> Iterator[Described]:
    """Yield the connectors that serve anything, each with what it serves."""
    for connector in connectors:
        described = connector.description
        kept = tuple(category for category in described.categories if winners[category] is described)
        if kept:
            yield connector if kept == described.categories else connector.described_as(categories=kept)


def _with_names_of_their_own(connectors: Iterable[Described], prefer: Mapping[str, str]) -> list[Described]:
    """Return the connectors; of those that have one name, all but the preferred one get their plugin's name after it.

    Raises:
        ConflictError: it is not said which one keeps the name.
    """
    served = list(connectors)
    users: dict[str, list[ConnectorDescription]] = defaultdict(list)
    for connector in served:
        users[connector.description.name].append(connector.description)
    shared = {name: using for name, using in users.items() if len(using) > 1}
    conflicts = [
        _name_conflict(name, using, prefer.get(f"{OF_NAME}{name}"))
        for name, using in shared.items()
        if prefer.get(f"{OF_NAME}{name}") not in [description.plugin.name for description in using]
    ]
    if conflicts:
        raise ConflictError("\n".join(conflicts))
    return [
        _renamed(connector) if _loses_name(connector.description, shared, prefer) else connector for connector in served
    ]


def _loses_name(connector: ConnectorDescription, shared: Collection[str], prefer: Mapping[str, str]) -> bool:
    return connector.name in shared and connector.plugin.name != prefer[f"{OF_NAME}{connector.name}"]


def _renamed(connector: Described) -> Described:
    described = connector.description
    return connector.described_as(name=_second_name(described), given_name=described.name)


def _second_name(connector: ConnectorDescription) -> str:
    return f"{connector.name} ({connector.plugin.name})"


def _name_conflict(name: str, using: Sequence[ConnectorDescription], preferred: str | None) -> str:
    problem = _undecided(
        f"the connector name {name!r} is used",
        using,
        preferred,
        prefer=lambda plugin: f"--prefer {quote(f'{OF_NAME}{name}={plugin}')}",
        wins="keeps",
    )
    others = f"; any other gets its plugin's after it: {_second_name(using[-1])!r}"
    return problem + others if preferred is None else problem


def _conflict(category: TaskCategory, claiming: Sequence[ConnectorDescription], preferred: str | None) -> str:
    return _undecided(
        f"task type {str(category)!r} is claimed",
        claiming,
        preferred,
        prefer=lambda plugin: f"--prefer {category}={plugin}",
        wins="serves",
    )


def _undecided(
    what: str,
    connectors: Sequence[ConnectorDescription],
    preferred: str | None,
    *,
    prefer: Callable[[str], str],
    wins: str,
) -> str:
    """Say who wants one thing, and how to decide: with what `prefer` makes of a plugin's name."""
    plugins = [one.plugin for one in connectors]
    claim = f"{what} by plugin {' and by plugin '.join(map(str, plugins))}"
    if preferred is not None:
        return f"{claim}; {prefer(preferred)} names neither"
    choices = " or ".join(prefer(plugin.name) for plugin in plugins)
    return f"{claim}: say which one {wins} it with {choices}"


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
    if settings.strict:
        reasons += [f"distribution {broken}" for broken in result.broken]
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


def declared_risks(result: PluginLoadResult, settings: Settings) -> list[str]:
    """Say what callers can make of the loaded connectors, and which creates are refused because of that."""
    connectors = [connector for plugin in result.loaded for connector in plugin.descriptions]
    return [_said(one, settings) for one in connectors if one.risk] + _metadata_risks(connectors, settings)


def _said(connector: ConnectorDescription, settings: Settings) -> str:
    risk = f"connector {connector.name!r} of plugin {connector.plugin.name!r} {connector.risk}"
    everyone = "everyone who reaches the gRPC port can have it do so"
    if _is_allowed(connector, settings):
        return f"{risk}; {everyone} (allowed by allow_risks)"
    polls = ", and polls of unsigned resource metas get the last known phase" if connector.risk_in_get else ""
    return f"{risk}; {everyone}, so its creates fail{polls}. To take the risk: {_allowing(connector)}"


def _is_allowed(connector: ConnectorDescription, settings: Settings) -> bool:
    plugin = connector.plugin
    names = {plugin.name, plugin.bridge, f"{plugin.name}/{connector.name}"}
    return not names.isdisjoint(settings.allow_risks)


def _allowing(connector: ConnectorDescription) -> str:
    return f'allow_risks = ["{connector.plugin.name}"]'


def refusals(connector: ConnectorDescription, settings: Settings) -> dict[str, str]:
    """Return why which operations of a connector are refused: those that bear a risk that the operator has not taken.

    A job that runs is polled and deleted as ever, unless a resource meta alone bears the risk and nothing tells forged ones.
    """
    if not connector.risk or _is_allowed(connector, settings):
        return {}
    reason = f"connector {connector.name!r} {connector.risk}; the operator can allow that: {_allowing(connector)}"
    refused = ["create", "do"]
    if connector.risk_in_get and not settings.signing.all_keys():
        refused += ["get", "get_many", "get_metrics", "get_logs"]
    return dict.fromkeys(refused, reason)


def _metadata_risks(connectors: Iterable[ConnectorDescription], settings: Settings) -> list[str]:
    """Say which connectors a forged resource meta could harm, where signing does not keep forged ones out."""
    if settings.signing.all_keys():
        return []
    at_risk: dict[str, list[str]] = defaultdict(list)
    for connector in connectors:
        if connector.metadata_risk:
            at_risk[connector.metadata_risk].append(f"{connector.name!r} of plugin {connector.plugin.name!r}")
    return [
        f"resource metas are not signed here, and a connector that {what} runs whatever code is in a forged one, for everyone "
        f"who reaches the gRPC port: {', '.join(connectors)}. Set [signing] once no task of another server runs"
        for what, connectors in at_risk.items()
    ]
