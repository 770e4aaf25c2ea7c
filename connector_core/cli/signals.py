"""Signals of a serving host beside those that stop it, so that none ends it without a line in the log, whatever sends them.

Plugin code may set an alarm, block signals or ask for its own process' end, and operators send what other servers understand.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping

import msgspec

from connector_core.errors import SettingsError
from connector_core.settings import Settings

_log = logging.getLogger("connector_core")

_FRAMES = 20
_SECONDS_TO_EXIT = 3.0
_UNEXPECTED = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGUSR2)
_HANDLED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT, *_UNEXPECTED)


def expect() -> None:
    """Have none of these signals end the process from now on; the first thing of a start, as plugins are loaded after it."""
    for number in _HANDLED:
        signal.signal(number, _too_early)


def unblock() -> None:
    """Let signals reach this thread again, after code of plugins has run in it, which may have blocked them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


class Signals:
    """The signal handlers of a host that serves.

    Args:
        settings: as the host has them.
        read_settings: reads them again.
        set_levels: takes the levels of the log that were read again.
    """

    def __init__(
        self, settings: Settings, read_settings: Callable[[], Settings], set_levels: Callable[[Mapping[str, str]], None]
    ) -> None:
        self._settings = settings
        self._read_settings = read_settings
        self._set_levels = set_levels
        self._had_terminal = _has_terminal()

    def take(self, loop: asyncio.AbstractEventLoop) -> None:
        """Handle them on a loop, whatever plugins have made of them while they were loaded."""
        actions: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGHUP: self._hang_up,
            signal.SIGUSR1: _log_stacks,
            signal.SIGQUIT: self._quit,
        }
        for number in _HANDLED:
            loop.add_signal_handler(number, actions.get(number) or _ignored(number))

    def _hang_up(self) -> None:
        """Read the settings again, or drain and stop where the terminal has gone that the host was started from."""
        if self._had_terminal and not _has_terminal():
            _log.warning("SIGHUP: the terminal is gone; draining and stopping")
            signal.raise_signal(signal.SIGTERM)
            return
        try:
            read = self._read_settings()
        except SettingsError as error:
            _log.error("SIGHUP: invalid settings; keeping the previous ones: %s", error)
            return
        changed = [
            field.name
            for field in msgspec.structs.fields(Settings)
            if getattr(read, field.name) != getattr(self._settings, field.name)
        ]
        if "log_level" in changed:
            self._set_levels(read.log_level)
            self._settings = msgspec.structs.replace(self._settings, log_level=read.log_level)
            _log.info("SIGHUP: log levels applied")
        if others := [name for name in changed if name != "log_level"]:
            _log.warning("SIGHUP: restart the host to apply these changes: %s", ", ".join(others))
        elif not changed:
            _log.info("SIGHUP: no setting has changed")

    def _quit(self) -> None:
        _log_stacks()
        _log.warning("SIGQUIT: draining and stopping")
        signal.raise_signal(signal.SIGTERM)


def end_soon(code: int) -> None:
    """End the process in some seconds if handlers that plugin code has registered for the exit keep it from ending."""
    threading.Thread(target=_end, args=(code,), name="exit", daemon=True).start()


def _end(code: int) -> None:
    time.sleep(_SECONDS_TO_EXIT)
    with contextlib.suppress(Exception):
        sys.stderr.write(
            "connector-host: the exit was held up for 3 s by what plugin code has registered for it (atexit, a thread of "
            "its own); ended all the same\n"
        )
        sys.stderr.flush()
    os._exit(code)


def _too_early(number: int, _frame: object) -> None:
    _log.warning("signal ignored: %s came before the host serves", signal.Signals(number).name)


def _ignored(number: signal.Signals) -> Callable[[], None]:
    def tell() -> None:
        _log.warning("signal ignored: %s, sent by plugin code or another process", number.name)

    return tell


def _has_terminal() -> bool:
    """Return whether the process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _log_stacks() -> None:
    """Log where every thread is, and every task of this loop, for those who wonder why something hangs."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for identity, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame)[-_FRAMES:])
        parts.append(f"thread {names.get(identity, identity)!r}:\n{stack}")
    tasks = asyncio.all_tasks()
    parts += [f"task {task.get_name()!r} of the serving loop: {task.get_coro()!r}\n" for task in tasks]
    _log.warning("SIGUSR1: stacks of threads and tasks:\n%s", "".join(parts).rstrip())
