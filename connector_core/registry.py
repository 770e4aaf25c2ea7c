"""The connectors of one host: which one serves which task category, and what runs each."""

from collections.abc import Iterator

from flyteidl.admin import agent_pb2

from connector_core.connector import ConnectorBase
from connector_core.description import EMBEDDED, ConnectorDescription, Described, PluginIdentity
from connector_core.errors import ConflictError, NotRegisteredError
from connector_core.inspection import InspectedConnector, inspect_connector
from connector_core.task import TaskCategory
from connector_core.texts import alike

_LONGEST_SHOWN = 200


class ConnectorRegistry:
    """The connectors of one host; an instance, never a global."""

    def __init__(self) -> None:
        self._by_category: dict[tuple[str, int], ConnectorDescription] = {}
        self._by_name: dict[str, Described] = {}

    def register(
        self, connector: ConnectorBase, override: bool = False, *, plugin: PluginIdentity = EMBEDDED
    ) -> ConnectorDescription:
        """Add a connector; with `override` it takes over task categories and a name that another one had.

        Raises:
            InvalidConnectorError: the connector cannot be served as it is written.
            ConflictError: another connector has its name or one of its task categories.
        """
        return self.add(inspect_connector(connector, plugin), override)

    def add(self, described: Described, override: bool = False) -> ConnectorDescription:
        """Add a connector that has been inspected already, here or in another process; as `register`."""
        if override:
            self._make_way(described.description)
        else:
            self._refuse_conflicts(described.description)
        self._put(described)
        return described.description

    def lookup(self, task_type_name: str, task_type_version: int = 0) -> ConnectorDescription:
        """Return the description of the connector that serves a task category.

        Raises:
            NotRegisteredError: nothing serves it; the message has near names and all that is served.
        """
        try:
            return self._by_category[task_type_name, task_type_version]
        except KeyError:
            requested = str(TaskCategory(task_type_name, task_type_version))
            raise NotRegisteredError(
                _not_found("no connector serves task type", requested, [str(one) for one in self._by_category])
            ) from None

    def inspected(self, description: ConnectorDescription) -> InspectedConnector:
        """Return the connector of a description, for the place that runs it.

        Raises:
            NotRegisteredError: no connector has this name any more, or its object is in another process.
        """
        described = self._named(description.name)
        if isinstance(described, InspectedConnector):
            return described
        raise NotRegisteredError(f"connector {description.name!r} is not in this process: it runs in a location")

    def described(self, description: ConnectorDescription) -> Described:
        """Return a connector, wherever it runs, for another registry.

        Raises:
            NotRegisteredError: no connector has this name any more.
        """
        return self._named(description.name)

    def get_connector(self, task_type_name: str, task_type_version: int = 0) -> ConnectorBase:
        """Return the connector of a task category.

        Raises:
            NotRegisteredError: nothing serves it.
        """
        return self.inspected(self.lookup(task_type_name, task_type_version)).connector

    get_agent = get_connector

    def get_connector_metadata(self, name: str) -> agent_pb2.Agent:
        """Return the protocol's description of the connector of this name.

        Raises:
            NotRegisteredError: no connector has it; the message has near names and all that exist.
        """
        return self._named(name).description.to_flyte()

    def list_connectors(self) -> list[agent_pb2.Agent]:
        """Return the protocol's description of every connector, in the order of registration."""
        return [description.to_flyte() for description in self]

    def __iter__(self) -> Iterator[ConnectorDescription]:
        return iter([described.description for described in self._by_name.values()])

    def __len__(self) -> int:
        return len(self._by_name)

    def _named(self, name: str) -> Described:
        try:
            return self._by_name[name]
        except KeyError:
            raise NotRegisteredError(_not_found("no connector is named", name, list(self._by_name))) from None

    def _refuse_conflicts(self, new: ConnectorDescription) -> None:
        for category in new.categories:
            if (other := self._by_category.get(category)) is not None:
                raise ConflictError(
                    f"task type {str(category)!r} is claimed by connector {new.name!r} of plugin {new.plugin} "
                    f"and by connector {other.name!r} of plugin {other.plugin}"
                )
        if (named := self._by_name.get(new.name)) is not None:
            raise ConflictError(
                f"the name {new.name!r} is claimed by a connector of plugin {new.plugin} "
                f"and by one of plugin {named.description.plugin}"
            )

    def _make_way(self, new: ConnectorDescription) -> None:
        """Take from the others what `new` overrides, so that each category is listed by the one that serves it."""
        for described in tuple(self._by_name.values()):
            other = described.description
            has_its_name = other.name == new.name
            kept = () if has_its_name else tuple(one for one in other.categories if one not in new.categories)
            if kept == other.categories:
                continue
            for category in other.categories:
                del self._by_category[category]
            if kept:
                self._put(described.described_as(categories=kept))
            else:
                del self._by_name[other.name]

    def _put(self, described: Described) -> None:
        description = described.description
        self._by_name[description.name] = described
        self._by_category.update(dict.fromkeys(description.categories, description))


def _not_found(what: str, requested: str, existing: list[str]) -> str:
    if len(requested) > _LONGEST_SHOWN:  # a client's string: looking for near names takes time by its length
        requested = f"{requested[:_LONGEST_SHOWN]}..."
    near = alike(requested, existing, 3)
    hint = f" (near names: {', '.join(map(repr, near))})" if near else ""
    return f"{what} {requested!r}{hint}; this host has {', '.join(sorted(existing)) or 'none'}"
