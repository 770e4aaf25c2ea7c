"""Whatever plugin code raises, as a `ConnectorError` that names plugin and operation."""

import asyncio

from connector_core.errors import ConnectorError, DeadlineExceededError, PluginCallError
from connector_core.operations import Operation
from connector_core.registry import RegisteredConnector


def translate(error: BaseException, connector: RegisteredConnector, operation: Operation) -> ConnectorError:
    """Return the `ConnectorError` for what plugin code raised, with the culprit's name on it."""
    translated: ConnectorError
    if isinstance(error, ConnectorError):
        translated = error
    elif isinstance(error, asyncio.CancelledError):
        translated = PluginCallError("the plugin cancelled its own call")
    elif isinstance(error, SystemExit):
        translated = PluginCallError(f"the plugin called sys.exit({error.code!r})")
    else:
        translated = PluginCallError(f"{type(error).__name__}: {_text(error)}")
    if translated is not error:
        translated.__cause__ = error
    translated.plugin = connector.plugin.name
    translated.operation = operation.name
    return translated


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - it is the author's code
        return "(it cannot be printed)"


def too_late(connector: RegisteredConnector, operation: Operation) -> DeadlineExceededError:
    return DeadlineExceededError(
        "it was not over at its deadline", plugin=connector.plugin.name, operation=operation.name
    )
