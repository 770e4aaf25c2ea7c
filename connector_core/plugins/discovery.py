"""Installed entry points and named modules, found without importing any."""

import importlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from importlib_metadata import EntryPoint, distributions, entry_points

from connector_core.errors import ConflictError
from connector_core.hookspecs import ENTRY_POINT_GROUP
from connector_core.registry import PluginIdentity
from connector_core.settings import Settings


class PluginSource(msgspec.Struct, frozen=True):
    """A plugin that could be loaded: who it is, and how to get the object that carries its hooks."""

    identity: PluginIdentity
    value: str
    load: Callable[[], Any]
    is_module: bool = False


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
    name, version = _name_and_version(point.dist) if point.dist else (None, None)
    return PluginSource(PluginIdentity(point.name, name, version), point.value, point.load)


def _name_and_version(distribution: Any) -> tuple[str, str]:
    """Return what the head of its metadata says, without the parser of mails, which reads a README to its end as well."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    head = dict(line.split(": ", 1) for line in text.partition("\n\n")[0].splitlines() if ": " in line)
    if "Name" in head and "Version" in head:
        return head["Name"].strip(), head["Version"].strip()
    return distribution.name, distribution.version


def module_plugin(module: str) -> PluginSource:
    """Return the plugin that a module named with `--modules` is; nothing is imported yet."""
    return PluginSource(PluginIdentity(module), module, lambda: importlib.import_module(module), is_module=True)


def plugin_sources(settings: Settings) -> list[PluginSource]:
    """Find the installed plugins and the modules that the settings name; nothing is imported yet."""
    return [*installed_plugins(), *(module_plugin(module) for module in settings.modules)]
