"""Exceptions of flytekit's connectors, in the host's terms."""

from flytekit.exceptions.user import (
    FlyteAssertion,
    FlyteRecoverableException,
    FlyteTypeException,
    FlyteUserException,
    FlyteUserRuntimeException,
    FlyteValidationException,
    FlyteValueException,
)

from connector_core import ConnectorError, InvalidInputError, PermanentError, TransientError
from connector_core.errors import permanent_http_error

_OF_THE_INPUTS = (FlyteTypeException, FlyteValueException, FlyteAssertion, FlyteValidationException)


def translated(error: Exception, operation: str) -> ConnectorError | None:
    """Return the host's error for one of flytekit's, or of an HTTP client's; `None` for any other, which the host takes itself.

    flytekit's own rule is that a user's error is permanent unless it is a recoverable one. That holds for starting: a job
    that runs is failed by what its backend says, never by an exception of the code that asks.
    """
    is_start = operation in {"create", "do"}
    if not isinstance(error, FlyteUserException | FlyteUserRuntimeException):
        return permanent_http_error(error) if is_start else None
    raised = error.value if isinstance(error, FlyteUserRuntimeException) else error
    kind: type[ConnectorError] = PermanentError
    if isinstance(raised, FlyteRecoverableException) or not is_start:
        kind = TransientError
    elif isinstance(raised, _OF_THE_INPUTS):
        kind = InvalidInputError
    return kind(f"{type(error).__name__}: {error}", error_code=getattr(error, "error_code", None))
