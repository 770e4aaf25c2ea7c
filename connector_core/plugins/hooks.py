"""One plugin's hooks: found, checked and called."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pluggy
from msgspec.structs import replace

from connector_core import hookspecs
from connector_core.connector import ConnectorBase
from connector_core.description import PluginIdentity
from connector_core.errors import PluginLoadError
from connector_core.hookspecs import PROJECT, Adopted, BridgedPlugin, hookimpl
from connector_core.inspection import InspectedConnector, inspect_connector
from connector_core.plugins.discovery import PluginSource
from connector_core.registry import ConnectorRegistry
from connector_core.texts import alike

WHAT_A_PLUGIN_LOOKS_LIKE = """\
a plugin is a module with a function marked as a hook:

    from connector_core import hookimpl

    @hookimpl
    def register_connectors():
        return [MyConnector()]"""


class Bridge(NamedTuple):
    """A loaded plugin that knows connectors of another kind when a module registers them."""

    identity: PluginIdentity
    hook: Any


class Loaded(msgspec.Struct, frozen=True):
    """The outcome of a plugin's hooks; its identity names the bridge that knows all that it brings."""

    identity: PluginIdentity
    connectors: tuple[InspectedConnector, ...]
    summary: str
    bridged: tuple[PluginSource, ...]
    bridge: Bridge | None
    is_bridge: bool = False


def load(
    source: PluginSource,
    config: Mapping[str, Any],
    bridges: Sequence[Bridge],
    stack: ExitStack,
    places: Sequence[str] = (),
) -> Loaded:
    """Import a plugin, call its hooks and inspect its connectors.

    Args:
        source: the plugin.
        config: its section of the settings.
        bridges: the bridges that were loaded.
        stack: takes what bridges do around an import, to be left when this is over or given up.
        places: what tasks may use whatever the section says.

    Raises:
        PluginLoadError: it brings what cannot be served.
    """
    plugin, adopted, knowing = _import(source, bridges, stack)
    if isinstance(plugin, type):
        raise PluginLoadError(
            f"the entry point {source.value!r} is the class {plugin.__qualname__}; name a module or an instance"
        )
    # A manager for each plugin: no plugin's hook can stop, wrap or delay another's, and loading stays linear.
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, source.identity.name)
    except pluggy.PluginValidationError as error:
        raise PluginLoadError(_unknown_argument(plugin, source) or str(error)) from error
    identity = source.identity
    if not _marked(manager, source):
        if knowing is None:
            raise PluginLoadError(_without_hooks(source, bridges))
        identity = replace(identity, bridge=knowing)
    answers = manager.hook.register_connectors(config=config, places=tuple(places))
    brought = [one for answer in answers for one in _connectors(answer, source)]
    connectors = tuple(inspect_connector(connector, identity) for connector in (*brought, *adopted.connectors))
    within = ConnectorRegistry()  # finds what clashes within the plugin itself
    for connector in connectors:
        within.add(connector)
    return Loaded(
        identity,
        connectors,
        adopted.note or _summary(plugin),
        tuple(
            _bridged(one, source)
            for answer in manager.hook.find_bridged_plugins(config=config)
            for one in _bridged_plugins(answer, source)
        ),
        Bridge(source.identity, manager.hook) if manager.hook.adopt_module.get_hookimpls() else None,
        any(hook.get_hookimpls() for hook in (manager.hook.find_bridged_plugins, manager.hook.adopt_module)),
    )


def _import(source: PluginSource, bridges: Sequence[Bridge], stack: ExitStack) -> tuple[Any, Adopted, str | None]:
    """Return what was imported, what bridges saw appear meanwhile, and the name of the first that saw anything."""
    if not source.is_module:
        plugin = source.load()
        if isinstance(plugin, _Hooks):
            stack.enter_context(plugin.found.within())
        return plugin, Adopted(), None
    with stack.enter_context(ExitStack()) as watches:
        seen = {
            bridge.identity.name: watches.enter_context(watch)
            for bridge in bridges
            for watch in bridge.hook.adopt_module(module=source.value)
        }
        try:
            plugin = source.load()
        except ModuleNotFoundError as error:
            raise PluginLoadError(_missing(error)) from error
    connectors = [connector for one in seen.values() for connector in one.connectors]
    knowing = next((name for name, one in seen.items() if one.connectors or one.note), None)
    return plugin, Adopted(connectors, " ".join(one.note for one in seen.values() if one.note)), knowing


def _missing(error: ModuleNotFoundError) -> str:
    package = (error.name or "").split(".")[0]
    if not package:
        return str(error)
    return f"{error}; install it, or its bridge {_bridge_of(package)} if the module's connectors are written for it"


def _bridge_of(package: str) -> str:
    """Return the distribution of the bridge that serves a package's connectors, as bridges are named by convention."""
    return f"connector-plugin-{package.replace('_', '-')}"


def _without_hooks(source: PluginSource, bridges: Sequence[Bridge]) -> str:
    text = f"{source.value!r} has no function marked with @hookimpl"
    if not source.is_module:
        return f"{text}; {WHAT_A_PLUGIN_LOOKS_LIKE}"
    for bridge in bridges:
        text += f", and plugin {bridge.identity.name} saw it register no connector"
    bridge_name = _bridge_of("PACKAGE")
    text += f"; connectors that are written for another package are served by its bridge, which is named {bridge_name}"
    return f"{text}; {WHAT_A_PLUGIN_LOOKS_LIKE}"


def _connectors(answer: Any, source: PluginSource) -> list[ConnectorBase]:
    if isinstance(answer, Iterable) and not isinstance(answer, str | bytes | Mapping):
        return list(answer)
    raise PluginLoadError(
        f"register_connectors() in {source.value!r} returned {type(answer).__name__}, not a list of connectors"
    )


def _bridged_plugins(answer: Any, source: PluginSource) -> list[BridgedPlugin]:
    if isinstance(answer, Iterable) and not isinstance(answer, str | bytes | Mapping):
        found = list(answer)
        if all(isinstance(one, BridgedPlugin) for one in found):
            return found
    raise PluginLoadError(
        f"find_bridged_plugins() in {source.value!r} returned {type(answer).__name__}, not a list of BridgedPlugin"
    )


def _bridged(found: BridgedPlugin, source: PluginSource) -> PluginSource:
    bridge = source.identity.name
    identity = PluginIdentity(f"{bridge}/{found.name}", found.distribution, found.version, bridge)
    return PluginSource(identity, found.value or found.name, lambda: _Hooks(found))


class _Hooks:
    """A bridged plugin as an object that carries hooks."""

    def __init__(self, found: BridgedPlugin) -> None:
        self.found = found

    @hookimpl
    def register_connectors(self) -> Iterable[ConnectorBase]:
        return self.found.load()


def _marked(manager: pluggy.PluginManager, source: PluginSource) -> list[str]:
    """Return the names of a plugin's hookimpls.

    Raises:
        PluginLoadError: one is of a hook that does not exist.
    """
    known = [name for name, value in vars(hookspecs).items() if hasattr(value, f"{PROJECT}_spec")]
    plugin = manager.get_plugin(source.identity.name)
    marked = [name for name, value in inspect.getmembers(plugin) if hasattr(value, f"{PROJECT}_impl")]
    for name in marked:
        if name not in known:
            near = alike(name, known)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise PluginLoadError(f"{source.value!r} implements a hook {name}() that does not exist; {hint}")
    return marked


def _unknown_argument(plugin: Any, source: PluginSource) -> str | None:
    """Say which argument a hookimpl has that its hook does not offer, and which one may have been meant."""
    for name, hook in inspect.getmembers(plugin, lambda value: hasattr(value, f"{PROJECT}_impl")):
        offered = list(inspect.signature(getattr(hookspecs, name)).parameters) if hasattr(hookspecs, name) else []
        for argument in inspect.signature(hook).parameters:
            if offered and argument not in offered:
                near = alike(argument, offered)
                hint = f"did you mean {near[0]!r}?" if near else f"it offers {', '.join(map(repr, offered))}"
                return f"{name}() in {source.value!r} has an argument {argument!r} that the hook does not offer; {hint}"
    return None


def _summary(plugin: Any) -> str:
    """The plugin's own summary, shown where it brings no connector."""
    if isinstance(plugin, _Hooks):
        return plugin.found.summary
    documentation = inspect.getdoc(plugin) if isinstance(plugin, ModuleType) else None
    return (documentation or "").strip()
