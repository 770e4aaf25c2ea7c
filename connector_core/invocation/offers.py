"""A call as a value: the arguments that the host offers to a connector's method, each computed on demand."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core.connection import Connection
from connector_core.inspection import Method
from connector_core.literals import to_python_dict, to_python_map
from connector_core.resource_meta import ResourceMeta
from connector_core.task import Attempt

NO_CONNECTION = Connection()
"""The connection of callers that send none, as engines of the 1.x line."""


class Offer:
    """The offer to one operation; each argument of the operation is an attribute of the same name.

    An attribute that costs something is a property, so it is worked out in the place that runs the method, and only for a
    method that names it.
    """

    __slots__ = ()

    @property
    def template(self) -> TaskTemplate | None:
        """The task template, where the call brings one: it declares the types of outputs."""
        return None

    def arguments(self, method: Method, _metadata_type: type[ResourceMeta] | None) -> dict[str, Any]:
        """Return the arguments that a method names.

        Args:
            method: the method.
            _metadata_type: the connector's type of resource metas, whose decoding may be the plugin's code.

        Raises:
            LiteralError: an input has no Python value.
            InvalidResourceMetaError: the resource meta is not one of this connector.
        """
        return {name: getattr(self, name) for name in method.wanted}


NOTHING = Offer()
"""The offer to `start` and `close`."""


class TaskOffer(Offer):
    """A task to be run: offered to `create` and `do`.

    Args:
        message: the request, or the header of one.
        literals: the inputs.
        connection: what the caller brings for the backend.
        attempt: the attempt that the request is for, where that is known already.
        key: the attempt's idempotency key, where another process has worked it out.
    """

    __slots__ = ("_key", "attempt", "connection", "literals", "message")

    def __init__(
        self,
        message: agent_pb2.CreateTaskRequest | agent_pb2.CreateRequestHeader,
        literals: LiteralMap,
        connection: Connection = NO_CONNECTION,
        attempt: Attempt | None = None,
        key: str = "",
    ) -> None:
        self.message = message
        self.literals = literals
        self.connection = connection
        self.attempt = attempt
        self._key = key

    @property
    def template(self) -> TaskTemplate:
        """The task template."""
        return self.message.template

    task_template = template

    @property
    def custom(self) -> dict[str, Any]:
        """The template's `custom` as a dict, in which whole numbers are ints."""
        return to_python_dict(self.message.template.custom)

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs as Python values by name."""
        return to_python_map(self.literals)

    @property
    def output_prefix(self) -> str:
        """The place for outputs in the engine's storage."""
        return self.message.output_prefix

    @property
    def task_execution_metadata(self) -> agent_pb2.TaskExecutionMetadata:
        """The metadata of the task execution: its identity, labels and owner."""
        return self.message.task_execution_metadata

    @property
    def idempotency_key(self) -> str:
        """The attempt's key; a key of its own for a request that does not say which task it is for."""
        if not self._key:
            execution = self.message.task_execution_metadata.task_execution_id
            attempt = self.attempt or Attempt.of(execution, self.message.output_prefix)
            self._key = attempt.key if attempt is not None else uuid.uuid4().hex
        return self._key


class JobOffer(Offer):
    """A job that exists: offered to `get`, `delete`, `get_metrics` and `get_logs`.

    Args:
        resource_meta: the connector's own bytes.
        connection: what the caller brings for the backend.
        output_prefix: the place for outputs in the engine's storage; empty where the request has none.
        details: what one operation is offered besides, by argument.
    """

    __slots__ = ("connection", "details", "output_prefix", "resource_meta")

    def __init__(
        self,
        resource_meta: bytes,
        connection: Connection = NO_CONNECTION,
        output_prefix: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.resource_meta = resource_meta
        self.connection = connection
        self.output_prefix = output_prefix
        self.details = details

    def arguments(self, method: Method, metadata_type: type[ResourceMeta] | None) -> dict[str, Any]:
        """Return the arguments that a method names; the resource meta decoded."""
        chosen: dict[str, Any] = {}
        for name in method.wanted:
            if name == "resource_meta":
                chosen[name] = self.resource_meta if metadata_type is None else metadata_type.decode(self.resource_meta)
            elif self.details is not None and name in self.details:
                chosen[name] = self.details[name]
            else:
                chosen[name] = getattr(self, name)
        return chosen

    def of(self, resource_meta: bytes) -> "JobOffer":
        """Return the same offer for the bytes that were within a signature."""
        if resource_meta is self.resource_meta:
            return self
        return JobOffer(resource_meta, self.connection, self.output_prefix, self.details)


class ManyOffer(Offer):
    """The jobs of one batch: offered to `get_many`.

    Args:
        resource_metas: the connector's own bytes for each job.
        connections: what was brought for each.

    Attributes:
        failed: by position, why a resource meta could not be decoded; its job is left out of what the method gets.
    """

    __slots__ = ("_connections", "_resource_metas", "failed")

    def __init__(self, resource_metas: Sequence[bytes], connections: Sequence[Connection]) -> None:
        self._resource_metas = resource_metas
        self._connections = connections
        self.failed: dict[int, Exception] = {}

    def arguments(self, method: Method, metadata_type: type[ResourceMeta] | None) -> dict[str, Any]:
        """Return the arguments that a method names: lists of one length, of the jobs that can be decoded."""
        assert metadata_type is not None  # noqa: S101 - only async connectors have get_many
        metas, connections = [], []
        for position, (data, connection) in enumerate(zip(self._resource_metas, self._connections, strict=True)):
            try:
                metas.append(metadata_type.decode(data))
            except Exception as error:  # noqa: BLE001 - a decode of the plugin's own may raise anything
                self.failed[position] = error
            else:
                connections.append(connection)
        offered = {"resource_metas": metas, "connections": connections}
        return {name: offered[name] for name in method.wanted}
