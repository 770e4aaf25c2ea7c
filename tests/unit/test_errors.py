"""Errors say what went wrong, whose fault it is and whether trying again can help."""

import inspect
import pickle

import pytest

from connector_core import errors
from connector_core.errors import (
    BackendUnavailableError,
    ConnectorError,
    Fault,
    IllegalAnswerError,
    InPoll,
    InvalidInputError,
    InvalidResourceMetaError,
    JobNotFoundError,
    PermanentError,
    PermissionDeniedError,
    PluginCallError,
    RateLimitedError,
    RiskNotAllowedError,
    SetupError,
    TransientError,
)

ALL = [cls for _name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, ConnectorError)]


@pytest.mark.parametrize("error_type", ALL)
def test_every_error_is_permanent_only_if_it_says_so(error_type: type[ConnectorError]) -> None:
    never_retried = PermanentError | SetupError | IllegalAnswerError
    assert error_type.retryable is not issubclass(error_type, never_retried)


@pytest.mark.parametrize("error_type", ALL)
def test_what_can_be_retried_is_ridden_out_and_nothing_else(error_type: type[ConnectorError]) -> None:
    if issubclass(error_type, RiskNotAllowedError):  # a create fails for good, a job that runs waits for the operator
        assert (error_type.retryable, error_type.in_poll) == (False, InPoll.RIDDEN_OUT)
    elif not issubclass(error_type, SetupError):
        assert error_type.retryable is (error_type.in_poll is InPoll.RIDDEN_OUT)


@pytest.mark.parametrize("error_type", ALL)
def test_every_error_is_made_from_a_message(error_type: type[ConnectorError]) -> None:
    error = error_type("the warehouse is closed")
    assert str(error) == error.message == "the warehouse is closed"
    assert (error.error_code, error.plugin, error.operation) == (None, None, None)
    assert isinstance(error.fault, Fault)


@pytest.mark.parametrize("leaf", [InvalidInputError, PermissionDeniedError, JobNotFoundError])
def test_an_authors_permanent_errors_are_permanent_errors(leaf: type[ConnectorError]) -> None:
    assert issubclass(leaf, PermanentError)


@pytest.mark.parametrize("leaf", [BackendUnavailableError, RateLimitedError])
def test_an_authors_transient_errors_are_transient_errors(leaf: type[ConnectorError]) -> None:
    assert issubclass(leaf, TransientError)


def test_an_author_gives_a_code_and_the_host_the_culprit() -> None:
    error = PermanentError("no such table", error_code="TABLE_MISSING", plugin="warehouse", operation="create")
    assert (error.error_code, error.plugin, error.operation) == ("TABLE_MISSING", "warehouse", "create")


def test_a_rate_limit_says_after_how_many_seconds_to_come_back() -> None:
    assert RateLimitedError("slow down", retry_after=1.5, error_code="429").retry_after == 1.5
    assert RateLimitedError("slow down").retry_after is None


def test_an_error_made_from_an_exception_has_its_text() -> None:
    error = PermanentError(KeyError("table"))  # type: ignore[arg-type]  # authors do
    assert str(error) == error.message == "'table'"


def test_an_authors_error_with_an_init_of_its_own_lacks_nothing() -> None:
    class TableMissingError(PermanentError):
        def __init__(self, table: str) -> None:
            self.table = table

    error = TableMissingError("sales")
    assert (str(error), error.message, error.error_code, error.plugin, error.operation) == ("", "", None, None, None)


def test_whose_fault_it_is() -> None:
    assert InvalidInputError.fault is Fault.CALLER
    assert InvalidResourceMetaError.fault is Fault.CALLER
    assert BackendUnavailableError.fault is Fault.BACKEND
    assert PluginCallError.fault is Fault.PLUGIN
    assert SetupError.fault is Fault.HOST


def test_an_error_keeps_what_it_knows_across_processes() -> None:
    error = RateLimitedError("slow down", retry_after=3, error_code="429", plugin="api", operation="get")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is RateLimitedError
    assert vars(copy) == vars(error)
    assert str(copy) == "slow down"
