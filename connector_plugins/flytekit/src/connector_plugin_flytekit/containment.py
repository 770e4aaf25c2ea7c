"""Imports of flytekit and its plugins, without what they do to the process that imports them."""

import importlib
import importlib.metadata
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

from connector_plugin_flytekit.folders import folders_of_the_process

GROUP = "flytekit.plugins"
_LOGGERS = ("flytekit", "user_space", "developer")
_RICH = "FLYTE_SDK_RICH_TRACEBACKS"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def import_flytekit() -> None:
    """Import flytekit without its plugins, which it would import in one go, and not at all if one of them fails."""
    with contained(), _without_plugins(), folders_of_the_process():
        importlib.import_module("flytekit")


@contextmanager
def contained() -> Iterator[None]:
    """Import in here: signal handlers, hooks and logging are put back afterwards, and what is printed goes to stderr."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))  # stdout is the host's report, or JSON
        stack.enter_context(_plain_tracebacks())
        stack.enter_context(_same_hooks())
        stack.enter_context(_same_logging())
        stack.enter_context(_readable_entry_points())
        yield


@contextmanager
def _plain_tracebacks() -> Iterator[None]:
    """flytekit draws its log lines and every traceback of the process with rich, unless this is set."""
    is_set = _RICH in os.environ
    os.environ.setdefault(_RICH, "0")
    try:
        yield
    finally:
        if not is_set:
            del os.environ[_RICH]


@contextmanager
def _same_hooks() -> Iterator[None]:
    hooks = sys.excepthook, threading.excepthook
    handlers: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook = hooks
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler and handler is not None and _may_set_signals():
                signal.signal(number, handler)


def _may_set_signals() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _same_logging() -> Iterator[None]:
    """Keep the host's own logging, and let flytekit's loggers hand on what they are given to it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    alive = [
        one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger) and not one.disabled
    ]
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for logger in alive:  # `logging.config` of a plugin's dependency disables those that it does not know
            logger.disabled = False
        for name in _LOGGERS:
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True


@contextmanager
def _readable_entry_points() -> Iterator[None]:
    """Have `importlib.metadata` find the entry points that can be read: it stops at the first distribution that is damaged.

    fsspec, which flytekit imports, looks for its own among those of all distributions.
    """
    original = importlib.metadata.entry_points

    def entry_points(**wanted: Any) -> Any:
        try:
            return original(**wanted)
        except Exception:  # noqa: BLE001 - which one, differs between Pythons and kinds of damage
            return importlib.metadata.EntryPoints(_readable()).select(**wanted)

    importlib.metadata.entry_points = entry_points
    try:
        yield
    finally:
        importlib.metadata.entry_points = original


def _readable() -> Iterator[importlib.metadata.EntryPoint]:
    names = set()
    for distribution in importlib.metadata.distributions():
        try:
            name, points = distribution.metadata["Name"], distribution.entry_points
        except Exception:  # noqa: BLE001, S112 - as above; the host names damaged distributions itself
            continue
        if name not in names:
            names.add(name)
            yield from points


@contextmanager
def _without_plugins() -> Iterator[None]:
    """Have `importlib.metadata` find no plugin of flytekit's for as long as flytekit looks."""
    original = importlib.metadata.entry_points
    is_looking = True

    def entry_points(**wanted: Any) -> Any:
        if is_looking and wanted.get("group") == GROUP:
            return importlib.metadata.EntryPoints(())
        return original(**wanted)  # whoever has imported this meanwhile keeps it

    importlib.metadata.entry_points = entry_points
    try:
        yield
    finally:
        is_looking = False
        importlib.metadata.entry_points = original
