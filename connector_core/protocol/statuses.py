"""The one table from errors to gRPC status codes, and the text that goes with them."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status as RichStatus
from grpc import StatusCode

from connector_core import errors
from connector_core.protocol.foreign_codes import foreign_code
from connector_core.texts import cut_header

_RICH_STATUS = "grpc-status-details-bin"
_RICH_MESSAGE_BYTES = 1024

GIVEN_UP = "connector-host-delete"
"""The trailing metadata of a DeleteTask that was answered OK although the job may still run; its value says why."""

MAX_DETAILS_BYTES = 4096
"""Details count as HTTP/2 headers, and some 20 KB of them turn any status into RESOURCE_EXHAUSTED at the client."""

STATUS_CODES: Mapping[type[BaseException], StatusCode] = {
    errors.InvalidInputError: StatusCode.INVALID_ARGUMENT,
    errors.PermissionDeniedError: StatusCode.PERMISSION_DENIED,
    errors.JobNotFoundError: StatusCode.NOT_FOUND,
    errors.NotRegisteredError: StatusCode.NOT_FOUND,
    errors.UnsupportedOperationError: StatusCode.UNIMPLEMENTED,
    errors.PermanentError: StatusCode.FAILED_PRECONDITION,
    errors.RateLimitedError: StatusCode.RESOURCE_EXHAUSTED,
    errors.CapacityExceededError: StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceededError: StatusCode.DEADLINE_EXCEEDED,
    errors.SecretNotFoundError: StatusCode.FAILED_PRECONDITION,
    errors.PluginCallError: StatusCode.INTERNAL,
    errors.TransientError: StatusCode.UNAVAILABLE,
    errors.ConnectorError: StatusCode.INTERNAL,
    # What plugin code raises without choosing. It selects a code and nothing else: none of these is permanent.
    json.JSONDecodeError: StatusCode.UNAVAILABLE,  # a ValueError, but of a backend that answered something else
    ValueError: StatusCode.INVALID_ARGUMENT,
    PermissionError: StatusCode.PERMISSION_DENIED,
    FileNotFoundError: StatusCode.NOT_FOUND,
    NotImplementedError: StatusCode.UNIMPLEMENTED,
    ConnectionError: StatusCode.UNAVAILABLE,
    TimeoutError: StatusCode.UNAVAILABLE,  # the plugin's own; a call that passes its deadline is a DeadlineExceededError
    MemoryError: StatusCode.RESOURCE_EXHAUSTED,
}
"""By class; an error has the code of the first class of its MRO that is here, and INTERNAL if none is."""


class Status(NamedTuple):
    """The status of a failed call: the three arguments of `grpc.aio`'s `abort`."""

    code: StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...] = ()


def status_of(error: BaseException, reference: str) -> Status:
    """Return the status for an error, with `google.rpc` details for clients that read them.

    Args:
        error: what was raised; for a `PluginCallError` its cause chooses the code.
        reference: what finds the log line with the traceback, which never goes over the wire.
    """
    if not isinstance(error, errors.ConnectorError):
        return Status(StatusCode.INTERNAL, f"internal error in the host; see its log, reference {reference}")
    code = _code_of(error)
    details = f"{_culprit(error)}{error.message or type(error).__name__}"
    if isinstance(error, errors.PluginCallError):
        details = cut_header(details, MAX_DETAILS_BYTES - 64) + where_to_look(reference)
    details = cut_header(details, MAX_DETAILS_BYTES)
    return Status(code, details, ((_RICH_STATUS, _rich_status(error, code, details, reference)),))


def where_to_look(reference: str) -> str:
    """Return the end of the details of a plugin's failure: where its traceback is."""
    return f" (see the host's log, reference {reference})"


def _code_of(error: errors.ConnectorError) -> StatusCode:
    chosen: BaseException = error
    is_answer = isinstance(error, errors.IllegalAnswerError)  # which is wrong whatever was raised over it
    if isinstance(error, errors.PluginCallError) and not is_answer and error.__cause__ is not None:
        chosen = error.__cause__
        if (code := foreign_code(chosen)) is not None:
            return code
    return next((STATUS_CODES[cls] for cls in type(chosen).__mro__ if cls in STATUS_CODES), StatusCode.INTERNAL)


def _rich_status(error: errors.ConnectorError, code: StatusCode, details: str, reference: str) -> bytes:
    """Return a `google.rpc.Status` with ErrorInfo, and RetryInfo where the error says when to come back."""
    info = ErrorInfo(
        reason=cut_header(error.error_code or type(error).__name__.removesuffix("Error"), 128),
        domain="connector-host",
        metadata={
            "fault": error.fault.value,
            "retryable": str(error.retryable).lower(),
            "plugin": cut_header(error.plugin or "", 128),
            "operation": error.operation or "",
            "reference": reference,
        },
    )
    status = RichStatus(code=code.value[0], message=cut_header(details, _RICH_MESSAGE_BYTES))
    status.details.add().Pack(info)
    if isinstance(error, errors.RateLimitedError) and error.retry_after is not None:
        retry = RetryInfo()
        retry.retry_delay.FromTimedelta(timedelta(seconds=min(max(error.retry_after, 0.0), 86_400.0)))
        status.details.add().Pack(retry)
    encoded: bytes = status.SerializeToString()
    return encoded


def _culprit(error: errors.ConnectorError) -> str:
    parts = [f"plugin {error.plugin!r}"] if error.plugin else []
    parts += [f"{error.operation}()"] if error.operation else []
    return f"{', '.join(parts)}: " if parts else ""
