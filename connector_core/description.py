"""Descriptions of connectors: values that print, travel as JSON and compare, without the connector itself."""

from collections.abc import Mapping
from typing import Any, Protocol, Self

import msgspec
from flyteidl.admin import agent_pb2
from msgspec.structs import replace

from connector_core.errors import UnsupportedOperationError
from connector_core.operations import Kind, Side
from connector_core.task import TaskCategory


class PluginIdentity(msgspec.Struct, frozen=True):
    """The origin of a connector: the plugin's name, and its distribution where it was installed as one.

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


EMBEDDED = PluginIdentity("embedded")
"""The plugin of connectors that a program registers by itself."""


class ConnectorDescription(msgspec.Struct, frozen=True, dict=True):
    """A connector as everything but the place that runs it knows it.

    `msgspec.json.encode` writes it and `msgspec.json.decode(data, type=ConnectorDescription)` reads it again.

    Attributes:
        name: what people call the connector; unique on a host.
        plugin: the plugin that brings it.
        categories: the task categories that it serves, without repetitions.
        side: `async` or `sync`, in Flyte's sense.
        operations: the operations that it has, each with the kind of its code.
        deadlines: seconds by operation, where its author sets them.
        min_poll_interval: seconds within which a job's last answer is given again without asking the connector.
        risk: what every caller can make it do to others; empty where nothing is known.
        risk_in_get: whether a resource meta is enough for that.
        metadata_risk: what a forged resource meta could make of the connector; empty where nothing is known.
        implementation: the class, as `MODULE:QUALIFIED_NAME`.
        given_name: the name that its author gave it; `name` has more where two plugins use one name.
    """

    name: str
    plugin: PluginIdentity
    categories: tuple[TaskCategory, ...]
    side: Side
    operations: Mapping[str, Kind]
    deadlines: Mapping[str, float] = msgspec.field(default_factory=dict)
    min_poll_interval: float = 0
    risk: str = ""
    risk_in_get: bool = False
    metadata_risk: str = ""
    implementation: str = ""
    given_name: str = ""

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def is_sync(self) -> bool:
        """True if it answers in one `do`."""
        return self.side == "sync"

    @property
    def origin(self) -> tuple[str, str]:
        """The plugin's name, and the name that the connector has within its plugin."""
        return self.plugin.name, self.given_name or self.name

    @property
    def module(self) -> str:
        """The module of its class."""
        return self.implementation.partition(":")[0]

    def require(self, operation: str) -> None:
        """Refuse an operation that the connector does not have.

        Raises:
            UnsupportedOperationError: naming those that it has.
        """
        if operation not in self.operations:
            plugin = self.plugin.name
            raise UnsupportedOperationError(
                f"connector {self.name!r} of plugin {plugin!r} has no {operation}(); "
                f"it has {', '.join(sorted(self.operations))}",
                plugin=plugin,
                operation=operation,
            )

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


class Described(Protocol):
    """A connector as a registry keeps it: in this process, or a description of one that runs elsewhere."""

    @property
    def description(self) -> ConnectorDescription:
        """The connector's description, which everything but the place that runs it works with."""

    def described_as(self, **changes: Any) -> Self:
        """Return the same connector with some of its description replaced."""


class LocatedConnector(msgspec.Struct, frozen=True, eq=False):
    """A connector whose object is in another process."""

    description: ConnectorDescription

    def described_as(self, **changes: Any) -> "LocatedConnector":
        """Return the same connector with some of its description replaced."""
        return replace(self, description=replace(self.description, **changes))
