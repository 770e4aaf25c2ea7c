"""Finds the connectors that flytekit's plugins register; each of those plugins becomes one of the host, `flytekit/NAME`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

from connector_core import hookimpl
from connector_core.hookspecs import Adopted, BridgedPlugin


@hookimpl
def find_bridged_plugins() -> Sequence[BridgedPlugin]:
    """Bring a plugin for each entry point of `flytekit.plugins`, and for each connector that flytekit itself has."""
    from connector_plugin_flytekit.finding import find_plugins  # imports flytekit, which takes seconds

    return find_plugins()


@hookimpl
def adopt_module(module: str) -> AbstractContextManager[Adopted]:
    """Bring the connectors that a module of `--modules` registers with flytekit when it is imported."""
    from connector_plugin_flytekit.finding import adopt

    return adopt(module)
