"""The task of a call: its category, its identity and the key that makes its creation idempotent."""

import hashlib
import re
from typing import NamedTuple, Self

import msgspec
from flyteidl.core.identifier_pb2 import TaskExecutionIdentifier

_ENDS_IN_ATTEMPT = re.compile(r"^(?P<path>.*/)(?P<attempt>\d{1,9})$", re.DOTALL)
_EARLIER_ATTEMPTS = 20
_FIRST_ATTEMPTS = (0, 1)  # where the output prefixes of engines of the 1.x line begin to count, and of the 2.x line
_CATEGORY = re.compile(r"(?P<name>[^\s@]+)(?:@(?P<version>[0-9]+))?")


class TaskCategory(NamedTuple):
    """A task type's name and version: what the engine routes by."""

    name: str
    version: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name` or `name@version`.

        Raises:
            ValueError: the text has another form.
        """
        match = _CATEGORY.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is not a task category: write NAME or NAME@VERSION, such as 'spark' or 'spark@1'"
            )
        return cls(match["name"], int(match["version"] or 0))

    def __str__(self) -> str:
        return self.name if self.version == 0 else f"{self.name}@{self.version}"


def describe_execution(task_execution: TaskExecutionIdentifier) -> str:
    """Name a task execution in one word for logs: `project/domain/execution/node/attempt`; nothing, where it has no name."""
    node = task_execution.node_execution_id
    workflow = node.execution_id
    name = f"{workflow.project}/{workflow.domain}/{workflow.name}/{node.node_id}"
    return "" if name == "///" else f"{name}/{task_execution.retry_attempt}"


def idempotency_key(task_execution: TaskExecutionIdentifier, output_prefix: str) -> str:
    """Return 32 hexadecimal digits that are equal for two creates exactly if they are the same attempt of the same task.

    The task execution id alone is not unique: the engine does not qualify its node id by the path to the node, so that
    two uses of one sub-workflow share it. The output prefix tells them apart (it carries the node's path and ends in the
    attempt), so both are part of the key. Most backends take such a key; 32 digits also read as a UUID.
    """
    execution, prefix = task_execution.SerializeToString(deterministic=True), output_prefix.encode()
    parts = (len(execution).to_bytes(8, "big"), execution, len(prefix).to_bytes(8, "big"), prefix)
    return hashlib.sha256(b"".join(parts)).hexdigest()[:32]


class Attempt(msgspec.Struct, frozen=True):
    """The attempt of a task that a create is for.

    Attributes:
        key: its idempotency key.
        number: the attempt, from 0.
        execution: of the request.
        output_prefix: of the request.
    """

    key: str
    number: int
    execution: TaskExecutionIdentifier
    output_prefix: str

    @classmethod
    def of(cls, task_execution: TaskExecutionIdentifier, output_prefix: str) -> Self | None:
        """Return the attempt that a request is for; `None` where it says neither execution nor prefix."""
        if not output_prefix and not task_execution.ByteSize():
            return None
        key = idempotency_key(task_execution, output_prefix)
        return cls(key, task_execution.retry_attempt, task_execution, output_prefix)

    def earlier_keys(self) -> list[str]:
        """Return the keys of the same task's earlier attempts, the latest first.

        They can be told only where the output prefix ends in the attempt's number; else there are none.
        """
        if self.number == 0:
            return []
        match = _ENDS_IN_ATTEMPT.match(self.output_prefix)
        first = int(match["attempt"]) - self.number if match is not None else -1
        if match is None or first not in _FIRST_ATTEMPTS:
            return []
        keys = []
        for number in reversed(range(max(0, self.number - _EARLIER_ATTEMPTS), self.number)):
            earlier = TaskExecutionIdentifier()
            earlier.CopyFrom(self.execution)
            earlier.retry_attempt = number
            keys.append(idempotency_key(earlier, f"{match['path']}{number + first}"))
        return keys
