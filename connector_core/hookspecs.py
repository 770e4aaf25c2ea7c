"""The hooks through which a plugin hands connectors to the host.

A plugin is an installed distribution with an entry point in the group `connector_core.plugins`; the entry point's value is
a module or object that carries functions marked with `@hookimpl`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec
import pluggy

from connector_core.connector import ConnectorBase

PROJECT = "connector_core"
ENTRY_POINT_GROUP = "connector_core.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class BridgedPlugin(msgspec.Struct, frozen=True):
    """A plugin of another kind of host that a bridge makes a plugin of this one.

    Attributes:
        name: its name among the bridge's; on the host it is `BRIDGE/NAME`.
        load: imports it and returns its connectors; the host calls it under a guard of its own, in a thread of its own.
        within: gives what `load` happens in; the host leaves it at the end of `load`, and in its stead where it hangs.
        distribution: the installed distribution that it comes from.
        version: that distribution's version.
        value: what is imported, for messages.
        summary: what is said of it where it brings no connector.
    """

    name: str
    load: Callable[[], Iterable[ConnectorBase]]
    distribution: str | None = None
    version: str | None = None
    value: str = ""
    summary: str = ""
    within: Callable[[], AbstractContextManager[Any]] = nullcontext


class Adopted(msgspec.Struct):
    """The foreign plugins that appeared while a bridge imported a module; `note` says why there may be nothing to serve."""

    connectors: list[ConnectorBase] = msgspec.field(default_factory=list)
    note: str = ""


@hookspec
def register_connectors(config: Mapping[str, Any], places: Sequence[str]) -> Iterable[ConnectorBase]:  # type: ignore[empty-body]
    """Return the plugin's connectors.

    `config` is its own section `[plugins.NAME]` of the settings. `places` are the URIs of files and folders that tasks may use
    whatever the section says: of `connector-host run`, what the user names in `--file` and as output prefix; else none.
    """


@hookspec
def find_bridged_plugins(config: Mapping[str, Any]) -> Iterable[BridgedPlugin]:  # type: ignore[empty-body]
    """Return plugins of another kind of host: each is loaded, named, limited and blocked as one of its own."""


@hookspec
def adopt_module(module: str) -> AbstractContextManager[Adopted]:  # type: ignore[empty-body]
    """Watch the import of a module of `--modules`, and return with its end the connectors of another kind that appeared."""
