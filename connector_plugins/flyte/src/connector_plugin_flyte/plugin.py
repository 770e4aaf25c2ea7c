"""Connectors of Flyte's SDK 2 that installed packages or the modules of --modules bring; there is none of either here."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

from connector_core import hookimpl
from connector_core.hookspecs import Adopted, BridgedPlugin
from connector_core.plugins import InstalledPoint, entry_points_of
from connector_plugin_flyte.quiet import SDK, undisturbed

if TYPE_CHECKING:
    from connector_plugin_flyte.connector import BridgedConnector
    from connector_plugin_flyte.loading import Arrivals

GROUP = "flyte.connectors"


@hookimpl
def find_bridged_plugins() -> Sequence[BridgedPlugin]:
    """Find the packages that bring connectors of the SDK; it is imported with the first of them."""
    points = entry_points_of(GROUP).points
    arrivals = cache(partial(_arrivals, tuple(point.value.split(":")[0].strip() for point in points)))
    times = Counter(point.name for point in points)
    return [_bridged(point, arrivals, times[point.name] > 1) for point in points]


@hookimpl
@contextmanager
def adopt_module(module: str) -> Iterator[Adopted]:  # noqa: ARG001 - the hook's argument
    """Give what a module registers with the SDK; a module that does not import the SDK does not pay for it."""
    adopted = Adopted()
    if SDK in sys.modules:
        from connector_plugin_flyte.loading import bridged, registered

        with registered() as found:
            yield adopted
        adopted.connectors += bridged(found)
        return
    with undisturbed():
        yield adopted
    if SDK in sys.modules:
        from connector_plugin_flyte.loading import bridged, everything

        adopted.connectors += bridged(everything())


def _bridged(point: InstalledPoint, arrivals: "Callable[[], Arrivals]", is_name_taken: bool) -> BridgedPlugin:
    def load() -> "list[BridgedConnector]":
        return arrivals().load(point.module, point.load)

    name = f"{point.name}-{point.distribution}" if is_name_taken else point.name
    summary = "it registers no connector with flyte"
    return BridgedPlugin(name, load, point.distribution, point.version, point.value, summary, _kept_apart)


@contextmanager
def _kept_apart() -> Iterator[None]:
    """Import the SDK, or what uses it, in here: the process stays as it was, and the SDK's registry is empty before."""
    if SDK in sys.modules:
        from connector_plugin_flyte.loading import registered

        with registered():
            yield
        return
    with undisturbed():
        yield


def _arrivals(modules: Sequence[str]) -> "Arrivals":
    from connector_plugin_flyte.loading import Arrivals

    return Arrivals(modules)
