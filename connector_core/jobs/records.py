"""What is remembered of a job that is polled."""

import base64
import json
from dataclasses import dataclass
from typing import Self

from connector_core.resource import Phase


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

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        if data is None:
            return cls()
        phase, failures, since, resource = json.loads(data.decode())  # bytes would have their encoding guessed
        return cls(phase, failures, since, None if resource is None else base64.b64decode(resource))

    @property
    def is_terminal(self) -> bool:
        return self.phase is not None and Phase(self.phase).is_terminal


@dataclass(frozen=True, slots=True)
class Known:
    """A record, and the bytes that it was read from: what has been changed since is not written over."""

    record: JobRecord
    data: bytes | None = None
