"""The one table from errors to gRPC status codes, and the text that goes with them."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from grpc import StatusCode

from connector_core import errors

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
    """What a failed call is answered with."""

    code: StatusCode
    details: str


def status_of(error: BaseException, reference: str) -> Status:
    """Return the status for an error.

    Args:
        error: what was raised; for a `PluginCallError` its cause chooses the code.
        reference: what finds the log line with the traceback, which never goes over the wire.
    """
    chosen = error.__cause__ if isinstance(error, errors.PluginCallError) and error.__cause__ else error
    code = next((STATUS_CODES[cls] for cls in type(chosen).__mro__ if cls in STATUS_CODES), StatusCode.INTERNAL)
    if not isinstance(error, errors.ConnectorError):
        return Status(StatusCode.INTERNAL, f"the host failed; its log says more under {reference}")
    details = f"{_culprit(error)}{error.message or type(error).__name__}"
    if isinstance(error, errors.PluginCallError):
        details = f"{cut(details, MAX_DETAILS_BYTES - 64)} (the log says more under {reference})"
    return Status(code, cut(details, MAX_DETAILS_BYTES))


def _culprit(error: errors.ConnectorError) -> str:
    parts = [f"plugin {error.plugin!r}"] if error.plugin else []
    parts += [f"{error.operation}()"] if error.operation else []
    return f"{', '.join(parts)}: " if parts else ""


def cut(text: str, size: int) -> str:
    """Cut a text to `size` bytes as gRPC writes it: percent-encoded, so that most characters but ASCII take three each."""
    left = size - 3
    for position, byte in enumerate(encoded := text.encode()):
        left -= 1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3
        if left < 0:
            return encoded[:position].decode(errors="ignore") + "..."
    return text
