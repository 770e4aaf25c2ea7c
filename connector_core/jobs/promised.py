"""Records of promised jobs in the job memory: the creates at work on a job, then it, or the last word where there is none."""

import logging
from typing import NamedTuple, TypeAlias

from flyteidl.admin import agent_pb2

from connector_core.errors import ConnectorError
from connector_core.jobs import envelope
from connector_core.resource import Phase

_log = logging.getLogger(__name__)

_UNDER_WAY = b"?"
_DOOMED = b"x"
_META = b"="


class Pending(NamedTuple):
    """A create that has not ended.

    Attributes:
        owners: names of the creates, at this host and others, that may still come to something; none, where a DeleteTask came
            for a job of which nothing is known.
        is_doomed: whether what comes of it is to be deleted.
    """

    owners: tuple[str, ...]
    is_doomed: bool = False

    def encode(self) -> bytes:
        """Return what is remembered."""
        return (_DOOMED if self.is_doomed else _UNDER_WAY) + ",".join(self.owners).encode()

    def with_owner(self, owner: str) -> "Pending":
        """Return it with another create at work on it."""
        return self if owner in self.owners else self._replace(owners=(*self.owners, owner))

    def without_owner(self, owner: str) -> "Pending":
        """Return it without a create that has come to nothing."""
        return self._replace(owners=tuple(other for other in self.owners if other != owner))


class JobMeta(NamedTuple):
    """The resource meta of the job that a promise has become."""

    resource_meta: bytes

    def encode(self) -> bytes:
        """Return what is remembered."""
        return _META + self.resource_meta


class LastWord(NamedTuple):
    """The end of a promise that has become no job, or whose job was deleted as soon as there was one."""

    resource: agent_pb2.Resource

    def encode(self) -> bytes:
        """Return what is remembered."""
        return envelope.seal(self.resource)


Outcome: TypeAlias = JobMeta | LastWord


def outcome_of(resource_meta: bytes) -> Outcome:
    """Return what a create came to that was answered with this resource meta."""
    held = envelope.unseal(resource_meta)
    return LastWord(held) if isinstance(held, agent_pb2.Resource) else JobMeta(resource_meta)


def read(data: bytes | None) -> Pending | Outcome | None:
    """Read what is remembered; what cannot be read is absent, as if it had been evicted."""
    if data is None:
        return None
    if data.startswith(_META):
        return JobMeta(data.removeprefix(_META))
    try:
        if data.startswith((_UNDER_WAY, _DOOMED)):
            owners = data[1:].decode()
            return Pending(tuple(owners.split(",")) if owners else (), data.startswith(_DOOMED))
        held = envelope.unseal(data)
    except (ConnectorError, ValueError):
        held = None
    if isinstance(held, agent_pb2.Resource):
        return LastWord(held)
    _log.warning("unreadable record of a promised job, treated as absent: %d bytes", len(data))
    return None


def deleted() -> LastWord:
    """Return the last word of a job whose DeleteTask came before its create had ended."""
    return LastWord(agent_pb2.Resource(phase=Phase.ABORTED.value, message="it was deleted"))


def settled(found: Pending | Outcome | None, owner: str, outcome: Outcome) -> Pending | Outcome | None:
    """Return what is to be remembered once a create has ended, in place of what is found then; `None`: leave that.

    The first outcome counts. A create that came to nothing does not speak for another host's that is at work on the same
    attempt.
    """
    if found is None:
        return outcome
    if not isinstance(found, Pending):
        return None
    if isinstance(outcome, LastWord) and (others := found.without_owner(owner)).owners and not _is_deleted(outcome):
        return others
    return deleted() if found.is_doomed else outcome


def is_superfluous(found: Pending | Outcome | None, outcome: Outcome) -> bool:
    """Return whether a create's job is to be deleted, because of what is found when it has ended."""
    if not isinstance(outcome, JobMeta):
        return False
    if isinstance(found, Pending):
        return found.is_doomed
    return found is not None and found != outcome


def _is_deleted(outcome: LastWord) -> bool:
    return outcome.resource.phase == Phase.ABORTED.value
