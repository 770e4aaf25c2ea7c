"""What one connector's calls may take: time, threads and places."""

import math
from collections.abc import Mapping

import msgspec


class CallLimits(msgspec.Struct, frozen=True):
    """The limits of one connector.

    Attributes:
        deadlines: the longest time that each operation may take, in seconds.
        workers: threads for its blocking code.
        queue: calls that may wait for a thread.
        wait: seconds for which a call may wait for a thread.
        in_flight: calls of its async code that may be under way.
        in_place: whether its async code runs on the serving loop, since the operator vouches for it.
    """

    deadlines: Mapping[str, float] = msgspec.field(default_factory=dict)
    workers: int = 10
    queue: int = 1000
    wait: float = math.inf
    in_flight: int = 1000
    in_place: bool = False
