"""Plugins loaded for a command, in this process and in the locations that the settings have."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from connector_core.plugins import Discovered, PluginLoadResult, discover, load_discovered, refuse_shared_names
from connector_core.secrets import SecretSource
from connector_core.settings import Settings

if TYPE_CHECKING:
    from connector_core.locations.locations import Locations


def find_plugins(settings: Settings) -> Discovered:
    """Find the plugins, and refuse locations that cannot be made of them; nothing is imported yet.

    Raises:
        SettingsError: naming the location.
    """
    found = discover(settings)
    if settings.locations:
        from connector_core.locations.loading import check_locations

        check_locations(settings, [source.identity.name for source in found.sources])
    return found


@contextmanager
def loaded(
    found: Discovered, settings: Settings, secrets: SecretSource, places: Sequence[str] = ()
) -> "Iterator[tuple[PluginLoadResult, Locations | None]]":
    """Load plugins where the settings have them; processes of locations that still run at the end of the block are killed.

    Args:
        found: the plugins.
        settings: the host's.
        secrets: takes note of those that plugins in locations get.
        places: what tasks may use whatever the plugins' sections say.
    """
    if not settings.locations:
        yield load_discovered(found, settings, places), None
        return
    from connector_core.locations.loading import load_everywhere

    result, locations = load_everywhere(found, settings, secrets, places)
    try:
        yield result, locations
    finally:
        locations.kill()


def load_to_look(found: Discovered, settings: Settings) -> PluginLoadResult:
    """Load plugins to say what they bring, and start none."""
    with loaded(found, settings, settings.secrets.source()) as (result, _locations):
        return result


def find_one_of_each(settings: Settings) -> Discovered:
    """Find the plugins of a host; as `find_plugins`.

    Raises:
        ConflictError: two distributions have an entry point of one name.
    """
    found = find_plugins(settings)
    refuse_shared_names(found.sources)
    return found
