"""Offers, answers and errors as they cross between a host and a location: written on one side, read on the other."""

import math
import time
import traceback
from collections.abc import Sequence
from typing import Any

from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from google.protobuf.message import DecodeError

from connector_core import errors
from connector_core.connection import Connection
from connector_core.errors import ConnectorError, Fault, InPoll, RateLimitedError, TransientError
from connector_core.invocation.offers import NO_CONNECTION, NOTHING, JobOffer, Offer, TaskOffer
from connector_core.locations.heads import AnswerHead, CallHead, ConnectionHead, DetailsHead, ErrorHead
from connector_core.locations.wire import WireError, split
from connector_core.observing.call_records import REQUEST, AboutRequest, Subject
from connector_core.resource import LogPage
from connector_core.secrets import SecretStr
from connector_core.texts import writable


def write_call(place: int, operation: str, offer: Offer, end: float, *, streams: bool) -> tuple[CallHead, list[bytes]]:
    """Return a call's head and the messages of its body."""
    about: dict[str, Any] = {}
    parts: list[bytes] = []
    if isinstance(offer, TaskOffer):
        message = offer.message
        # Requests that are one message have the inputs in it, so that they are written once.
        is_whole = isinstance(message, agent_pb2.CreateTaskRequest) and message.inputs is offer.literals
        parts = (
            [message.SerializeToString()]
            if is_whole
            else [_without_inputs(message), offer.literals.SerializeToString()]
        )
        about = {"offer": "task" if is_whole else "header", "key": offer.idempotency_key}
    elif isinstance(offer, JobOffer):
        parts = [offer.resource_meta]
        about = {"offer": "job", "output_prefix": offer.output_prefix}
        if offer.details is not None:
            about["details"] = DetailsHead(tuple(offer.details), **offer.details)
    elif offer is not NOTHING:
        raise TypeError(f"a {type(offer).__name__} does not cross to a location")
    if isinstance(offer, TaskOffer | JobOffer) and offer.connection != NO_CONNECTION:
        about["connection"] = _write_connection(offer.connection)
    if (request := REQUEST.get()) is not None:
        about["request"] = (*request[0], request[1])
    seconds = None if end == math.inf else end - time.monotonic()
    head = CallHead(place, operation, seconds, streams, sizes=tuple(map(len, parts)), **about)
    return head, parts


def _without_inputs(message: agent_pb2.CreateTaskRequest | agent_pb2.CreateRequestHeader) -> bytes:
    """Return the bytes of a header; a request whose inputs are elsewhere is read as one, as its first fields are the same."""
    if isinstance(message, agent_pb2.CreateRequestHeader):
        return bytes(message.SerializeToString())
    header = agent_pb2.CreateRequestHeader(template=message.template, output_prefix=message.output_prefix)
    header.task_execution_metadata.CopyFrom(message.task_execution_metadata)
    return bytes(header.SerializeToString())


def _write_connection(connection: Connection) -> ConnectionHead:
    secrets = {name: secret.get_secret_value() for name, secret in connection.secrets.items()}
    return ConnectionHead(secrets, dict(connection.configs), connection.task_type)


def read_offer(head: CallHead, body: bytes) -> Offer:
    """Return what a call offers.

    Raises:
        WireError: the body is not what the head says.
    """
    parts = list(split(body, head.sizes))
    connection = NO_CONNECTION if head.connection is None else _read_connection(head.connection)
    try:
        match head.offer, parts:
            case "none", []:
                return NOTHING
            case "task", [request]:
                message = agent_pb2.CreateTaskRequest.FromString(request)
                return TaskOffer(message, message.inputs, connection, key=head.key)
            case "header", [header, literals]:
                read = agent_pb2.CreateRequestHeader.FromString(header)
                return TaskOffer(read, LiteralMap.FromString(literals), connection, key=head.key)
            case "job", [resource_meta]:
                asked = head.details
                details = None if asked is None else {name: getattr(asked, name) for name in asked.names}
                return JobOffer(resource_meta, connection, head.output_prefix, details)
    except DecodeError as error:
        raise WireError(f"an offer that is not a message: {error}") from None
    raise WireError(f"an offer of {len(parts)} messages that says it is {head.offer!r}")


def _read_connection(head: ConnectionHead) -> Connection:
    return Connection({name: SecretStr(text) for name, text in head.secrets.items()}, head.configs, head.task_type)


def read_request(head: CallHead) -> AboutRequest | None:
    """Return the RPC that a call is part of, for lines of the log."""
    if not head.request:
        return None
    *subject, execution = head.request
    return Subject(*subject), execution


def write_answer(operation: str, answer: Any) -> tuple[AnswerHead, list[bytes]]:
    """Return the head and the messages of an encoded answer, or of a piece of one."""
    if operation == "get_logs":
        return _write_pages(answer)
    if operation == "get_metrics":
        parts = [result.SerializeToString() for result in answer]
        return AnswerHead("metrics", tuple(map(len, parts))), parts
    if operation == "create":
        return AnswerHead("bytes", (len(answer),)), [answer]
    if operation in {"get", "do"}:
        data = answer.SerializeToString()
        return AnswerHead("resource", (len(data),)), [data]
    return AnswerHead(), []


def _write_pages(pages: Sequence[LogPage]) -> tuple[AnswerHead, list[bytes]]:
    parts: list[bytes] = []
    about = []
    for page in pages:
        structured = tuple(at for at, line in enumerate(page.lines) if not isinstance(line, str))
        parts.append(page.token.encode(errors="surrogatepass"))
        parts += [
            line.encode(errors="surrogatepass") if isinstance(line, str) else line.SerializeToString()
            for line in page.lines
        ]
        about.append((len(page.lines), structured))
    return AnswerHead("pages", tuple(map(len, parts)), tuple(about)), parts


def read_answer(head: AnswerHead, body: bytes) -> Any:
    """Return an answer as `answers.encode_answer` gives it.

    Raises:
        WireError: the body is not what the head says.
    """
    parts = list(split(body, head.sizes))
    try:
        match head.form, parts:
            case "none", []:
                return None
            case "bytes", [data]:
                return data
            case "resource", [data]:
                return agent_pb2.Resource.FromString(data)
            case "metrics", _:
                return [ExecutionMetricResult.FromString(part) for part in parts]
            case "pages", _:
                return _read_pages(head, parts)
    except (DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"an answer that is not a message: {error}") from None
    raise WireError(f"an answer of {len(parts)} messages that says it is {head.form!r}")


def _read_pages(head: AnswerHead, parts: Sequence[bytes]) -> list[LogPage]:
    pages, begin = [], 0
    for number, structured in head.pages:
        if begin + number >= len(parts):
            raise WireError("log pages with fewer lines than their head says")
        token, *of_page = parts[begin : begin + 1 + number]
        lines = tuple(
            agent_pb2.LogLine.FromString(part) if at in structured else part.decode(errors="surrogatepass")
            for at, part in enumerate(of_page)
        )
        pages.append(LogPage(lines, token.decode(errors="surrogatepass")))
        begin += 1 + number
    if begin != len(parts):
        raise WireError("log pages with more lines than their head says")
    return pages


_DETAILS = {"InvalidResourceMetaError": "field", "OffloadedLiteralError": "uri"}


class RemoteError(Exception):
    """An exception of plugin code in a location, with its traceback there: the cause of the error that the host answers."""

    def __init__(self, told: str) -> None:
        super().__init__(told)

    def __str__(self) -> str:
        return f"in the location:\n{self.args[0]}"


def write_error(error: ConnectorError) -> ErrorHead:
    """Return an error's head; its class is the nearest one of `connector_core.errors`."""
    own = next(cls for cls in type(error).__mro__ if cls.__module__ == errors.__name__)
    cause = error.__cause__
    # An author's own error without a cause was raised on purpose, and is answered without a traceback in the host as well.
    told = "" if cause is None else "".join(_formatted(cause))
    delay = error.retry_after if isinstance(error, RateLimitedError) else None
    return ErrorHead(
        kind=own.__name__,
        message=writable(error.message),
        error_code=error.error_code and writable(error.error_code),
        plugin=error.plugin,
        operation=error.operation,
        retry_after=delay,
        detail=_detail(error),
        fault=error.fault,
        retryable=error.retryable,
        in_poll=error.in_poll,
        traceback=writable(told),
    )


def _detail(error: ConnectorError) -> str | None:
    """Return what two classes carry beside the text."""
    detail = getattr(error, _DETAILS.get(type(error).__name__, ""), None)
    return writable(detail) if isinstance(detail, str) else None


def _formatted(error: BaseException) -> list[str]:
    try:
        return traceback.format_exception(error)
    except BaseException as trouble:  # noqa: BLE001 - an author's exception may not even be printable
        return [f"{type(error).__name__} (its traceback cannot be printed: {type(trouble).__name__})"]


def read_error(head: ErrorHead) -> ConnectorError:
    """Return the error that a location tells of.

    Raises:
        WireError: it has values that no error has.
    """
    kind = getattr(errors, head.kind, TransientError)
    if not (isinstance(kind, type) and issubclass(kind, ConnectorError)):
        raise WireError(f"an error of class {head.kind!r}, which is not one")
    error: ConnectorError = BaseException.__new__(kind)
    error.args = (head.message,)
    error.message, error.error_code = head.message, head.error_code
    error.plugin, error.operation = head.plugin, head.operation
    try:
        said = {"fault": Fault(head.fault), "retryable": head.retryable, "in_poll": InPoll(head.in_poll)}
    except ValueError as trouble:
        raise WireError(f"an error with {trouble}") from None
    for attribute, value in said.items():
        if getattr(kind, attribute) != value:  # an author's class says so, which is not known here
            setattr(error, attribute, value)
    if isinstance(error, RateLimitedError):
        error.retry_after = head.retry_after
    if (name := _DETAILS.get(head.kind)) is not None:
        setattr(error, name, head.detail)
    if head.traceback:
        error.__cause__ = RemoteError(head.traceback)
    return error
