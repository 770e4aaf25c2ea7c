"""Names in the settings that no plugin, connector or task type has: said with a near one, since they do nothing."""

from collections.abc import Collection, Iterable, Iterator

from connector_core.plugins.discovery import PluginLoadResult
from connector_core.settings import Settings, as_variable
from connector_core.settings.value_kinds import OF_NAME
from connector_core.texts import alike

_MOST_NAMED = 10


def unknown_names(settings: Settings, result: PluginLoadResult) -> Iterator[str]:
    """Yield a warning for each name in the settings that is not known here."""
    plugins = [found.identity.name for group in result.by_state.values() for found in group]
    spelt = {as_variable(name) for name in plugins}
    not_loaded = tuple(f"{found.identity.name}/" for found in (*result.failed, *result.skipped))
    for place, names in (
        ("[plugins.{}]", [name for name in settings.plugins if as_variable(name) not in spelt]),
        ("--allow-plugin {}", settings.allow_plugin),
        ("--block-plugin {}", settings.block_plugin),
        ("in_place {}", settings.in_place),
    ):
        for name in names:
            # What a bridge brings is known once it is loaded.
            if name not in plugins and not name.startswith(not_loaded):
                yield _warning(place.format(name), f"unknown plugin {name!r}", name, plugins)
    yield from _limits(settings.limits, "[limits.{}]", result, plugins)
    yield from _limits(settings.allow_risks, "allow_risks {}", result, plugins)
    yield from _preferences(settings, result, plugins)


def _limits(names: Iterable[str], place: str, result: PluginLoadResult, plugins: Collection[str]) -> Iterator[str]:
    """Names of plugins and connectors are checked as far as their plugin was loaded: what others bring is not known."""
    loaded = {plugin.identity.name: plugin.descriptions for plugin in result.loaded}
    connectors = [f"{plugin}/{one.name}" for plugin, brought in loaded.items() for one in brought]
    known = [*plugins, *connectors]
    spelt = {as_variable(name) for name in known}
    for name in names:
        plugin = max((one for one in plugins if name.startswith(f"{one}/")), key=len, default=None)
        if as_variable(name) in spelt or (plugin is not None and plugin not in loaded):
            continue
        if plugin is None:
            yield _warning(place.format(name), f"unknown plugin {name!r}", name, known)
        else:
            connector = name.removeprefix(f"{plugin}/")
            brought = [one.name for one in loaded[plugin]]
            written = place.format(f'"{name}"')
            yield _warning(written, f"plugin {plugin!r} has no connector {connector!r}", connector, brought)


def _preferences(settings: Settings, result: PluginLoadResult, plugins: Collection[str]) -> Iterator[str]:
    """Yield unknown preferences; each is checked where the plugin was loaded, since only then is known what it brings."""
    brought = {plugin.identity.name: plugin.descriptions for plugin in result.loaded}
    for about, plugin in settings.prefer.items():
        place = f"prefer {about}={plugin}"
        if plugin not in plugins:
            yield _warning(place, f"unknown plugin {plugin!r}", plugin, plugins)
        elif plugin in brought and about.startswith(OF_NAME):
            names = [one.name for one in brought[plugin]]
            if (name := about.removeprefix(OF_NAME)) not in names:
                yield _warning(place, f"plugin {plugin!r} has no connector {name!r}", name, names)
        elif plugin in brought:
            categories = [str(category) for one in brought[plugin] for category in one.categories]
            if about not in categories:
                yield _warning(place, f"plugin {plugin!r} has no task type {about!r}", about, categories)


def _warning(place: str, problem: str, name: str, known: Collection[str]) -> str:
    if near := alike(name, known):
        return f"{place}: {problem}; did you mean {near[0]!r}?"
    named = sorted(known)[:_MOST_NAMED]
    more = ", ..." if len(known) > len(named) else ""
    return f"{place}: {problem}; there are {', '.join(named) or 'none'}{more}"
