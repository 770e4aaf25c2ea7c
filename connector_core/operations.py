"""The operations that a connector may have, as one table: arguments, kinds of connectors, default deadlines."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import msgspec

Side = Literal["async", "sync"]
"""The two kinds of Flyte's connectors: jobs that go on by themselves, or one answer at once."""

_BOTH: tuple[Side, ...] = ("async", "sync")
_TASK = (
    "task_template",
    "inputs",
    "literals",
    "output_prefix",
    "task_execution_metadata",
    "idempotency_key",
    "connection",
    "custom",
)


class Kind(StrEnum):
    """The kinds of Python code that a method may be: the kind decides where it runs and whether it yields pieces."""

    COROUTINE = "coroutine"
    BLOCKING = "blocking"
    ASYNC_GENERATOR = "async generator"
    GENERATOR = "generator"

    @property
    def is_blocking(self) -> bool:
        """True if the code occupies a thread."""
        return self in _BLOCKING

    @property
    def is_stream(self) -> bool:
        """True if the code yields its answer in pieces."""
        return self in _STREAMS


_BLOCKING = frozenset({Kind.BLOCKING, Kind.GENERATOR})
_STREAMS = frozenset({Kind.ASYNC_GENERATOR, Kind.GENERATOR})


class Operation(msgspec.Struct, frozen=True):
    """One row of the table.

    Attributes:
        name: the method's name on the connector.
        arguments: what the host offers to the method, by name.
        sides: which kinds of connectors may have it.
        is_required: whether those connectors must have it.
        deadline: seconds that it may take unless settings or the author say otherwise; `None`: it is part of the
            connector's lifecycle, bounded by the setting `start_timeout`.
        streams: the kinds of generators that it may be; everything else returns one answer.
    """

    name: str
    arguments: tuple[str, ...] = ()
    sides: tuple[Side, ...] = ("async",)
    is_required: bool = False
    deadline: float | None = None
    streams: frozenset[Kind] = frozenset()


OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("create", _TASK, is_required=True, deadline=60),
        Operation("do", _TASK, sides=("sync",), is_required=True, deadline=600),
        Operation("get", ("resource_meta", "output_prefix", "connection"), is_required=True, deadline=30),
        Operation("get_many", ("resource_metas", "connections"), deadline=30),
        Operation("delete", ("resource_meta", "connection"), is_required=True, deadline=60),
        Operation(
            "get_metrics",
            ("resource_meta", "queries", "start_time", "end_time", "step"),
            deadline=30,
            streams=frozenset({Kind.GENERATOR}),
        ),
        Operation("get_logs", ("resource_meta", "lines", "token"), deadline=3600, streams=_STREAMS),
        Operation("start", sides=_BOTH),
        Operation("close", sides=_BOTH),
    )
}
"""Every operation by its name, in the order in which documents list them."""

LIFECYCLE = frozenset(name for name, operation in OPERATIONS.items() if operation.deadline is None)
"""The operations that open and close a connector; the others are calls."""


def with_deadline(side: Side) -> tuple[str, ...]:
    """Return the operations of a kind of connector that may have a deadline of their own."""
    return tuple(
        name for name, operation in OPERATIONS.items() if side in operation.sides and operation.deadline is not None
    )
