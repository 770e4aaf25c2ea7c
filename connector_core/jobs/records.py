"""Records of polled jobs in the job memory."""

import base64
import json
import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from connector_core.resource import TERMINAL_PHASES, Phase

_log = logging.getLogger(__name__)

_SHORT = 64
"""Bytes of a record without a resource; those of all jobs that run well are the same, and are read once."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The record of a job.

    Attributes:
        phase: the last one that was answered; INITIALIZING where its create was answered and nothing since.
        failures: of its polls, in a row.
        failing_since: when the first of those was, in seconds since the epoch.
        resource: its last word, once it has one.
        shown: a resource with the log links and custom info that were answered last, for answers while it cannot be read.
    """

    phase: int | None = None
    failures: int = 0
    failing_since: float = 0.0
    resource: bytes | None = None
    shown: bytes | None = None

    def encode(self) -> bytes:
        fields = [self.phase, self.failures, self.failing_since, _text(self.resource)]
        return json.dumps(fields if self.shown is None else [*fields, _text(self.shown)]).encode()

    @staticmethod
    def decode(data: bytes | None) -> "JobRecord":
        """Read a record; one that cannot be read is absent, as one that was evicted is."""
        if data is None:
            return _NOTHING
        return _decode_short(data) if len(data) <= _SHORT else _decode(data)

    @property
    def is_terminal(self) -> bool:
        return self.phase in TERMINAL_PHASES


_NOTHING = JobRecord()


def _decode(data: bytes) -> JobRecord:
    try:
        phase, failures, since, resource, *shown = json.loads(data.decode())  # bytes would have their encoding guessed
        known = None if phase is None else Phase(phase).value
        return JobRecord(known, int(failures), float(since), _bytes(resource), _bytes(shown[0]) if shown else None)
    except (ValueError, TypeError):
        _log.warning("unreadable record of a job, treated as absent: %d bytes", len(data))
        return _NOTHING


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


_decode_short = lru_cache(1024)(_decode)


class Known(NamedTuple):
    """A record, and the bytes that it was read from: what has been changed since is not written over."""

    record: JobRecord
    data: bytes | None = None
