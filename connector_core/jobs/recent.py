"""The last answers of jobs that are not to be asked for more often than every so many seconds."""

import time
from collections.abc import Callable

from cachetools import TLRUCache
from flyteidl.admin import agent_pb2

_MAX_BYTES = 64 * 1024 * 1024
_MAX_ANSWER_BYTES = 64 * 1024

_Answer = tuple[agent_pb2.Resource, float, int]


class RecentAnswers:
    """Keeps each answer until its time is over, and no more than 64 MiB of them; an answer over 64 KiB is not kept."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._answers: TLRUCache[bytes, _Answer] = TLRUCache(
            _MAX_BYTES, ttu=lambda _job, answer, now: now + answer[1], timer=clock, getsizeof=lambda answer: answer[2]
        )

    def get(self, job: bytes) -> agent_pb2.Resource | None:
        """Return a job's last answer, if its time is not over."""
        answer = self._answers.get(job)
        return None if answer is None else answer[0]

    def keep(self, job: bytes, resource: agent_pb2.Resource, seconds: float) -> None:
        """Keep an answer for so long."""
        if seconds and (size := resource.ByteSize()) <= _MAX_ANSWER_BYTES:
            self._answers[job] = (resource, seconds, size + 1000)  # and what Python keeps around it, roughly

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._answers)
