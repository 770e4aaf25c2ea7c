"""What plugin code answered, as it goes on the wire."""

from collections.abc import Mapping
from typing import Any

from connector_core.errors import ConnectorError, IllegalAnswerError, PluginCallError
from connector_core.invocation.faults import described
from connector_core.operations import Operation, encode_answer


def encoded(operation: Operation, answer: Any, arguments: Mapping[str, Any]) -> Any:
    """Return the answer as `operations.encode_answer` gives it; runs where plugin code runs.

    Raises:
        IllegalAnswerError: it is none, or holds something that cannot be sent. Asking again would only give it again, so
            this is not the transient failure that an exception of plugin code counts as.
    """
    name = operation.name
    if name == "get_many" and isinstance(answer, list | tuple):
        return [_encoded_alone(one, arguments) for one in answer]
    return _encoded(name, answer, arguments)


def _encoded(name: str, answer: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return encode_answer(name, answer, arguments)
    except ConnectorError:
        raise
    except Exception as error:
        raise IllegalAnswerError(
            f"returned a {type(answer).__name__} that cannot be sent: {described(error)}"
        ) from error


def _encoded_alone(answer: Any, arguments: Mapping[str, Any]) -> Any:
    """Return one job's answer, or its error: what is wrong with it is no trouble of the jobs that are asked for with it."""
    if isinstance(answer, BaseException) and not isinstance(answer, ConnectorError):
        error = PluginCallError(described(answer))  # as `asyncio.gather` gives them, cancelled ones included
        error.__cause__ = answer
        return error
    try:
        (one,) = _encoded("get_many", [answer], arguments)
    except IllegalAnswerError as illegal:
        return illegal
    return one
