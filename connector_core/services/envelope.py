"""A resource meta of the host's own, for a sync connector that the engine calls as an async one.

The engine calls statically configured task types and its default connector with CreateTask and GetTask, whatever they are.
A sync connector has its result at once, so it travels in the resource meta. Everything else on the wire stays the plain
bytes of the connector's own `encode()`.
"""

from flyteidl.admin import agent_pb2
from google.protobuf.message import DecodeError

from connector_core.errors import InvalidResourceMetaError

_MARK = b"\x00connector-host/"
_RESULT = b"1/result\x00"


def seal(resource: agent_pb2.Resource) -> bytes:
    """Return the resource meta that carries a result."""
    return _MARK + _RESULT + resource.SerializeToString()


def unseal(resource_meta: bytes) -> agent_pb2.Resource:
    """Return the result that a resource meta carries.

    Raises:
        InvalidResourceMetaError: it carries none, or was written by a version of the host that this one does not know.
    """
    if not resource_meta.startswith(_MARK):
        raise InvalidResourceMetaError("the resource meta of a sync connector carries its result; this one does not")
    body = resource_meta.removeprefix(_MARK)
    if not body.startswith(_RESULT):
        form = body.split(b"\x00", 1)[0][:40].decode(errors="replace")
        raise InvalidResourceMetaError(
            f"the resource meta has the form {form!r}, which this host does not know: a newer one may have written it"
        )
    try:
        return agent_pb2.Resource.FromString(body.removeprefix(_RESULT))
    except DecodeError:
        raise InvalidResourceMetaError("the result in the resource meta is damaged") from None
