"""The standard streams of a process that was started without them, or cannot write to them any more."""

import os
import sys
from pathlib import Path

_STREAMS = (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))


def open_closed_streams() -> None:
    """Put the null device where descriptor 0, 1 or 2 is closed, before anything else gets its number.

    A listening socket that is descriptor 1 or 2 would be written to by whatever prints, in C for one.
    """
    for descriptor, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            _point_to_null(descriptor, mode)
        if getattr(sys, name) is None:
            _replace(name)


def give_up_stdout() -> None:
    """Point stdout to the null device, so that what it still holds fails nobody, the interpreter at its end for one."""
    _point_to_null(1, os.O_WRONLY)
    if sys.stdout.closed:
        _replace("stdout")


def _point_to_null(descriptor: int, mode: int) -> None:
    opened = os.open(os.devnull, mode)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)
    os.set_inheritable(descriptor, True)


def _replace(name: str) -> None:
    mode = "r" if name == "stdin" else "w"
    stream = Path(os.devnull).open(mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - it stays open
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)
