"""What one connector's calls may take: time, threads and places."""

from collections.abc import Mapping

import msgspec


class CallLimits(msgspec.Struct, frozen=True):
    """The limits of one connector.

    Attributes:
        deadlines: the longest time that each operation may take, in seconds.
        workers: threads for its blocking code.
        queue: calls that may wait for a thread.
        wait: seconds for which a call may wait for a thread.
        in_flight: calls of its async code that may be in flight.
        refusals: why which operations are refused, whatever they ask for.
        in_place: whether its async code runs on the serving loop, since the operator vouches for it.
    """

    deadlines: Mapping[str, float]
    workers: int
    queue: int
    wait: float
    in_flight: int
    in_place: bool = False
    refusals: Mapping[str, str] = {}
