"""Resource metas of the host's own: a sync connector's result or a promise of it, a create that failed for good, a signature.

Everything else on the wire stays the plain bytes of the connector's own `encode()`, the same as today's servers write.
An envelope begins with a mark that no JSON, protobuf message or pickle begins with, then its form with a version.
"""

import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import NamedTuple

from flyteidl.admin import agent_pb2
from google.protobuf.message import DecodeError

from connector_core.errors import InvalidRequestError, InvalidResourceMetaError, PermissionDeniedError
from connector_core.resource import Phase

_MARK = b"\x00connector-host/"
_RESOURCE = b"1/resource\x00"
_PROMISE = b"1/promise\x00"
_JOB_PROMISE = b"1/job\x00"
_SIGNED = b"1/signed\x00"
_KEY_ID_BYTES = 4
_MAC_BYTES = hashlib.sha256().digest_size


class Promise(NamedTuple):
    """A promise of a sync connector's result.

    Attributes:
        attempt: the key of the attempt whose result it is.
        until: when it will have come, in seconds since the epoch.
    """

    attempt: str
    until: float


class JobPromise(NamedTuple):
    """A promise of a job whose create has not ended; from then on, it and the job's own resource meta are one job.

    Attributes:
        attempt: the key of the attempt whose job it is.
        until: when the create will have ended, in seconds since the epoch.
    """

    attempt: str
    until: float


def seal(resource: agent_pb2.Resource) -> bytes:
    """Return the resource meta that carries a job's last word: the result of a sync task, or a failed create."""
    return _MARK + _RESOURCE + resource.SerializeToString()


def seal_promise(promise: Promise | JobPromise) -> bytes:
    """Return the resource meta that carries a promise."""
    form = _JOB_PROMISE if isinstance(promise, JobPromise) else _PROMISE
    return _MARK + form + json.dumps(promise).encode()


def is_own(resource_meta: bytes) -> bool:
    """Return whether a resource meta is one of the host's own, and not of a connector."""
    return resource_meta.startswith(_MARK)


def unseal(resource_meta: bytes) -> agent_pb2.Resource | Promise | JobPromise | None:
    """Return the last word that a resource meta carries, or the promise of one; `None` for a connector's own resource meta.

    Raises:
        InvalidRequestError: it was written by a version of the host that this one does not know.
        InvalidResourceMetaError: it is damaged.
    """
    if not resource_meta.startswith(_MARK):
        return None
    body = resource_meta.removeprefix(_MARK)
    if body.startswith(_PROMISE):
        return Promise(*_promised(body.removeprefix(_PROMISE)))
    if body.startswith(_JOB_PROMISE):
        return JobPromise(*_promised(body.removeprefix(_JOB_PROMISE)))
    if not body.startswith(_RESOURCE):
        form = body.split(b"\x00", 1)[0][:40].decode(errors="replace")
        # not InvalidResourceMetaError, after which DeleteTask is answered OK at once: the job may run
        raise InvalidRequestError(
            f"the resource meta has the form {form!r}, which this host does not know: a newer one may have written it"
        )
    try:
        resource = agent_pb2.Resource.FromString(body.removeprefix(_RESOURCE))
        if Phase(resource.phase).is_terminal:
            return resource
    except (DecodeError, ValueError):
        pass
    raise InvalidResourceMetaError("the resource in the resource meta is damaged")


def _promised(body: bytes) -> tuple[str, float]:
    try:
        attempt, until = json.loads(body)
        if isinstance(attempt, str) and isinstance(until, float):
            attempt.encode()  # JSON has halves of characters, which no memory takes as a key
            return attempt, until
    except (ValueError, TypeError):
        pass
    raise InvalidResourceMetaError("the promise in the resource meta is damaged")


class Unsigned:
    """Signing is off: resource metas go out as they are, and a signature that another host made is taken off unread."""

    def sign(self, _task_type: str, resource_meta: bytes) -> bytes:
        """Return it as it is."""
        return resource_meta

    def verify(self, _task_type: str, resource_meta: bytes) -> bytes:
        """Return the resource meta without its signature, which is not verified.

        Raises:
            InvalidResourceMetaError: the signature itself is not whole.
        """
        if not resource_meta.startswith(_MARK + _SIGNED):
            return resource_meta
        head = len(_MARK + _SIGNED) + _KEY_ID_BYTES + _MAC_BYTES
        if len(resource_meta) < head:
            raise InvalidResourceMetaError("the resource meta was signed, and cut short within its signature")
        return resource_meta[head:]


class Signer:
    """Signs resource metas with HMAC-SHA256, so that plugin code sees none that this host did not write.

    Args:
        keys: the first signs, all verify; so a key is rotated by putting the new one first, and dropping the old one
            when no task of its time runs any more.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {hashlib.sha256(key).digest()[:_KEY_ID_BYTES]: key for key in keys}
        self._first = next(iter(self._keys))

    def sign(self, task_type: str, resource_meta: bytes) -> bytes:
        """Return the resource meta with its signature, which holds for this task type alone."""
        mac = _mac(self._keys[self._first], task_type, resource_meta)
        return _MARK + _SIGNED + self._first + mac + resource_meta

    def verify(self, task_type: str, resource_meta: bytes) -> bytes:
        """Return what was signed.

        Raises:
            PermissionDeniedError: it is not signed, was altered, or was signed with a key that this host does not have.
        """
        head = len(_MARK + _SIGNED)
        if not resource_meta.startswith(_MARK + _SIGNED):
            raise PermissionDeniedError("the resource meta is not signed, and this host takes only signed ones")
        key = self._keys.get(resource_meta[head : head + _KEY_ID_BYTES])
        if key is None:
            raise PermissionDeniedError("the resource meta was signed with a key that this host does not have")
        mac = resource_meta[head + _KEY_ID_BYTES : head + _KEY_ID_BYTES + _MAC_BYTES]
        signed = resource_meta[head + _KEY_ID_BYTES + _MAC_BYTES :]
        if not hmac.compare_digest(mac, _mac(key, task_type, signed)):
            raise PermissionDeniedError("the resource meta was altered after it was signed, or is of another task type")
        return signed


def _mac(key: bytes, task_type: str, resource_meta: bytes) -> bytes:
    name = task_type.encode()
    return hmac.digest(key, len(name).to_bytes(4, "big") + name + resource_meta, "sha256")
