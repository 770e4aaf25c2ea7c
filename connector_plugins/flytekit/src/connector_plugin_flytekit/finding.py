"""The installed plugins of flytekit's, and the connectors of each."""

import importlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from importlib_metadata import version

from connector_core.connector import ConnectorBase
from connector_core.errors import PluginLoadError
from connector_core.hookspecs import Adopted, BridgedPlugin
from connector_core.plugins import InstalledPoint, entry_points_of
from connector_plugin_flytekit.containment import GROUP, contained, import_flytekit

import_flytekit()  # whatever is imported below imports it, and its plugins with it unless it is here already

from connector_plugin_flytekit.appearing import Appearance, appeared, take_stock, watching  # noqa: E402
from connector_plugin_flytekit.connectors import bridged, own_name  # noqa: E402

BUILT_IN = {"sensor": "flytekit.sensor", "webhook": "flytekit.extras.webhook"}
"""The connectors that flytekit's own server has without any plugin, by the module that registers them."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """A plugin of flytekit's: what it is called here, what to import, where it is from, and why it must not be imported."""

    name: str
    module: str
    distribution: str
    version: str
    problem: str = ""


def find_plugins() -> list[BridgedPlugin]:
    """Return every plugin of flytekit's that is installed; none of them has been imported yet."""
    origins = _origins()
    return [
        BridgedPlugin(
            origin.name,
            partial(_load, origin, origins),
            origin.distribution,
            origin.version,
            origin.module,
            "It registers no connector with flytekit.",
            partial(_importing, origin.module),
        )
        for origin in origins
    ]


@contextmanager
def adopt(module: str) -> Iterator[Adopted]:
    """Watch the import of a module, and give what belongs to it."""
    adopted = Adopted()
    with contained(), watching(module):
        yield adopted
    origins = _origins()
    found = [one for one in appeared() if _is_within(one.home, module) or one.imported == module]
    owners = {id(one): _owner(one, origins) for one in found}
    adopted.connectors.extend(_bridged(one) for one in found if owners[id(one)] is None)
    elsewhere = dict.fromkeys(f"flytekit/{owner.name}" for owner in owners.values() if owner is not None)
    if elsewhere:
        adopted.note = f"Its connectors are those of plugin {', '.join(elsewhere)}."


def _origins() -> list[_Origin]:
    points = list(dict.fromkeys(entry_points_of(GROUP).points))
    times = Counter(point.name for point in points)
    built_in = [_Origin(name, module, "flytekit", version("flytekit")) for name, module in BUILT_IN.items()]
    return built_in + [_of_entry_point(point, times[point.name] > 1 or point.name in BUILT_IN) for point in points]


def _of_entry_point(point: InstalledPoint, is_name_taken: bool) -> _Origin:
    name = f"{point.name}-{point.distribution}" if is_name_taken else point.name
    try:
        return _Origin(name, point.module, point.distribution, point.version, point.problem)
    except PluginLoadError as error:
        return _Origin(name, point.value, point.distribution, point.version, error.message)


@contextmanager
def _importing(module: str) -> Iterator[None]:
    with contained(), watching(module):
        yield


def _load(origin: _Origin, origins: Sequence[_Origin]) -> list[ConnectorBase]:
    if origin.problem:
        raise PluginLoadError(origin.problem)
    importlib.import_module(origin.module)
    take_stock(origin.module)
    return [_bridged(one) for one in appeared() if _owner(one, origins) == origin]


def _owner(one: Appearance, origins: Sequence[_Origin]) -> _Origin | None:
    """Return whose connector it is: the module of its class says so before the import in which it came along."""
    homes = [origin for origin in origins if _is_within(one.home, origin.module)]
    if homes:
        return max(homes, key=lambda origin: len(origin.module))
    return next((origin for origin in origins if origin.module == one.imported), None)


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _bridged(one: Appearance) -> ConnectorBase:
    """Make the connector the host's; one whose name an earlier one has, as flytekit allows, gets its task type added."""
    name = own_name(one.connector)
    earlier = [own_name(other.connector) for other in _before(one)]
    if name in earlier:
        name = f"{name} ({one.connector.task_category.name})"
    return bridged(one.connector, name)


def _before(one: Appearance) -> Iterator[Appearance]:
    for other in appeared():
        if other is one:
            return
        yield other
