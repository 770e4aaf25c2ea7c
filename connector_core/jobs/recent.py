"""The last answers of jobs with a minimum poll interval."""

import time
from collections.abc import Callable
from typing import NamedTuple

from flyteidl.admin import agent_pb2

_MAX_BYTES = 64 * 1024 * 1024
_MAX_ANSWER_BYTES = 64 * 1024

_AROUND_ANSWER = 1000
"""Bytes that Python keeps around an answer, roughly."""


class _Answer(NamedTuple):
    resource: agent_pb2.Resource
    ends: float
    takes: int


class RecentAnswers:
    """Keeps each answer until its time is over, and no more than 64 MiB of them; an answer over 64 KiB is not kept.

    The one that was kept first goes first, and with it those behind it whose time is over.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._room = _MAX_BYTES
        self._answers: dict[bytes, _Answer] = {}

    def get(self, job: bytes) -> agent_pb2.Resource | None:
        """Return a job's last answer, if its time is not over."""
        answer = self._answers.get(job)
        return None if answer is None or answer.ends <= self._clock() else answer.resource

    def keep(self, job: bytes, resource: agent_pb2.Resource, seconds: float) -> None:
        """Keep an answer for so long."""
        if not seconds or (size := resource.ByteSize()) > _MAX_ANSWER_BYTES:
            return
        now = self._clock()
        self._forget(job)  # so that it becomes the last
        self._answers[job] = _Answer(resource, now + seconds, size + _AROUND_ANSWER)
        self._room -= size + _AROUND_ANSWER
        while self._answers:
            first = next(iter(self._answers))
            if self._room >= 0 and self._answers[first].ends > now:
                return
            self._forget(first)

    def _forget(self, job: bytes) -> None:
        if (answer := self._answers.pop(job, None)) is not None:
            self._room += answer.takes

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._answers)
