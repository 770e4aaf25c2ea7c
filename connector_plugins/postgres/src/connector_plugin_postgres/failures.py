"""Errors of statements, as failures of their jobs."""

from collections.abc import Mapping
from typing import Any

from connector_core import ConnectorError, Phase
from connector_plugin_postgres.ledger import Ending
from connector_plugin_postgres.statement import Statement

LOST = Ending(
    Phase.RETRYABLE_FAILED,
    message="the statement's connection ended before it had committed (its host or the server went down, or the connection "
    "was cut): PostgreSQL has undone all of it",
    error_code="CONNECTION_LOST",
)
LOST_READ = Ending(
    Phase.RETRYABLE_FAILED,
    message="the statement's connection, or its host, ended before its result was written; it only read",
    error_code="CONNECTION_LOST",
)
LOST_OUTSIDE = Ending(
    Phase.FAILED,
    message="the statement's connection ended, and as it ran outside of a transaction (`transaction = false`), nobody knows "
    "how much of it was done; look before you run it again",
    error_code="END_UNKNOWN",
)
ABORTED = Ending(Phase.ABORTED, message="cancelled", error_code="CANCELLED")
OUT_OF_TIME = Ending(
    Phase.FAILED,
    message="cancelled: the statement took longer than the operator's `statement_timeout` of this connection",
    error_code="STATEMENT_TIMEOUT",
)

_CANCELED = "57014"
_IN_TRANSACTION = "25001"
_RETRYABLE_STATES: Mapping[str, str] = {
    "40001": "SERIALIZATION_FAILURE",
    "40P01": "DEADLOCK",
    "55P03": "LOCK_NOT_AVAILABLE",
}
_NAMED_STATES: Mapping[str, str] = {
    # asyncpg's, for an argument that does not fit its parameter's type; servers have finer ones.
    "22000": "BAD_PARAMETER",
    "25006": "READ_ONLY",
    "42501": "PERMISSION_DENIED",
}
_OUT_OF_RESOURCES = "53"
_LONGEST = 4000


class HaltedError(Exception):
    """The job is not to go on; `ending` says how it ends."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


def lost(*, read_only: bool, transaction: bool) -> Ending:
    """Return how a job ends whose connection is gone and that has no row."""
    if read_only:
        return LOST_READ
    return LOST if transaction else LOST_OUTSIDE


def ending_of(error: Exception, statement: Statement, *, is_stopped: bool, is_out_of_time: bool) -> Ending:
    """Return how a job ends whose statement failed with an error of the server's or of ours.

    Args:
        error: what was raised; not a lost connection.
        statement: what ran.
        is_stopped: whether its deletion was asked for.
        is_out_of_time: whether it had taken as long as the operator's `statement_timeout`.
    """
    import asyncpg

    if isinstance(error, HaltedError):
        return error.ending
    if isinstance(error, ConnectorError):
        phase = Phase.RETRYABLE_FAILED if error.retryable else Phase.FAILED
        return Ending(phase, message=str(error), error_code=error.error_code or "")
    if not isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
        return Ending(Phase.RETRYABLE_FAILED, message=f"{type(error).__name__}: {error}", error_code="UNEXPECTED")
    state = getattr(error, "sqlstate", "") or ""
    if state == _CANCELED:
        return _cancelled(is_stopped=is_stopped, is_out_of_time=is_out_of_time)
    message = statement.explain(_words(error))
    if state in _RETRYABLE_STATES or state.startswith(_OUT_OF_RESOURCES):
        return Ending(Phase.RETRYABLE_FAILED, message=message, error_code=_code(state))
    if state == _IN_TRANSACTION:
        message += (
            "; set custom `transaction` to false to run it outside of one, without the guarantee that it is done once"
        )
    return Ending(Phase.FAILED, message=message, error_code=_code(state))


def _cancelled(*, is_stopped: bool, is_out_of_time: bool) -> Ending:
    if is_stopped:
        return ABORTED
    if is_out_of_time:
        return OUT_OF_TIME
    return Ending(
        Phase.ABORTED, message="cancelled by somebody else, at another host or in SQL", error_code="CANCELLED"
    )


def _code(state: str) -> str:
    return (
        _RETRYABLE_STATES.get(state) or _NAMED_STATES.get(state) or (f"SQLSTATE_{state}" if state else "BAD_PARAMETER")
    )


def _words(error: Any) -> str:
    """Return the server's message with its detail, hint and position."""
    parts = [str(error) or type(error).__name__]
    parts += [f"{name}: {value}" for name in ("detail", "hint", "position") if (value := getattr(error, name, None))]
    shown = "; ".join(parts)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
