"""Plugins loaded in the host and in locations: all processes start at once, the host's own plugins load meanwhile."""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from connector_core.description import LocatedConnector, PluginIdentity
from connector_core.errors import SettingsError
from connector_core.hostlog.redaction import Scrubber
from connector_core.locations.heads import HelloHead, StartHead
from connector_core.locations.location import Location
from connector_core.locations.locations import Locations
from connector_core.locations.process import LocationError, LocationProcess
from connector_core.locations.wire import SLACK_BYTES, VERSION
from connector_core.plugins import Discovered, FailedPlugin, LoadedPlugin, PluginLoadResult, load_discovered
from connector_core.plugins.unknown import unknown_names
from connector_core.secrets import SecretSource
from connector_core.settings import LocationSettings, Settings, as_variable, section
from connector_core.texts import alike

_ATTEMPTS = 2
"""Deaths before the handshake after which a location is given up."""


class _Ready(NamedTuple):
    """A location's process that is ready, and what it has loaded."""

    process: LocationProcess
    hello: HelloHead


def check_locations(settings: Settings, names: Collection[str]) -> None:
    """Refuse locations that cannot be made as the settings have them.

    Args:
        settings: the host's.
        names: those of all plugins that were found.

    Raises:
        SettingsError: naming the location and the plugin.
    """
    if settings.locations and os.name != "posix":
        raise SettingsError("locations need a system with fork and Unix sockets: leave [locations] out here")
    owners: dict[str, str] = {}
    for location, chosen in settings.locations.items():
        if not chosen.plugins:
            raise SettingsError(f"location {location!r} has no plugins: name those that run there, plugins = [...]")
        for plugin in chosen.plugins:
            _check_plugin(settings, location, plugin, names)
            if (other := owners.setdefault(plugin, location)) != location:
                raise SettingsError(
                    f"plugin {plugin!r} is in the locations {other!r} and {location!r}: it can run in one of them"
                )


def _check_plugin(settings: Settings, location: str, plugin: str, names: Collection[str]) -> None:
    if plugin not in names:
        near = alike(plugin, names)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(names)) or 'none'}"
        raise SettingsError(f"location {location!r} names the unknown plugin {plugin!r}: {hint}")
    if plugin in settings.in_place:
        raise SettingsError(
            f"plugin {plugin!r} is in the setting in_place and in location {location!r}: "
            "the serving loop cannot run what is in another process"
        )


def load_everywhere(
    found: Discovered, settings: Settings, secrets: SecretSource, places: Sequence[str] = ()
) -> tuple[PluginLoadResult, Locations]:
    """Load plugins where the settings have them; end the locations that are returned, whatever comes.

    Args:
        found: the plugins.
        settings: the host's.
        secrets: takes note of those that plugins in locations get.
        places: what tasks may use whatever the plugins' sections say.
    """
    known = {source.identity.name: source for source in found.sources}
    chosen = {
        name: plugins
        for name, one in settings.locations.items()
        if (plugins := tuple(plugin for plugin in one.plugins if plugin in known))
    }
    scrub = Scrubber(lambda: secrets.handed_out).scrub
    makers = {
        name: partial(
            LocationProcess, _start_of(name, plugins, found, settings, places), settings.locations[name].env, scrub
        )
        for name, plugins in chosen.items()
    }
    first = {name: make() for name, make in makers.items()}
    try:
        located = {plugin for plugins in chosen.values() for plugin in plugins}
        own = replace(found, sources=tuple(one for one in found.sources if one.identity.name not in located))
        result = load_discovered(own, settings, places)
        outcomes = {name: _ready(first, makers, name, settings.locations[name]) for name in chosen}
    except BaseException:
        for process in first.values():
            process.kill()
        raise
    locations = Locations()
    for name, outcome in outcomes.items():
        if isinstance(outcome, _Ready):
            for secret in outcome.hello.secrets:
                secrets.note(secret)
            own_settings = settings.locations[name]
            brought = _loaded(name, outcome.hello)
            location = Location(
                name, makers[name], own_settings.ready_timeout, outcome.process, secrets, own_settings.memory_limit
            )
            locations.add(location, [plugin.identity.name for plugin in brought.loaded])
        else:
            brought = _given_up(name, outcome, [known[plugin].identity for plugin in chosen[name]])
        result = _merged(result, brought)
    return replace(result, warnings=tuple(unknown_names(settings, result))), locations


def _start_of(
    name: str, plugins: tuple[str, ...], found: Discovered, settings: Settings, places: Sequence[str]
) -> StartHead:
    names = tuple(source.identity.name for source in found.sources)
    modules = tuple(one.identity.name for one in found.sources if one.is_module and one.identity.name in plugins)
    return StartHead(
        version=VERSION,
        parent=os.getpid(),
        location=name,
        path=tuple(sys.path),
        modules=modules,
        plugins=plugins,
        sections=sections_of(plugins, names, settings.plugins),
        names=names,
        allow=tuple(settings.allow_plugin),
        block=tuple(settings.block_plugin),
        places=tuple(places),
        load_timeout=settings.load_timeout,
        loop=settings.loop,
        stall_seconds=settings.stall_seconds,
        batch=settings.batch,
        secrets=(settings.secrets.env_prefix, str(settings.secrets.folder)),
        levels=settings.log_level,
        max_bytes=max(settings.max_request_bytes, settings.max_answer_bytes) + SLACK_BYTES,
    )


def sections_of(
    plugins: Collection[str], names: Collection[str], sections: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Return the sections of some plugins and of what they bring, and nobody else's: sections hold secrets."""
    own = {plugin: one for plugin in plugins if (one := section(sections, plugin, names)) is not None}
    others = {as_variable(name) for name in names}
    for key, one in sections.items():
        is_brought = any(as_variable(key).startswith(f"{as_variable(plugin)}_") for plugin in plugins)
        if is_brought and as_variable(key) not in others:
            own[key] = one
    return own


def _ready(
    first: dict[str, LocationProcess],
    makers: Mapping[str, partial[LocationProcess]],
    name: str,
    chosen: LocationSettings,
) -> _Ready | str:
    """Return a location's process once it is ready, or why it is given up."""
    reason = ""
    for attempt in range(_ATTEMPTS):
        process = first[name] if attempt == 0 else makers[name]()
        first[name] = process
        try:
            return _Ready(process, process.handshake(chosen.ready_timeout))
        except LocationError as error:
            reason = str(error)
            if process.was_late:
                break
    return reason


def _loaded(location: str, hello: HelloHead) -> PluginLoadResult:
    loaded = tuple(
        LoadedPlugin(
            plugin.identity,
            tuple(map(LocatedConnector, plugin.connectors)),
            plugin.seconds,
            plugin.summary,
            plugin.is_bridge,
            location,
        )
        for plugin in hello.loaded
    )
    failed = tuple(replace(plugin, location=location) for plugin in hello.failed)
    return PluginLoadResult(loaded, failed, hello.skipped)


def _given_up(location: str, reason: str, plugins: Sequence[PluginIdentity]) -> PluginLoadResult:
    told = f"its location is given up: {reason}"
    return PluginLoadResult(
        failed=tuple(FailedPlugin(plugin, told, reason, 0.0, location=location) for plugin in plugins)
    )


def _merged(first: PluginLoadResult, second: PluginLoadResult) -> PluginLoadResult:
    return replace(
        first,
        loaded=first.loaded + second.loaded,
        failed=first.failed + second.failed,
        skipped=first.skipped + second.skipped,
    )
