"""What plugin code answered, as it goes on the wire."""

from collections.abc import Mapping
from typing import Any

from connector_core.errors import ConnectorError, IllegalAnswerError
from connector_core.operations import Operation, encode_answer


def encoded(operation: Operation, answer: Any, arguments: Mapping[str, Any]) -> Any:
    """Return the answer as `operations.encode_answer` gives it; runs where plugin code runs.

    Raises:
        IllegalAnswerError: it is none, or holds something that cannot be sent. Asking again would only give it again, so
            this is not the transient failure that an exception of plugin code counts as.
    """
    try:
        return encode_answer(operation.name, answer, arguments)
    except ConnectorError:
        raise
    except Exception as error:
        raise IllegalAnswerError(
            f"returned a {type(answer).__name__} that cannot be sent: {type(error).__name__}: {error}"
        ) from error
