"""Bounds on the size of answers: the engine receives 4 MiB, and keeps resource metas in its own records."""

from collections.abc import Callable

from flyteidl.admin import agent_pb2

from connector_core.description import ConnectorDescription
from connector_core.errors import ConnectorError, PermanentError
from connector_core.resource import Phase
from connector_core.texts import cut_text

LimitOf = Callable[[ConnectorDescription, str], float]

MAX_TEXT_BYTES = 16 * 1024
"""A job's message beyond this is cut: it goes into the engine's records, for people to read."""

AROUND_BYTES = 128
"""The bytes around an answer's content: the message that it travels in, and a signature."""

_MAX_CODE_BYTES = 256
_MAX_LOG_LINKS = 20


def fit(resource: agent_pb2.Resource, max_bytes: int) -> agent_pb2.Resource:
    """Return a resource that the engine can receive: without what is only nice to have, where that does not fit.

    A success whose outputs are too large becomes a failure: the engine could not read it, now or later, and would give up
    on the task without a reason.
    """
    size, room = resource.ByteSize(), max_bytes - AROUND_BYTES
    if size <= min(room, MAX_TEXT_BYTES // 4):  # nearly all are some bytes
        return resource
    if len(resource.message) > MAX_TEXT_BYTES // 4:
        resource.message = cut_text(resource.message, MAX_TEXT_BYTES)
        size = resource.ByteSize()
    if size <= room:
        return resource
    resource.ClearField("custom_info")
    del resource.log_links[_MAX_LOG_LINKS:]
    if resource.ByteSize() > room:
        resource.ClearField("log_links")
    if len(resource.agent_error.code) > _MAX_CODE_BYTES // 4:
        resource.agent_error.code = cut_text(resource.agent_error.code, _MAX_CODE_BYTES)
    size = resource.ByteSize()
    if size <= room:
        return resource
    if resource.phase != Phase.SUCCEEDED.value:
        resource.ClearField("outputs")
        return resource
    text = (
        f"the outputs make an answer of {size + AROUND_BYTES:,} bytes, and the engine receives {max_bytes:,} at the most "
        "(setting max_answer_bytes, and the engine's own limit beside it): "
        "let the connector write large outputs under the output prefix and return where they are"
    )
    return failed(PermanentError(text, error_code="OutputsTooLarge"))


def failed(error: ConnectorError) -> agent_pb2.Resource:
    """Return the resource of a job that has failed for good."""
    resource = agent_pb2.Resource(phase=Phase.FAILED.value, message=cut_text(_text(error), MAX_TEXT_BYTES))
    code = error.error_code or type(error).__name__.removesuffix("Error")
    resource.agent_error.code = cut_text(code, _MAX_CODE_BYTES)
    resource.agent_error.kind = agent_pb2.AgentError.NON_RECOVERABLE
    return resource


def _text(error: ConnectorError) -> str:
    where = f"plugin {error.plugin!r}, {error.operation}(): " if error.plugin and error.operation else ""
    return f"{where}{error.message or type(error).__name__}"
