"""Loading a plugin within a time: an import that hangs is left behind in its thread, and the host goes on without it."""

import contextvars
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Generic, TypeVar

from connector_core.errors import PluginLoadError

_log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_WORD = 10.0
"""Seconds after which it is said that a plugin takes long; said again whenever the time has doubled."""


class LoadTimeoutError(PluginLoadError):
    """A plugin did not finish loading in time; `stack` is the traceback of where it was."""

    def __init__(self, message: str, stack: str) -> None:
        super().__init__(message)
        self.stack = stack


def within(seconds: float, plugin: str, work: Callable[[ExitStack], T], first_word: float = _FIRST_WORD) -> T:
    """Do the work in a thread of its own, and wait for it at most so many seconds; 0 does it here, without an end.

    What the work enters with the `ExitStack` that it is given is left at its end, and when the time is up: what an import
    changes for the whole process is then put back by the caller's thread. A module whose import hangs holds its own lock,
    so that another plugin which imports it waits in its own thread, for its own time.

    Raises:
        LoadTimeoutError: it was not over in time, and goes on in its thread.
        BaseException: what the work raised.
    """
    if not seconds:
        with ExitStack() as entered:
            return work(entered)
    running = _Running(work)
    thread = threading.Thread(target=contextvars.copy_context().run, args=(running.run,), name=f"load {plugin}")
    thread.daemon = True  # one that hangs must not keep the process
    thread.start()
    began, pause = time.monotonic(), first_word
    while not running.has_ended.wait(max(0.0, min(pause, seconds - (time.monotonic() - began)))):
        took = time.monotonic() - began
        stack = _stack_of(thread)
        if took >= seconds:
            raise _given_up(running, seconds, stack)
        _log.warning(
            "plugin is still loading: %s, for %.0f s of %g s (setting load_timeout), at %s",
            plugin,
            took,
            seconds,
            _place(stack),
        )
        pause = took
    return running.result()


def _given_up(running: "_Running[T]", seconds: float, stack: traceback.StackSummary) -> LoadTimeoutError:
    message = (
        f"loading did not finish within {seconds:g} s (setting load_timeout); it is at {_place(stack)}. "
        "Do slow work in the connector's start(), or raise load_timeout"
    )
    error = LoadTimeoutError(message, "".join(["Stack of the thread that hangs:\n", *stack.format()]))
    running.leave(error)
    return error


class _Running(Generic[T]):
    """Work in a thread, what it has entered, and what it came to."""

    def __init__(self, work: Callable[[ExitStack], T]) -> None:
        self.has_ended = threading.Event()
        self._work = work
        self._entered = ExitStack()
        self._answer: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do the work."""
        try:
            with self._entered:
                self._answer.append(self._work(self._entered))
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that waits
            self._error = error
        finally:
            self.has_ended.set()

    def leave(self, error: LoadTimeoutError) -> None:
        """Leave what the work has entered, in its stead: its thread finds nothing more to leave if it ever comes on."""
        try:
            self._entered.pop_all().__exit__(type(error), error, None)
        except Exception:  # noqa: BLE001 - a bridge's code
            _log.exception("cleanup after the import of a plugin failed")

    def result(self) -> T:
        """Return what the work returned, or raise what it raised."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback knows this frame
        return self._answer[0]


def _stack_of(thread: threading.Thread) -> traceback.StackSummary:
    frame = sys._current_frames().get(thread.ident or 0)
    found = traceback.extract_stack(frame) if frame is not None else traceback.StackSummary()
    return traceback.StackSummary.from_list([entry for entry in found if not _is_ours(entry)])


def _is_ours(entry: traceback.FrameSummary) -> bool:
    """Tell the machinery of imports and threads, which says nothing about the plugin."""
    return entry.filename.startswith("<frozen importlib") or entry.filename in {__file__, threading.__file__}


def _place(stack: traceback.StackSummary) -> str:
    if not stack:
        return "an unknown place"
    last = stack[-1]
    return f"{last.filename}:{last.lineno}, in {last.name}: {last.line}"
