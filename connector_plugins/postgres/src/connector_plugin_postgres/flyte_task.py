"""The task that a workflow author writes for this connector with SDK 2; needs the extra `flyte`."""

import inspect
from collections.abc import Mapping
from typing import Any

from flyte.extend import TaskTemplate
from flyte.models import NativeInterface, SerializationContext

from connector_plugin_postgres.authoring import Declared, outputs_of


class PostgresQuery(TaskTemplate[Any, Any, Any]):
    """A statement on a database that the operator has named.

    Args:
        name: the task's name.
        query: one statement of SQL; `$NAME` stands for the input of that name, as a bound parameter.
        connection: the database's name, from the operator's `[plugins.postgres.connections.NAME]`.
        inputs: the types of the task's inputs by name.
        output: the type of the output `result`, or the types of several by name; a `DataFrame` for a table.
        transaction: `False` for a statement that refuses a transaction; it may then be done twice.
        kwargs: whatever else the SDK's tasks take, such as `retries`.
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
        interface = NativeInterface(
            inputs={key: (value, inspect.Parameter.empty) for key, value in (inputs or {}).items()},
            outputs=outputs_of(output),
        )
        super().__init__(task_type="postgres_query", name=name, interface=interface, **{"image": None, **kwargs})

    def custom_config(self, sctx: SerializationContext) -> dict[str, Any]:  # noqa: ARG002 - the SDK's signature
        """Return what the connector reads."""
        return self._declared.to_custom()
