"""From installed entry points and named modules to loaded plugins: values, with what failed and why beside what loaded."""

import importlib
import inspect
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import pluggy
from importlib_metadata import EntryPoint, distributions, entry_points

from connector_core import hookspecs
from connector_core.connector import ConnectorBase
from connector_core.errors import ConflictError, PluginLoadError
from connector_core.hookspecs import ENTRY_POINT_GROUP, PROJECT
from connector_core.registry import ConnectorRegistry, PluginIdentity, RegisteredConnector
from connector_core.settings import Settings
from connector_core.task import TaskCategory

WHAT_A_PLUGIN_LOOKS_LIKE = """\
a plugin is a module with a function marked as a hook:

    from connector_core import hookimpl

    @hookimpl
    def register_connectors():
        return [MyConnector()]"""


@dataclass(frozen=True, slots=True)
class PluginSource:
    """A plugin that could be loaded: who it is, and how to get the object that carries its hooks."""

    identity: PluginIdentity
    value: str
    load: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class FoundPlugin:
    """A plugin that was found, whatever became of it."""

    identity: PluginIdentity


@dataclass(frozen=True, slots=True)
class LoadedPlugin(FoundPlugin):
    """A plugin that loaded, with the connectors that it brings (there may be none)."""

    connectors: tuple[RegisteredConnector, ...]
    seconds: float
    summary: str = ""


@dataclass(frozen=True, slots=True)
class FailedPlugin(FoundPlugin):
    """A plugin that did not load: the reason in a sentence, and the traceback for those who mend it."""

    reason: str
    traceback: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SkippedPlugin(FoundPlugin):
    """A plugin that the settings keep out."""

    reason: str


@dataclass(frozen=True, slots=True)
class PluginLoadResult:
    """What became of every plugin that was found."""

    loaded: tuple[LoadedPlugin, ...] = ()
    failed: tuple[FailedPlugin, ...] = ()
    skipped: tuple[SkippedPlugin, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def by_state(self) -> dict[str, tuple[FoundPlugin, ...]]:
        """All plugins, by what became of them."""
        return {"loaded": self.loaded, "failed": self.failed, "skipped": self.skipped}


@dataclass(frozen=True, slots=True)
class PluginSelection:
    """Which plugins to load, and with which sections of the settings."""

    allow: Sequence[str] = ()
    block: Sequence[str] = ()
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def reason_to_skip(self, name: str) -> str | None:
        """Say why the settings keep a plugin out, if they do."""
        if name in self.block:
            return "blocked by --block-plugin"
        if self.allow and name not in self.allow:
            return f"not among --allow-plugin {', '.join(self.allow)}"
        return None


def installed_plugins(path: Sequence[str] | None = None) -> list[PluginSource]:
    """Find every entry point of the group `connector_core.plugins`, by name; nothing is imported yet.

    Args:
        path: where to look for distributions in place of `sys.path`.
    """
    if path is None:
        points: Iterable[EntryPoint] = entry_points(group=ENTRY_POINT_GROUP)
    else:
        found = distributions(path=list(path))
        points = (point for one in found for point in one.entry_points.select(group=ENTRY_POINT_GROUP))
    return sorted((_installed(point) for point in points), key=lambda source: source.identity.name)


def refuse_shared_names(sources: Iterable[PluginSource]) -> None:
    """Refuse to go on when two distributions have an entry point of one name.

    Raises:
        ConflictError: naming both.
    """
    owners = defaultdict(list)
    for source in sources:
        owners[source.identity.name].append(source.identity)
    clashes = [
        f"the plugin name {name!r} is taken by {' and by '.join(_origin(one) for one in clashing)}: "
        "a name is unique on a host, so leave one of them out"
        for name, clashing in owners.items()
        if len(clashing) > 1
    ]
    if clashes:
        raise ConflictError("\n".join(clashes))


def _origin(identity: PluginIdentity) -> str:
    if identity.distribution is None:
        return "a module of --modules"
    return f"distribution {identity.distribution} {identity.version}"


def _installed(point: EntryPoint) -> PluginSource:
    distribution = point.dist
    name, version = (distribution.name, distribution.version) if distribution else (None, None)
    return PluginSource(PluginIdentity(point.name, name, version), point.value, point.load)


def module_plugin(module: str) -> PluginSource:
    """Return the plugin that a module named with `--modules` is; nothing is imported yet."""
    return PluginSource(PluginIdentity(module), module, lambda: importlib.import_module(module))


def load_plugins(sources: Iterable[PluginSource], selection: PluginSelection | None = None) -> PluginLoadResult:
    """Load each plugin under a guard of its own, call its hook and inspect its connectors.

    One that raises, exits the interpreter or brings what cannot be served becomes a `FailedPlugin`; the others go on.
    """
    selection = selection or PluginSelection()
    loaded: list[LoadedPlugin] = []
    failed: list[FailedPlugin] = []
    skipped: list[SkippedPlugin] = []
    known: list[str] = []
    for source in sources:
        name = source.identity.name
        known.append(name)
        if reason := selection.reason_to_skip(name):
            skipped.append(SkippedPlugin(source.identity, reason))
            continue
        outcome = _load_guarded(source, selection.configs.get(name, {}))
        if isinstance(outcome, LoadedPlugin):
            loaded.append(outcome)
        else:
            failed.append(outcome)
    return PluginLoadResult(tuple(loaded), tuple(failed), tuple(skipped), tuple(_warnings(selection, known)))


def _load_guarded(source: PluginSource, config: Mapping[str, Any]) -> LoadedPlugin | FailedPlugin:
    began = time.perf_counter()
    try:
        connectors, summary = _load(source, config)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - plugin code may raise anything, and must stop nobody else
        return FailedPlugin(source.identity, _reason(error), traceback.format_exc(), time.perf_counter() - began)
    return LoadedPlugin(source.identity, connectors, time.perf_counter() - began, summary)


def _load(source: PluginSource, config: Mapping[str, Any]) -> tuple[tuple[RegisteredConnector, ...], str]:
    plugin = source.load()
    if isinstance(plugin, type):
        raise PluginLoadError(
            f"the entry point {source.value!r} is the class {plugin.__qualname__}; name a module or an instance"
        )
    # A manager for each plugin: no plugin's hook can stop, wrap or delay another's, and loading stays linear.
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, source.identity.name)
    _refuse_unknown_hooks(manager, source)
    answers = manager.hook.register_connectors(config=config)
    brought = [connector for answer in answers for connector in _connectors(answer, source)]
    own = ConnectorRegistry()  # finds what clashes within the plugin itself
    return tuple(own.register(connector, plugin=source.identity) for connector in brought), _summary(plugin)


def _connectors(answer: Any, source: PluginSource) -> list[ConnectorBase]:
    if isinstance(answer, Iterable) and not isinstance(answer, str | bytes | Mapping):
        return list(answer)
    raise PluginLoadError(
        f"register_connectors() in {source.value!r} returned {type(answer).__name__}, not a list of connectors"
    )


def _refuse_unknown_hooks(manager: pluggy.PluginManager, source: PluginSource) -> None:
    known = [name for name, value in vars(hookspecs).items() if hasattr(value, f"{PROJECT}_spec")]
    plugin = manager.get_plugin(source.identity.name)
    marked = [name for name, value in inspect.getmembers(plugin) if hasattr(value, f"{PROJECT}_impl")]
    for name in marked:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise PluginLoadError(f"{source.value!r} implements a hook {name}() that does not exist; {hint}")
    if not marked:
        raise PluginLoadError(f"{source.value!r} has no function marked with @hookimpl; {WHAT_A_PLUGIN_LOOKS_LIKE}")


def _summary(plugin: Any) -> str:
    """What a plugin says of itself, shown where it brings no connector."""
    documentation = inspect.getdoc(plugin) if isinstance(plugin, ModuleType) else None
    return (documentation or "").strip()


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({error.code!r})"
    if isinstance(error, PluginLoadError):
        return error.message
    return f"{type(error).__name__}: {error}"


def _warnings(selection: PluginSelection, known: Sequence[str]) -> Iterable[str]:
    for setting, names in (
        ("[plugins.{}] configures", selection.configs),
        ("--allow-plugin {} names", selection.allow),
        ("--block-plugin {} names", selection.block),
    ):
        for name in names:
            if name not in known:
                installed = ", ".join(known) or "none"
                yield f"{setting.format(name)} a plugin that is not here (installed: {installed})"


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


def load_from_settings(settings: Settings) -> PluginLoadResult:
    """Load the installed plugins and the modules that the settings name.

    Raises:
        ConflictError: two distributions have an entry point of one name.
    """
    sources = plugin_sources(settings)
    refuse_shared_names(sources)
    return load_sources(sources, settings)


def plugin_sources(settings: Settings) -> list[PluginSource]:
    """Find the installed plugins and the modules that the settings name; nothing is imported yet."""
    return [*installed_plugins(), *(module_plugin(module) for module in settings.modules)]


def load_sources(sources: Iterable[PluginSource], settings: Settings) -> PluginLoadResult:
    """Load what the settings let in, each plugin with its own section of them."""
    selection = PluginSelection(settings.allow_plugin, settings.block_plugin, settings.plugins)
    return load_plugins(sources, selection)


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
