"""Each error has one status code, and details that fit and hide what is nobody's business."""

import asyncio
import inspect
import json
import socket
from urllib.parse import quote

import pytest
from grpc import StatusCode

from connector_core import errors
from connector_core.errors import ConnectorError, PluginCallError
from connector_core.protocol.statuses import MAX_DETAILS_BYTES, STATUS_CODES, status_of
from connector_core.texts import cut_header

CODES = {
    errors.ConnectorError: StatusCode.INTERNAL,
    errors.PermanentError: StatusCode.FAILED_PRECONDITION,
    errors.InvalidInputError: StatusCode.INVALID_ARGUMENT,
    errors.InvalidRequestError: StatusCode.INVALID_ARGUMENT,
    errors.InvalidResourceMetaError: StatusCode.INVALID_ARGUMENT,
    errors.LiteralError: StatusCode.INVALID_ARGUMENT,
    errors.OffloadedLiteralError: StatusCode.INVALID_ARGUMENT,
    errors.PermissionDeniedError: StatusCode.PERMISSION_DENIED,
    errors.RiskNotAllowedError: StatusCode.PERMISSION_DENIED,
    errors.JobNotFoundError: StatusCode.NOT_FOUND,
    errors.NotRegisteredError: StatusCode.NOT_FOUND,
    errors.UnsupportedOperationError: StatusCode.UNIMPLEMENTED,
    errors.TransientError: StatusCode.UNAVAILABLE,
    errors.BackendUnavailableError: StatusCode.UNAVAILABLE,
    errors.ConnectorNotStartedError: StatusCode.UNAVAILABLE,
    errors.RateLimitedError: StatusCode.RESOURCE_EXHAUSTED,
    errors.CapacityExceededError: StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceededError: StatusCode.DEADLINE_EXCEEDED,
    errors.SecretNotFoundError: StatusCode.FAILED_PRECONDITION,
    errors.MemoryUnavailableError: StatusCode.UNAVAILABLE,
    errors.PluginCallError: StatusCode.INTERNAL,
    errors.IllegalAnswerError: StatusCode.INTERNAL,
}

RAISED = {
    ValueError("x"): StatusCode.INVALID_ARGUMENT,
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"): StatusCode.INVALID_ARGUMENT,
    json.JSONDecodeError("x", "", 0): StatusCode.UNAVAILABLE,
    PermissionError("x"): StatusCode.PERMISSION_DENIED,
    FileNotFoundError("x"): StatusCode.NOT_FOUND,
    NotImplementedError("x"): StatusCode.UNIMPLEMENTED,
    ConnectionRefusedError("x"): StatusCode.UNAVAILABLE,
    ConnectionResetError("x"): StatusCode.UNAVAILABLE,
    BrokenPipeError("x"): StatusCode.UNAVAILABLE,
    TimeoutError("x"): StatusCode.UNAVAILABLE,
    TimeoutError("x"): StatusCode.UNAVAILABLE,
    MemoryError("x"): StatusCode.RESOURCE_EXHAUSTED,
    socket.gaierror(-2, "x"): StatusCode.INTERNAL,
    OSError("x"): StatusCode.INTERNAL,
    KeyError("x"): StatusCode.INTERNAL,
    AttributeError("x"): StatusCode.INTERNAL,
    TypeError("x"): StatusCode.INTERNAL,
    ZeroDivisionError("x"): StatusCode.INTERNAL,
    RecursionError("x"): StatusCode.INTERNAL,
    AssertionError("x"): StatusCode.INTERNAL,
    asyncio.CancelledError("x"): StatusCode.INTERNAL,
    SystemExit(1): StatusCode.INTERNAL,
    KeyboardInterrupt(): StatusCode.INTERNAL,
}


def raised(cause: BaseException) -> PluginCallError:
    """What the host makes of an exception from plugin code."""
    error = PluginCallError(f"{type(cause).__name__}: {cause}", plugin="warehouse", operation="create")
    error.__cause__ = cause
    return error


def test_every_error_that_can_reach_a_call_is_in_this_table() -> None:
    classes = {cls for _name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, ConnectorError)}
    assert set(CODES) == {cls for cls in classes if not issubclass(cls, errors.SetupError)}


@pytest.mark.parametrize(("error_type", "code"), CODES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_each_of_our_errors_has_its_code(error_type: type[ConnectorError], code: StatusCode) -> None:
    assert status_of(error_type("x"), "ref").code is code


@pytest.mark.parametrize(("cause", "code"), RAISED.items(), ids=lambda value: type(value).__name__)
def test_what_plugin_code_raises_selects_a_code(cause: BaseException, code: StatusCode) -> None:
    assert status_of(raised(cause), "ref").code is code


def test_no_plain_exception_is_ever_permanent() -> None:
    """It selects a code and nothing else: a running job is not failed by a ValueError."""
    assert all(raised(cause).retryable for cause in RAISED)


def test_a_subclass_has_the_code_of_its_nearest_class() -> None:
    class TableMissingError(errors.JobNotFoundError): ...

    class QuotaError(PermissionError): ...

    assert status_of(TableMissingError("x"), "ref").code is StatusCode.NOT_FOUND
    assert status_of(raised(QuotaError("x")), "ref").code is StatusCode.PERMISSION_DENIED


def test_the_cause_of_an_authors_own_error_changes_nothing() -> None:
    error = errors.BackendUnavailableError("the warehouse is away")
    error.__cause__ = ValueError("x")
    assert status_of(error, "ref").code is StatusCode.UNAVAILABLE


def test_no_code_says_that_all_is_well_or_that_nobody_knows() -> None:
    assert {StatusCode.OK, StatusCode.UNKNOWN}.isdisjoint(STATUS_CODES.values())


def test_details_name_plugin_and_operation_and_the_way_to_the_log() -> None:
    details = status_of(raised(KeyError("table")), "abc123").details
    assert details == "plugin 'warehouse', create(): KeyError: 'table' (see the host's log, reference abc123)"


def test_an_authors_message_stands_as_it_is() -> None:
    error = errors.InvalidInputError("no column 'a'", plugin="warehouse", operation="create")
    assert status_of(error, "ref").details == "plugin 'warehouse', create(): no column 'a'"


def test_an_error_without_a_message_is_named() -> None:
    assert status_of(errors.JobNotFoundError(), "ref").details == "JobNotFoundError"


def test_a_failure_of_the_host_says_only_where_to_look() -> None:
    status = status_of(RuntimeError("path /srv/host/secret.py"), "abc123")
    assert status.code is StatusCode.INTERNAL
    assert "abc123" in status.details
    assert "secret" not in status.details


def on_the_wire(text: str) -> int:
    """The bytes that a status message takes: gRPC percent-encodes all but printable ASCII."""
    return len(quote(text.encode(), safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"))


@pytest.mark.parametrize("letter", ["a", "%", "é", "€", "😀", "\n", "a€"], ids=ascii)
@pytest.mark.parametrize(
    "make", [errors.InvalidInputError, lambda text: raised(ValueError(text))], ids=["own", "raised"]
)
def test_details_never_take_more_than_4_kb_on_the_wire(letter: str, make: type[ConnectorError]) -> None:
    details = status_of(make(letter * 20_000), "abc123").details
    assert 3900 < on_the_wire(details) <= MAX_DETAILS_BYTES == 4096
    assert "�" not in details


def test_a_cut_text_ends_in_dots_and_a_whole_character() -> None:
    assert cut_header("abcdefgh", 6) == "abc..."
    assert cut_header("€€€€", 21) == "€€..."


@pytest.mark.parametrize("text", ["", "abc", "a" * 93, "€" * 10])
def test_what_fits_is_left_alone(text: str) -> None:
    assert cut_header(text, 96) == text


def test_the_reference_survives_the_cut() -> None:
    assert status_of(raised(ValueError("€" * 20_000)), "abc123").details.endswith(
        "(see the host's log, reference abc123)"
    )


def test_a_message_that_is_no_valid_text_is_sent_as_far_as_it_is() -> None:
    """File names that are no UTF-8 come as lone surrogates, which no wire carries."""
    details = status_of(errors.PermanentError("cannot read '\udcff.csv'"), "ref").details
    assert details == "cannot read '?.csv'"
