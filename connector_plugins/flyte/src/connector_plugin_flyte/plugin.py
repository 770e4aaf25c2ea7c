"""Connectors of Flyte's SDK 2 that installed packages or the modules of --modules bring; there is none of either here."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

from importlib_metadata import EntryPoint, entry_points

from connector_core import hookimpl
from connector_core.hookspecs import Adopted, BridgedPlugin
from connector_plugin_flyte.quiet import SDK, undisturbed

if TYPE_CHECKING:
    from connector_plugin_flyte.connector import BridgedConnector
    from connector_plugin_flyte.loading import Arrivals

GROUP = "flyte.connectors"


@hookimpl
def find_bridged_plugins() -> Sequence[BridgedPlugin]:
    """Find the packages that bring connectors of the SDK; it is imported with the first of them."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    arrivals = cache(partial(_arrivals, tuple(point.module for point in points)))
    return [_bridged(point, arrivals) for point in points]


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


def _bridged(point: EntryPoint, arrivals: "Callable[[], Arrivals]") -> BridgedPlugin:
    def load() -> "list[BridgedConnector]":
        return arrivals().load(point.module, point.load)

    distribution = point.dist
    name, version = (distribution.name, distribution.version) if distribution else (None, None)
    return BridgedPlugin(point.name, load, name, version, point.value, "it registers no connector with flyte")


def _arrivals(modules: Sequence[str]) -> "Arrivals":
    with undisturbed():
        from connector_plugin_flyte.loading import Arrivals
    return Arrivals(modules)
