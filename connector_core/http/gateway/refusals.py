"""Calls that did not end OK: a `google.rpc.Status` as JSON, and the HTTP status of its code by `google/rpc/code.proto`."""

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import Error as JsonFormatError
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from connector_core.http.servicer_calls import CallFailed

HTTP_STATUS: Mapping[StatusCode, int] = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
}


class Refused(CallFailed):
    """A request that does not become a call, for a reason for which HTTP has a status of its own.

    Args:
        http_status: that status.
        code: the nearest gRPC code.
        details: what is wrong with the request.
        headers: further headers of the answer.
    """

    def __init__(
        self, http_status: int, code: StatusCode, details: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code, details)
        self.http_status = http_status
        self.headers = dict(headers or {})


def malformed(details: str) -> Refused:
    """Return what a request that is none is refused with."""
    return Refused(400, StatusCode.INVALID_ARGUMENT, details)


def http_status(failure: CallFailed) -> int:
    """Return the HTTP status of a call that failed."""
    return failure.http_status if isinstance(failure, Refused) else HTTP_STATUS[failure.code]


def status_json(failure: CallFailed) -> dict[str, Any]:
    """Return a call's status as JSON has it, with the details that gRPC's clients get."""
    status = Status()
    try:
        status.ParseFromString(failure.rich)
        status.code, status.message = failure.code.value[0], failure.details
        described: dict[str, Any] = MessageToDict(status)
    except (DecodeError, JsonFormatError, TypeError, ValueError):  # details of a kind that this program does not know
        described = {"code": failure.code.value[0], "message": failure.details}
    return described


def encoded(value: Any) -> bytes:
    """Return JSON as it is sent."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
