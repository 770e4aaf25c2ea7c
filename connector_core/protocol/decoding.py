"""Raw requests to messages and what they are about: the one place where bad ones are refused."""

from datetime import UTC, datetime, timedelta
from typing import TypeVar

from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from connector_core.errors import InvalidRequestError

M = TypeVar("M", bound=Message)

_INPUTS = bytes([agent_pb2.CreateTaskRequest.INPUTS_FIELD_NUMBER << 3 | 2])
_LONGEST_LENGTH = 6


def decode(message_type: type[M], raw: bytes) -> M:
    """Parse a message.

    Raises:
        InvalidRequestError: the bytes are not such a message.
    """
    try:
        return message_type.FromString(raw)
    except DecodeError as error:
        name = message_type.DESCRIPTOR.full_name
        raise InvalidRequestError(f"the request's {len(raw)} bytes are not a {name}: {error}") from None


def category_of(request: object) -> tuple[str, int]:
    """Return the task type's name and version that a request is about.

    Engines before 1.13 fill `task_type` alone.

    Raises:
        InvalidRequestError: it names none.
    """
    category: agent_pb2.TaskCategory = request.task_category  # type: ignore[attr-defined] # five messages, one shape
    name = category.name or request.task_type  # type: ignore[attr-defined] # the same
    if not name:
        raise InvalidRequestError("the request names no task type: fill task_category.name")
    return name, category.version


def category_of_template(template: TaskTemplate) -> tuple[str, int]:
    """Return the task type's name and version that a template is of.

    Raises:
        InvalidRequestError: it names none.
    """
    if not (name := template.type):
        raise InvalidRequestError("the request names no task type: fill template.type")
    return name, template.task_type_version


def size_of_inputs(raw: bytes, inputs: LiteralMap) -> int:
    """Return how many bytes a create's inputs take, without writing them to see.

    They are a request's first field, whose length is there to be read; what wrote the fields in another order is asked.
    """
    if raw[:1] != _INPUTS:
        return inputs.ByteSize()
    size = 0
    for place, byte in enumerate(raw[1:_LONGEST_LENGTH]):
        size |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            break
    return size


def moment(timestamp: Timestamp) -> datetime:
    """Return a timestamp as an aware datetime.

    Raises:
        InvalidRequestError: it is outside of the years 1 to 9999.
    """
    try:
        return timestamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError(f"a timestamp cannot be used: {error}") from None


def span(duration: Duration) -> timedelta:
    """Return a duration.

    Raises:
        InvalidRequestError: it is out of range.
    """
    try:
        return duration.ToTimedelta()
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError(f"a duration cannot be used: {error}") from None
