"""From installed entry points and named modules to a registry: values all the way, bad plugins included."""

from connector_core.plugins.choosing import build_registry, check_required, declared_risks, refusals
from connector_core.plugins.discovery import (
    Discovered,
    FailedPlugin,
    FoundPlugin,
    LoadedPlugin,
    PluginLoadResult,
    PluginSource,
    SkippedPlugin,
    discover,
    installed_plugins,
    module_plugin,
    refuse_shared_names,
)
from connector_core.plugins.distributions import BrokenDistribution, InstalledPoint, InstalledPoints, entry_points_of
from connector_core.plugins.loading import (
    PluginSelection,
    load_discovered,
    load_from_settings,
    load_plugins,
)

__all__ = [
    "BrokenDistribution",
    "Discovered",
    "FailedPlugin",
    "FoundPlugin",
    "InstalledPoint",
    "InstalledPoints",
    "LoadedPlugin",
    "PluginLoadResult",
    "PluginSelection",
    "PluginSource",
    "SkippedPlugin",
    "build_registry",
    "check_required",
    "declared_risks",
    "discover",
    "entry_points_of",
    "installed_plugins",
    "load_discovered",
    "load_from_settings",
    "load_plugins",
    "module_plugin",
    "refusals",
    "refuse_shared_names",
]
