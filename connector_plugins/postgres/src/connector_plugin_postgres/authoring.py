"""The common part of both SDKs' task classes: a task's `custom`, and its outputs by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connector_plugin_postgres.statement import Statement

RESULT = "result"
"""The output's name where a task has a single one."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A statement as a workflow author writes it down."""

    query: str
    connection: str
    transaction: bool = True

    def to_custom(self) -> dict[str, Any]:
        """Return what the connector reads.

        Raises:
            InvalidInputError: the statement is of a kind that the connector refuses.
        """
        Statement.of(self.query)
        custom: dict[str, Any] = {"query": self.query, "connection": self.connection}
        return custom if self.transaction else {**custom, "transaction": False}


def outputs_of(output: Any) -> dict[str, Any]:
    """Return the outputs' types by name: of several, of a single one, or of none."""
    if isinstance(output, Mapping):
        return dict(output)
    return {} if output is None else {RESULT: output}
