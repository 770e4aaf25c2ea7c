"""Each plugin loaded under a guard of its own: a bad one is named, and stops nobody else."""

import inspect
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import pluggy

from connector_core import hookspecs
from connector_core.connector import ConnectorBase
from connector_core.errors import PluginLoadError
from connector_core.hookspecs import PROJECT
from connector_core.plugins.discovery import PluginSource, plugin_sources, refuse_shared_names
from connector_core.plugins.outcomes import FailedPlugin, LoadedPlugin, PluginLoadResult, SkippedPlugin
from connector_core.registry import ConnectorRegistry, RegisteredConnector
from connector_core.settings import Settings

WHAT_A_PLUGIN_LOOKS_LIKE = """\
a plugin is a module with a function marked as a hook:

    from connector_core import hookimpl

    @hookimpl
    def register_connectors():
        return [MyConnector()]"""


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
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - plugin code may raise anything, and must stop nobody else
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
    return f"{type(error).__name__}: {_text(error)}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an author's exception may not even be printable
        return "(its text cannot be read)"


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


def load_from_settings(settings: Settings) -> PluginLoadResult:
    """Load the installed plugins and the modules that the settings name.

    Raises:
        ConflictError: two distributions have an entry point of one name.
    """
    sources = plugin_sources(settings)
    refuse_shared_names(sources)
    return load_sources(sources, settings)


def load_sources(sources: Iterable[PluginSource], settings: Settings) -> PluginLoadResult:
    """Load what the settings let in, each plugin with its own section of them."""
    selection = PluginSelection(settings.allow_plugin, settings.block_plugin, settings.plugins)
    return load_plugins(sources, selection)
