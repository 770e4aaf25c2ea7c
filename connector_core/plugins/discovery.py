"""Plugins as values: those that were found, without importing any, and what became of each."""

import importlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from connector_core.description import ConnectorDescription, Described, PluginIdentity
from connector_core.errors import ConflictError
from connector_core.hookspecs import ENTRY_POINT_GROUP
from connector_core.plugins.distributions import BrokenDistribution, InstalledPoint, entry_points_of
from connector_core.settings import Settings


class PluginSource(msgspec.Struct, frozen=True):
    """A plugin that could be loaded: who it is, and how to get the object that carries its hooks.

    `is_broken` tells that its installation is damaged, so that `load` raises, and that it takes no other plugin's name.
    """

    identity: PluginIdentity
    value: str
    load: Callable[[], Any]
    is_module: bool = False
    is_broken: bool = False


class Discovered(msgspec.Struct, frozen=True):
    """The plugins that could be loaded, and the damaged distributions on the path."""

    sources: tuple[PluginSource, ...]
    broken: tuple[BrokenDistribution, ...] = ()


def discover(settings: Settings) -> Discovered:
    """Find the installed plugins and the modules that the settings name; nothing is imported yet."""
    found = entry_points_of(ENTRY_POINT_GROUP)
    modules = (module_plugin(module) for module in settings.modules)
    return Discovered((*map(_installed, found.points), *modules), found.broken)


def installed_plugins(path: Sequence[str] | None = None) -> list[PluginSource]:
    """Find every entry point of the group `connector_core.plugins`, by name; nothing is imported yet.

    Args:
        path: where to look for distributions in place of `sys.path`.
    """
    return [_installed(point) for point in entry_points_of(ENTRY_POINT_GROUP, path).points]


def refuse_shared_names(sources: Iterable[PluginSource]) -> None:
    """Refuse to go on when two distributions have an entry point of one name.

    Raises:
        ConflictError: naming both.
    """
    owners = defaultdict(list)
    for source in sources:
        if not source.is_broken:
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


def _installed(point: InstalledPoint) -> PluginSource:
    identity = PluginIdentity(point.name, point.distribution, point.version)
    return PluginSource(identity, point.value, point.load, is_broken=bool(point.problem))


def module_plugin(module: str) -> PluginSource:
    """Return the plugin that a module named with `--modules` is; nothing is imported yet."""
    return PluginSource(PluginIdentity(module), module, lambda: importlib.import_module(module), is_module=True)


class FoundPlugin(msgspec.Struct, frozen=True):
    """A plugin that was found, whatever became of it."""

    identity: PluginIdentity


class LoadedPlugin(FoundPlugin, frozen=True):
    """A plugin that loaded, with the connectors that it brings (there may be none), and whether it is a bridge.

    `location` names the process that has loaded it, where that is not the host's.
    """

    connectors: tuple[Described, ...]
    seconds: float
    summary: str = ""
    is_bridge: bool = False
    location: str = ""

    @property
    def descriptions(self) -> tuple[ConnectorDescription, ...]:
        """The descriptions of the connectors."""
        return tuple(connector.description for connector in self.connectors)


class FailedPlugin(FoundPlugin, frozen=True):
    """A plugin that did not load: the reason in a sentence, and the traceback for those who mend it.

    `hangs` tells that a thread still loads it; `location` is that of a `LoadedPlugin`.
    """

    reason: str
    traceback: str
    seconds: float
    hangs: bool = False
    location: str = ""


class SkippedPlugin(FoundPlugin, frozen=True):
    """A plugin that the settings keep out."""

    reason: str


class PluginLoadResult(msgspec.Struct, frozen=True):
    """The outcome of discovery: every plugin that was found, and the damaged distributions."""

    loaded: tuple[LoadedPlugin, ...] = ()
    failed: tuple[FailedPlugin, ...] = ()
    skipped: tuple[SkippedPlugin, ...] = ()
    warnings: tuple[str, ...] = ()
    broken: tuple[BrokenDistribution, ...] = ()

    @property
    def by_state(self) -> dict[str, tuple[FoundPlugin, ...]]:
        """All plugins, by what became of them."""
        return {"loaded": self.loaded, "failed": self.failed, "skipped": self.skipped}

    def select(self, is_wanted: Callable[[PluginIdentity], bool]) -> "PluginLoadResult":
        """Return what became of some of the plugins."""
        return PluginLoadResult(
            tuple(one for one in self.loaded if is_wanted(one.identity)),
            tuple(one for one in self.failed if is_wanted(one.identity)),
            tuple(one for one in self.skipped if is_wanted(one.identity)),
            self.warnings,
            self.broken,
        )
