"""Each record to the host's log once, whatever handlers plugins and their libraries add."""

import logging
from collections.abc import Callable
from typing import Any

Write = Callable[[logging.LogRecord], None]

_STDOUT, _STDERR = 1, 2


def only_through(write: Write) -> Callable[[], None]:
    """Have every record that a logger lets pass given to `write`, and to other handlers unless they print; return the undo.

    A handler on the root logger would not do: libraries print through handlers of their own and keep their records from the
    root, plugins call `basicConfig(force=True)` and `dictConfig`, and each would take lines out of the stream, or put them
    there twice.
    """
    original = logging.Logger.callHandlers

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        write(record)
        logger: logging.Logger | None = self
        while logger is not None:
            for handler in logger.handlers:
                if record.levelno >= handler.level and not _prints(handler):
                    handler.handle(record)
            logger = logger.parent if logger.propagate else None

    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign] # the one place that all records pass

    def undo() -> None:
        if logging.Logger.callHandlers is call_handlers:  # else somebody has wrapped it, and goes on calling ours
            logging.Logger.callHandlers = original  # type: ignore[method-assign]

    return undo


def _prints(handler: logging.Handler) -> bool:
    """Whether a handler writes to stdout or stderr, as `StreamHandler` and rich's `RichHandler` do."""
    stream: Any = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
    try:
        return stream is not None and stream.fileno() in {_STDOUT, _STDERR}
    except (OSError, ValueError, AttributeError):
        return False
