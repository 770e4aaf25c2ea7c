"""Everything that is logged in this process, through Python's `logging` or not, led into one stream."""

import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TextIO

from connector_core.hostlog.entries import Entry, entry_of
from connector_core.hostlog.redaction import Scrubber
from connector_core.hostlog.rendering import Render, coloured_lines, json_lines
from connector_core.hostlog.writer import Writer
from connector_core.observing.call_records import current_subject

_log = logging.getLogger("connector_core")

_GRPC_LOGGER = "grpc._cython.cygrpc"
_BAD_METADATA = "Invalid encoding on"
_SECONDS_TO_FLUSH = 2.0
_STDOUT, _STDERR = 1, 2


class HostLog:
    """The log of a host that has the process to itself; a context manager that leaves `logging` as it found it.

    Args:
        levels: the lowest level that is written, by logger; `root` for all others.
        form: `console`, `json`, or `auto` for the one where the stream is a terminal and the other elsewhere.
        secrets: the texts that are known to be secrets, asked for at each line.
        stream: where to; stderr unless given.
    """

    def __init__(
        self,
        levels: Mapping[str, str],
        form: str = "auto",
        secrets: Callable[[], Iterable[str]] = lambda: (),
        stream: TextIO | None = None,
    ) -> None:
        root = levels.get("root", "info")
        self._levels = {"root": root, "connector_core": root, **levels}  # plugins change the root's
        self._form = form
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._scrubber = Scrubber(secrets)
        self._plugins: Mapping[str, str] = {}
        self._writer = Writer(self._stream, self._make_render(), _dropped)
        self._undo: list[Callable[[], Any]] = []
        self._has_ended = False
        self._more: Callable[[], Mapping[str, str]] = dict

    def __enter__(self) -> Self:
        root, before = logging.getLogger(), {name: logging.getLogger(name).level for name in self._levels}
        self._placeholder = _Placeholder(self._hold_soon)
        root.addHandler(self._placeholder)
        self._undo += [lambda: root.removeHandler(self._placeholder), lambda: _set_levels(before)]
        self._undo += [_only_through(self.write), _never_disabled(), _log_what_is_printed(), _hush_bad_metadata()]
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._writer.after_fork)
        self.hold_to_levels()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended = True
        self._writer.close(_SECONDS_TO_FLUSH)
        while self._undo:
            self._undo.pop()()

    @property
    def dropped(self) -> int:
        """The number of lines dropped because nobody read them in time."""
        return self._writer.dropped

    def write(self, record: logging.LogRecord) -> None:
        """Have a record written."""
        self._writer.put(entry_of(record, self._more()))

    def add_fields(self, fields: Callable[[], Mapping[str, str]]) -> None:
        """Have these in every line from now on; asked for where the line is logged."""
        self._more = fields

    def flush(self) -> bool:
        """Wait until all is written, for a moment at the most; return whether it is."""
        return self._writer.flush(_SECONDS_TO_FLUSH)

    def set_levels(self, levels: Mapping[str, str]) -> None:
        """Set other levels; loggers without a level of their own inherit their parent's."""
        root = levels.get("root", "info")
        gone = {name: "notset" for name in self._levels if name not in levels}
        self._levels = {**gone, "root": root, "connector_core": root, **levels}
        self.hold_to_levels()

    def hold_to_levels(self, plugins: Mapping[str, str] | None = None) -> None:
        """Take back what plugins have set in passing: levels that the operator chose, and other people's loggers disabled.

        Args:
            plugins: the plugin's name by the module that its loggers are named after.
        """
        self._plugins = {**self._plugins, **(plugins or {})}
        if self._placeholder not in logging.getLogger().handlers:
            logging.getLogger().addHandler(self._placeholder)
        logging.disable(logging.NOTSET)  # what was cached while somebody had disabled it is looked up again
        for logger in list(logging.root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                logger.disabled = False  # `logging.config` disables all that it is not told of
        _set_levels({name: logging.getLevelNamesMapping()[level.upper()] for name, level in self._levels.items()})
        if "structlog" in sys.modules:
            _lead_structlog_into_logging()

    def _hold_soon(self) -> None:
        """Called in the middle of somebody's configuring, which goes on: hold to the levels once that is over."""
        if not self._has_ended:
            threading.Thread(target=self.hold_to_levels, name="log levels", daemon=True).start()

    def _make_render(self) -> Render:
        if self._form == "json" or (self._form == "auto" and not self._is_terminal):
            return json_lines(self._scrubber, self._plugin_of)
        return coloured_lines(self._scrubber, self._plugin_of, colours=wants_colours(os.environ, self._is_terminal))

    def _plugin_of(self, logger: str) -> str:
        while logger:
            if (plugin := self._plugins.get(logger)) is not None:
                return plugin
            logger = logger.rpartition(".")[0]
        return ""


class _Placeholder(logging.Handler):
    """Sits on the root logger, so that `basicConfig` does nothing, and tells when it is thrown out by those that force it."""

    def __init__(self, thrown_out: Callable[[], None]) -> None:
        super().__init__()
        self._thrown_out = thrown_out

    def emit(self, record: logging.LogRecord) -> None:
        """Leave it: the log has the record already."""

    def close(self) -> None:
        """Called by `basicConfig(force=True)`, and by `logging.config` before it disables loggers."""
        super().close()
        self._thrown_out()


def wants_colours(environment: Mapping[str, str], is_terminal: bool) -> bool:
    """Return whether to write colours, by the rules of no-color.org and force-color.org."""
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return is_terminal and environment.get("TERM") not in {None, "", "dumb", "unknown"}


def _set_levels(levels: Mapping[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(None if name == "root" else name).setLevel(level)


def _dropped(number: int) -> Entry:
    event = f"{number:,} lines of the log were dropped before this one: its reader did not keep up"
    return Entry(time.time(), logging.WARNING, _log.name, event, None, {"dropped": number}, None, "")


def _only_through(write: Callable[[logging.LogRecord], None]) -> Callable[[], None]:
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


def _hush_bad_metadata() -> Callable[[], None]:
    """Have gRPC tell of metadata that is not UTF-8 at debug, without its value and a traceback; return the undo.

    The call goes on with the bytes as they are, and any client can send such a value with each call.
    """
    logger = logging.getLogger(_GRPC_LOGGER)

    def hush(record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith(_BAD_METADATA):
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        record.msg, record.args = "metadata of a call is not UTF-8; it is taken as bytes", ()
        record.exc_info = record.exc_text = None
        return logger.isEnabledFor(logging.DEBUG)

    logger.addFilter(hush)
    return lambda: logger.removeFilter(hush)


def _prints(handler: logging.Handler) -> bool:
    """Return whether a handler writes to stdout or stderr, as `StreamHandler` and rich's `RichHandler` do."""
    stream: Any = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
    try:
        return stream is not None and stream.fileno() in {_STDOUT, _STDERR}
    except (OSError, ValueError, AttributeError):
        return False


def _never_disabled() -> Callable[[], None]:
    """Leave `logging.disable` without effect, which would silence the host as well; return the undo."""
    original = logging.Manager.disable
    told: set[str] = set()

    def disable(_manager: logging.Manager, level: int) -> None:
        subject = current_subject()
        plugin = subject.plugin if subject is not None else ""
        if level and plugin not in told:
            told.add(plugin)
            _log.warning("logging.disable() is ignored: it would silence the whole host; set a logger's level instead")

    logging.Manager.disable = property(lambda _manager: logging.NOTSET, disable)  # type: ignore[assignment]

    def undo() -> None:
        logging.Manager.disable = original

    return undo


def _lead_structlog_into_logging() -> None:
    """Let structlog, which plugins use as well, hand its lines to `logging`, unless a plugin has made other arrangements."""
    import structlog

    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _log_what_is_printed() -> Callable[[], None]:
    """Log what Python would print otherwise: warnings, and errors that end a thread or that nobody could catch."""
    thread_hook, unraisable_hook = threading.excepthook, sys.unraisablehook
    captures = warnings.showwarning.__module__ != "logging"
    if captures:
        logging.captureWarnings(True)

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            name = args.thread.name if args.thread is not None else "(unknown)"
            _log.error("thread %s ended with an error", name, exc_info=args.exc_value)

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        message = args.err_msg or "error ignored: no code could have caught it"
        _log.error("%s", message, exc_info=args.exc_value)

    threading.excepthook, sys.unraisablehook = of_thread, unraisable

    def undo() -> None:
        threading.excepthook, sys.unraisablehook = thread_hook, unraisable_hook
        if captures:
            logging.captureWarnings(False)

    return undo
