"""From installed entry points and named modules to a registry: values all the way, bad plugins included."""

from connector_core.plugins.choosing import build_registry, check_required
from connector_core.plugins.discovery import (
    PluginSource,
    installed_plugins,
    module_plugin,
    plugin_sources,
    refuse_shared_names,
)
from connector_core.plugins.hooks import BRIDGES
from connector_core.plugins.loading import PluginSelection, load_from_settings, load_plugins, load_sources
from connector_core.plugins.outcomes import FailedPlugin, FoundPlugin, LoadedPlugin, PluginLoadResult, SkippedPlugin
from connector_core.plugins.risks import metadata_risks

__all__ = [
    "BRIDGES",
    "FailedPlugin",
    "FoundPlugin",
    "LoadedPlugin",
    "PluginLoadResult",
    "PluginSelection",
    "PluginSource",
    "SkippedPlugin",
    "build_registry",
    "check_required",
    "installed_plugins",
    "load_from_settings",
    "load_plugins",
    "load_sources",
    "metadata_risks",
    "module_plugin",
    "plugin_sources",
    "refuse_shared_names",
]
