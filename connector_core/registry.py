"""Which connector serves which task category, with what was found out about it at registration."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from reprlib import repr as shown
from typing import Any

import msgspec
from flyteidl.admin import agent_pb2
from msgspec.structs import replace

from connector_core.connector import (
    AsyncConnectorBase,
    ConnectorBase,
    SyncConnectorBase,
    categories_of,
    metadata_type_of,
)
from connector_core.errors import (
    ConflictError,
    InvalidConnectorError,
    NotRegisteredError,
    UnsupportedOperationError,
)
from connector_core.likeness import alike
from connector_core.operations import DEADLINES, Operation, inspect_operations
from connector_core.resource import ResourceMeta
from connector_core.task import TaskCategory


class PluginIdentity(msgspec.Struct, frozen=True):
    """Where a connector comes from: the plugin's name, and its distribution where it was installed as one.

    `bridge` is the name of the plugin that made it one of this host, where it was written for another.
    """

    name: str
    distribution: str | None = None
    version: str | None = None
    bridge: str | None = None

    def __str__(self) -> str:
        if self.distribution is None:
            return f"{self.name!r}"
        return f"{self.name!r} (distribution {self.distribution} {self.version})"


_LONGEST_SHOWN = 200

EMBEDDED = PluginIdentity("embedded")
"""The plugin of connectors that a program registers by itself."""


class RegisteredConnector(msgspec.Struct, frozen=True, eq=False, dict=True):
    """A connector, its plugin, and all that was found out about it when it was registered."""

    connector: ConnectorBase
    name: str
    plugin: PluginIdentity
    categories: tuple[TaskCategory, ...]
    operations: Mapping[str, Operation]
    metadata_type: type[ResourceMeta] | None
    min_poll_interval: float = 0
    deadlines: Mapping[str, float] = msgspec.field(default_factory=dict)

    @cached_property
    def is_sync(self) -> bool:
        """Whether it answers in one `do`."""
        return isinstance(self.connector, SyncConnectorBase)

    def operation(self, name: str) -> Operation:
        """Return one of the connector's operations.

        Raises:
            UnsupportedOperationError: the connector does not have it.
        """
        try:
            return self.operations[name]
        except KeyError:
            raise UnsupportedOperationError(
                f"connector {self.name!r} of plugin {self.plugin.name!r} has no {name}(); "
                f"it has {', '.join(sorted(self.operations))}",
                plugin=self.plugin.name,
                operation=name,
            ) from None

    def to_flyte(self) -> agent_pb2.Agent:
        """Return the protocol's description.

        Both lists are filled, because engines before 1.13 read the first and later ones the second.
        """
        return agent_pb2.Agent(
            name=self.name,
            is_sync=self.is_sync,
            supported_task_types=list(dict.fromkeys(category.name for category in self.categories)),
            supported_task_categories=[
                agent_pb2.TaskCategory(name=category.name, version=category.version) for category in self.categories
            ],
        )


class ConnectorRegistry:
    """The connectors of one host; an instance, never a global."""

    def __init__(self) -> None:
        self._by_category: dict[tuple[str, int], RegisteredConnector] = {}
        self._by_name: dict[str, RegisteredConnector] = {}

    def register(
        self, connector: ConnectorBase, override: bool = False, *, plugin: PluginIdentity = EMBEDDED
    ) -> RegisteredConnector:
        """Add a connector; with `override` it takes over task categories and a name that another one had.

        Raises:
            InvalidConnectorError: the connector cannot be served as it is written.
            ConflictError: another connector has its name or one of its task categories.
        """
        return self.add(inspect_connector(connector, plugin), override)

    def add(self, entry: RegisteredConnector, override: bool = False) -> RegisteredConnector:
        """Add a connector that has been inspected already; as `register`."""
        if override:
            self._make_way(entry)
        else:
            self._refuse_conflicts(entry)
        self._put(entry)
        return entry

    def lookup(self, task_type_name: str, task_type_version: int = 0) -> RegisteredConnector:
        """Return what serves a task category.

        Raises:
            NotRegisteredError: nothing does; the message has near names and all that is served.
        """
        try:
            return self._by_category[task_type_name, task_type_version]
        except KeyError:
            wanted = str(TaskCategory(task_type_name, task_type_version))
            raise NotRegisteredError(
                _not_found("no connector serves task type", wanted, [str(one) for one in self._by_category])
            ) from None

    def get_connector(self, task_type_name: str, task_type_version: int = 0) -> ConnectorBase:
        """Return the connector of a task category.

        Raises:
            NotRegisteredError: nothing serves it.
        """
        return self.lookup(task_type_name, task_type_version).connector

    get_agent = get_connector

    def get_connector_metadata(self, name: str) -> agent_pb2.Agent:
        """Return the protocol's description of the connector of this name.

        Raises:
            NotRegisteredError: there is none; the message has near names and all that exist.
        """
        try:
            return self._by_name[name].to_flyte()
        except KeyError:
            raise NotRegisteredError(_not_found("no connector is named", name, list(self._by_name))) from None

    def list_connectors(self) -> list[agent_pb2.Agent]:
        """Return the protocol's description of every connector, in the order of registration."""
        return [entry.to_flyte() for entry in self]

    def __iter__(self) -> Iterator[RegisteredConnector]:
        return iter(tuple(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)

    def _refuse_conflicts(self, entry: RegisteredConnector) -> None:
        for category in entry.categories:
            if (other := self._by_category.get(category)) is not None:
                raise ConflictError(
                    f"task type {str(category)!r} is claimed by connector {entry.name!r} of plugin {entry.plugin} "
                    f"and by connector {other.name!r} of plugin {other.plugin}"
                )
        if (other := self._by_name.get(entry.name)) is not None:
            raise ConflictError(
                f"the name {entry.name!r} is claimed by a connector of plugin {entry.plugin} "
                f"and by one of plugin {other.plugin}"
            )

    def _make_way(self, entry: RegisteredConnector) -> None:
        """Take from the others what `entry` overrides, so that each category is listed by the one that serves it."""
        for other in self:
            has_its_name = other.name == entry.name
            kept = () if has_its_name else tuple(one for one in other.categories if one not in entry.categories)
            if kept == other.categories:
                continue
            for category in other.categories:
                del self._by_category[category]
            if kept:
                self._put(replace(other, categories=kept))
            else:
                del self._by_name[other.name]

    def _put(self, entry: RegisteredConnector) -> None:
        self._by_name[entry.name] = entry
        self._by_category.update(dict.fromkeys(entry.categories, entry))


def inspect_connector(connector: Any, plugin: PluginIdentity = EMBEDDED) -> RegisteredConnector:
    """Find out about a connector all that serving it needs.

    Raises:
        InvalidConnectorError: naming plugin, class and what is wrong.
    """
    if not isinstance(connector, AsyncConnectorBase | SyncConnectorBase):
        what = f"the class {connector.__name__}; make an instance" if isinstance(connector, type) else repr(connector)
        raise InvalidConnectorError(
            f"plugin {plugin} brings {what}: not an AsyncConnectorBase or SyncConnectorBase", plugin=plugin.name
        )
    try:
        categories = categories_of(connector)
        entry = RegisteredConnector(
            connector=connector,
            name=_name(connector),
            plugin=plugin,
            categories=tuple(dict.fromkeys(categories)),
            operations=inspect_operations(connector),
            metadata_type=metadata_type_of(connector) if isinstance(connector, AsyncConnectorBase) else None,
            min_poll_interval=_min_poll_interval(connector),
            deadlines=_deadlines(connector),
        )
        _refuse_unlistable(entry)
        return entry
    except InvalidConnectorError as error:
        raise InvalidConnectorError(f"plugin {plugin}: {error.message}", plugin=plugin.name) from error


def _name(connector: ConnectorBase) -> str:
    name = getattr(connector, "name", None)
    if not isinstance(name, str) or not name:
        where = f"{type(connector).__module__}.{type(connector).__qualname__}"
        raise InvalidConnectorError(f"{where} has no name: set `name`")
    return name


def _min_poll_interval(connector: ConnectorBase) -> float:
    interval = getattr(connector, "min_poll_interval", 0)
    if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 <= interval < float("inf"):
        raise InvalidConnectorError(f"min_poll_interval is {interval!r}; it is a number of seconds, 0 or more")
    return interval


def _deadlines(connector: ConnectorBase) -> Mapping[str, float]:
    given: object = connector.deadlines
    where = f"connector {_name(connector)!r}: deadlines"
    if not isinstance(given, Mapping):
        raise InvalidConnectorError(
            f'{where} is {shown(given)}; write operations with their seconds: {{"create": 120}}'
        )
    known = DEADLINES["sync" if isinstance(connector, SyncConnectorBase) else "async"]
    for name, seconds in given.items():
        if name not in known:
            raise InvalidConnectorError(
                f"{where} has {shown(name)}, which is no operation that may have one here: {', '.join(known)}"
            )
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
            raise InvalidConnectorError(
                f"{where}[{name!r}] is {shown(seconds)}; it is a number of seconds above 0, and not without end"
            )
    return dict(given)


def _refuse_unlistable(entry: RegisteredConnector) -> None:
    """All connectors go into one answer of ListAgents, so none of them may spoil it."""
    try:
        entry.to_flyte()
    except (TypeError, ValueError) as error:
        raise InvalidConnectorError(f"connector {entry.name!r} cannot be listed: {error}") from error


def _not_found(what: str, wanted: str, existing: list[str]) -> str:
    if len(wanted) > _LONGEST_SHOWN:  # a client's string: looking for near names takes time by its length
        wanted = f"{wanted[:_LONGEST_SHOWN]}..."
    near = alike(wanted, existing, 3)
    hint = f" (near names: {', '.join(map(repr, near))})" if near else ""
    return f"{what} {wanted!r}{hint}; this host has {', '.join(sorted(existing)) or 'none'}"
