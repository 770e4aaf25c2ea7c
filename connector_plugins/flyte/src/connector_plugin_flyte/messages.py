"""Messages of the protocol's two generations, turned into each other.

The second kept the first one's field numbers, and lists of named values where the first has maps are the same on the wire. So
a message goes over as its bytes, and fields that only one generation knows stay in it, unread, on the way there and back.
"""

from typing import TypeVar

from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl2.task.common_pb2 import Inputs
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


def as_message(message_type: type[M], message: Message) -> M:
    """Return a message of one generation as its counterpart of the other."""
    return message_type.FromString(message.SerializeToString(deterministic=True))


def as_inputs(literals: LiteralMap) -> Inputs:
    """Return literals by name as the second generation's list of named literals."""
    return as_message(Inputs, literals)
