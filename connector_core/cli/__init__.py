"""The command line: parse and delegate."""

import contextlib
import gc
import io
import os
import sys
from typing import NoReturn


def main() -> None:
    """Run `connector-host`, with an init in front of it where it is the first process of a container."""
    gc.disable()  # imports make next to no garbage, and looking for it is a tenth of the start; `serve` enables it again
    open_standard_streams()
    use_utf8()
    if os.getpid() == 1:
        from connector_core.cli.init import run_as_init

        run_as_init()
    from connector_core.cli.app import run

    sys.exit(run())


def open_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed: else the next file or socket gets what is printed there."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:  # as Python has it then
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def use_utf8() -> None:
    """Start Python again in its UTF-8 mode where the locale knows ASCII alone; let no character end a command elsewhere.

    Arguments, names of files, connectors' names and what plugins say may have any character. Python itself does the same for
    the locale C unless it is told not to, as some images and services do.
    """
    if sys.getfilesystemencoding() == "ascii" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.orig_argv[0], "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - this very program
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def exit_at_once(code: int) -> NoReturn:
    """End the process though threads of plugin code hang, whatever that code has done to the streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or taken away
            stream.flush()
    os._exit(code)
