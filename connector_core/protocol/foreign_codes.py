"""Status codes for exceptions of libraries that may not be here: they are known by name, and nothing is imported."""

from collections.abc import Callable, Mapping
from typing import Any

from grpc import StatusCode

HTTP_STATUS_CODES: Mapping[int, StatusCode] = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.UNAVAILABLE,
    409: StatusCode.ABORTED,
    410: StatusCode.NOT_FOUND,
    412: StatusCode.FAILED_PRECONDITION,
    422: StatusCode.INVALID_ARGUMENT,
    425: StatusCode.UNAVAILABLE,
    429: StatusCode.RESOURCE_EXHAUSTED,
    501: StatusCode.UNIMPLEMENTED,
}
"""Status codes by a backend's HTTP status; any other above 499 is UNAVAILABLE, below it FAILED_PRECONDITION."""


def foreign_code(error: BaseException) -> StatusCode | None:
    """Return the status code for an exception of httpx, requests, grpc or google-api-core; `None` for any other."""
    for cls in type(error).__mro__:
        read = _READERS.get(f"{cls.__module__.split('.')[0]}.{cls.__name__}")
        if read is not None:
            return read(error)
    return None


def _of_http(status: Any) -> StatusCode:
    if not isinstance(status, int):
        return StatusCode.UNAVAILABLE
    return HTTP_STATUS_CODES.get(status, StatusCode.UNAVAILABLE if status >= 500 else StatusCode.FAILED_PRECONDITION)


def _of_response(error: Any) -> StatusCode:
    return _of_http(getattr(getattr(error, "response", None), "status_code", None))


def _of_rpc(error: Any) -> StatusCode:
    """Pass the backend's own code on; what says something of the host's client alone is UNAVAILABLE."""
    code = error.code() if callable(getattr(error, "code", None)) else None
    passed_on = isinstance(code, StatusCode) and code not in {
        StatusCode.OK,
        StatusCode.CANCELLED,
        StatusCode.DEADLINE_EXCEEDED,
    }
    return code if passed_on and code is not None else StatusCode.UNAVAILABLE


def _of_google(error: Any) -> StatusCode:
    code = getattr(error, "grpc_status_code", None)
    return code if isinstance(code, StatusCode) else _of_http(getattr(error, "code", None))


def _unavailable(_error: Any) -> StatusCode:
    return StatusCode.UNAVAILABLE


_READERS: Mapping[str, Callable[[Any], StatusCode]] = {
    "httpx.HTTPStatusError": _of_response,
    "httpx.TransportError": _unavailable,
    "requests.HTTPError": _of_response,
    "requests.ConnectionError": _unavailable,
    "requests.Timeout": _unavailable,
    "grpc.RpcError": _of_rpc,
    "google.GoogleAPICallError": _of_google,
    "google.RetryError": _unavailable,
}
