"""The task that a workflow author writes for this connector; needs the extra `flytekit`."""

from collections.abc import Mapping
from typing import Any

from flytekit.configuration import SerializationSettings
from flytekit.core.base_task import PythonTask
from flytekit.core.interface import Interface

from connector_plugin_postgres.authoring import Declared, outputs_of


class PostgresQuery(PythonTask[None]):
    """A statement on a database that the operator has named.

    Args:
        name: the task's name.
        query: one statement of SQL; `$NAME` stands for the input of that name, as a bound parameter.
        connection: the database's name, from the operator's `[plugins.postgres.connections.NAME]`.
        inputs: the types of the task's inputs by name.
        output: the type of the output `result`, or the types of several by name; a `StructuredDataset` for a table.
        transaction: `False` for a statement that refuses a transaction; it may then be done twice.
        kwargs: whatever else flytekit's tasks take, such as `metadata`.
    """

    def __init__(
        self,
        name: str,
        query: str,
        connection: str,
        *,
        inputs: Mapping[str, type] | None = None,
        output: Any = None,
        transaction: bool = True,
        **kwargs: Any,
    ) -> None:
        self._declared = Declared(query, connection, transaction)
        interface = Interface(inputs=dict(inputs or {}), outputs=outputs_of(output))
        super().__init__(task_type="postgres_query", name=name, task_config=None, interface=interface, **kwargs)

    def get_custom(self, settings: SerializationSettings) -> dict[str, Any]:  # noqa: ARG002 - flytekit's signature
        """Return what the connector reads."""
        return self._declared.to_custom()
