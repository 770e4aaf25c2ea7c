"""What is remembered of a job that is polled."""

import base64
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from connector_core.resource import TERMINAL_PHASES

_SHORT = 64
"""Bytes of a record without a resource; those of all jobs that run well are the same, and are read once."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What is remembered of a job: its last phase, its failures in a row and since when, its terminal resource."""

    phase: int | None = None
    failures: int = 0
    failing_since: float = 0.0
    resource: bytes | None = None

    def encode(self) -> bytes:
        resource = None if self.resource is None else base64.b64encode(self.resource).decode()
        return json.dumps([self.phase, self.failures, self.failing_since, resource]).encode()

    @staticmethod
    def decode(data: bytes | None) -> "JobRecord":
        if data is None:
            return _NOTHING
        return _decode_short(data) if len(data) <= _SHORT else _decode(data)

    @property
    def is_terminal(self) -> bool:
        return self.phase in TERMINAL_PHASES


_NOTHING = JobRecord()


def _decode(data: bytes) -> JobRecord:
    phase, failures, since, resource = json.loads(data.decode())  # bytes would have their encoding guessed
    return JobRecord(phase, failures, since, None if resource is None else base64.b64decode(resource))


_decode_short = lru_cache(1024)(_decode)


class Known(NamedTuple):
    """A record, and the bytes that it was read from: what has been changed since is not written over."""

    record: JobRecord
    data: bytes | None = None
