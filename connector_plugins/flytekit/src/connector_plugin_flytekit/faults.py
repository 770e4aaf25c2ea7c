"""What flytekit's connectors raise, in the host's terms."""

from flytekit.exceptions.user import (
    FlyteAssertion,
    FlyteRecoverableException,
    FlyteTypeException,
    FlyteUserException,
    FlyteValidationException,
    FlyteValueException,
)

from connector_core import ConnectorError, InvalidInputError, PermanentError, TransientError

_OF_THE_INPUTS = (FlyteTypeException, FlyteValueException, FlyteAssertion, FlyteValidationException)


def translated(error: Exception, operation: str) -> ConnectorError | None:
    """Return the host's error for one of flytekit's; `None` for any other, which the host takes as it takes them all.

    flytekit's own rule is that a user's error is permanent unless it is a recoverable one. That holds for starting: a job
    that runs is failed by what its backend says, never by an exception of the code that asks.
    """
    if not isinstance(error, FlyteUserException):
        return None
    kind: type[ConnectorError] = PermanentError
    if isinstance(error, FlyteRecoverableException) or operation not in {"create", "do"}:
        kind = TransientError
    elif isinstance(error, _OF_THE_INPUTS):
        kind = InvalidInputError
    return kind(f"{type(error).__name__}: {error}", error_code=getattr(error, "error_code", None))
