"""Each plugin loaded under a guard of its own: a bad one is named, and stops nobody else."""

import time
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from connector_core.description import PluginIdentity
from connector_core.errors import PluginLoadError
from connector_core.observing.call_records import CODE, Subject
from connector_core.plugins.discovery import (
    Discovered,
    FailedPlugin,
    LoadedPlugin,
    PluginLoadResult,
    PluginSource,
    SkippedPlugin,
    discover,
    refuse_shared_names,
)
from connector_core.plugins.hooks import Bridge, Loaded, load
from connector_core.plugins.timed import LoadTimeoutError, within
from connector_core.plugins.unknown import unknown_names
from connector_core.settings import Settings, section
from connector_core.texts import main_thread_hint


class PluginSelection(msgspec.Struct, frozen=True):
    """The plan of loading: which plugins, with which sections of the settings, in how many seconds each.

    `names` are those of all that were found; `places` are what tasks may use whatever the sections say; 0 for `load_timeout`
    loads plugins in the caller's thread, however long it takes.
    """

    allow: Sequence[str] = ()
    block: Sequence[str] = ()
    configs: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    names: Collection[str] = ()
    places: Sequence[str] = ()
    load_timeout: float = 60

    def reason_to_skip(self, plugin: PluginIdentity) -> str | None:
        """Say why the settings keep a plugin out, if they do; allowing a bridge allows its plugins, and the reverse."""
        name = plugin.name
        if name in self.block:
            return "blocked by --block-plugin"
        is_allowed = name in self.allow or plugin.bridge in self.allow
        if self.allow and not is_allowed and not any(one.startswith(f"{name}/") for one in self.allow):
            return f"not among --allow-plugin {', '.join(self.allow)}"
        return None


def load_plugins(sources: Iterable[PluginSource], selection: PluginSelection | None = None) -> PluginLoadResult:
    """Load each plugin under a guard of its own, call its hook and inspect its connectors.

    One that raises, exits the interpreter or brings what cannot be served becomes a `FailedPlugin`; the others go on.
    """
    loading = _Loading(selection or PluginSelection())
    for source in sorted(sources, key=lambda source: source.is_module):  # bridges first, which modules may need
        loading.load(source)
    return loading.result()


class _Loading:
    """Loads plugins one after the other, and after a bridge what it brings."""

    def __init__(self, selection: PluginSelection) -> None:
        self._selection = selection
        self._loaded: list[LoadedPlugin] = []
        self._failed: list[FailedPlugin] = []
        self._skipped: list[SkippedPlugin] = []
        self._bridges: list[Bridge] = []

    def load(self, source: PluginSource) -> None:
        """Load a plugin, unless the selection keeps it out."""
        if reason := self._selection.reason_to_skip(source.identity):
            self._skipped.append(SkippedPlugin(source.identity, reason))
            return
        began = time.perf_counter()
        whose = CODE.set(Subject(source.identity.name))  # lines of the log say so
        try:
            loaded = within(self._selection.load_timeout, source.identity.name, partial(self._load, source))
            refuse_shared_names(loaded.bridged)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - plugin code may raise anything, and must stop nobody else
            self._failed.append(_failed(source.identity, error, time.perf_counter() - began))
            return
        finally:
            CODE.reset(whose)
        seconds = time.perf_counter() - began
        self._loaded.append(LoadedPlugin(loaded.identity, loaded.connectors, seconds, loaded.summary, loaded.is_bridge))
        if loaded.bridge is not None:
            self._bridges.append(loaded.bridge)
        for bridged in loaded.bridged:
            self.load(bridged)

    def _load(self, source: PluginSource, stack: ExitStack) -> Loaded:
        config = self._config_of(source.identity.name)
        return load(source, config, self._bridges, stack, self._selection.places)

    def _config_of(self, plugin: str) -> Mapping[str, Any]:
        return section(self._selection.configs, plugin, self._selection.names) or {}

    def result(self) -> PluginLoadResult:
        """Return what became of all."""
        return PluginLoadResult(tuple(self._loaded), tuple(self._failed), tuple(self._skipped))


def _failed(plugin: PluginIdentity, error: BaseException, seconds: float) -> FailedPlugin:
    if isinstance(error, LoadTimeoutError):
        return FailedPlugin(plugin, error.message, error.stack, seconds, hangs=True)
    return FailedPlugin(plugin, _reason(error, plugin), "".join(traceback.format_exception(error)), seconds)


def _reason(error: BaseException, plugin: PluginIdentity) -> str:
    """Say why a plugin did not load, in words that follow its name."""
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({error.code!r})"
    if isinstance(error, PluginLoadError):
        return error.message.removeprefix(f"plugin {plugin}").removeprefix(":").lstrip()
    text = _text(error)
    hint = main_thread_hint(text)
    return f"{type(error).__name__}: {text}{hint and f'; {hint}, or set load_timeout = 0'}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an author's exception may not even be printable
        return "(its text cannot be read)"


def load_from_settings(settings: Settings, places: Sequence[str] = ()) -> PluginLoadResult:
    """Load the installed plugins and the modules that the settings name; `places` are for their hooks.

    Raises:
        ConflictError: two distributions have an entry point of one name.
    """
    found = discover(settings)
    refuse_shared_names(found.sources)
    return load_discovered(found, settings, places)


def load_discovered(found: Discovered, settings: Settings, places: Sequence[str] = ()) -> PluginLoadResult:
    """Load what the settings let in, each plugin with its own section of them."""
    names = [source.identity.name for source in found.sources]
    selection = PluginSelection(
        settings.allow_plugin, settings.block_plugin, settings.plugins, names, places, settings.load_timeout
    )
    result = load_plugins(found.sources, selection)
    return replace(result, warnings=tuple(unknown_names(settings, result)), broken=found.broken)
