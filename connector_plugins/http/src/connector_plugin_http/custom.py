"""Reading a task's `custom`: plain values, with whole numbers whole."""

from collections.abc import Sequence
from typing import Any

from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import Error, MessageToDict

from connector_core import InvalidInputError

# What engines of the 2.x line put there themselves.
_ENGINES_OWN = frozenset({"secrets", "configs"})
_LARGEST_WHOLE = 2**53


def custom_of(template: TaskTemplate, keys: Sequence[str]) -> dict[str, Any]:
    """Return the task's `custom`.

    Raises:
        InvalidInputError: it has keys besides those, or a number that is not finite.
    """
    try:
        custom: dict[str, Any] = whole(MessageToDict(template.custom))
    except (ValueError, Error) as error:  # NaN and infinity, which JSON has not
        raise InvalidInputError(f"custom cannot be read: {error}") from None
    if unknown := sorted(set(custom) - set(keys) - _ENGINES_OWN):
        raise InvalidInputError(f"custom has unknown keys {', '.join(unknown)}; it can have {', '.join(keys)}")
    return custom


def whole(value: Any) -> Any:
    """Return the value with whole numbers as such: the protocol's `Struct` has floats alone, and 4.0 is not an id."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_WHOLE:
        return int(value)
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return value
