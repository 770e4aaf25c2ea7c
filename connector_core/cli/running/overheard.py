"""News from the log of a host in this process that its answers lack: where code has failed, and what blocks a loop."""

import contextlib
import logging
import os
import re
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from connector_core.cli.running.display import View

_LOOP_WATCH = "connector_core.invocation.watch"
_STACK_LINE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_CORE = str(Path(__file__).resolve().parents[2])
_STANDARD = str(Path(sysconfig.get_path("stdlib")).resolve())
_INSTALLED = f"{os.sep}site-packages{os.sep}"


@contextlib.contextmanager
def overheard(view: View | None) -> Iterator[None]:
    """Show such news in a view, each once, until the block ends; do nothing without a view."""
    if view is None:
        yield
        return
    handler, logger = _Handler(view), logging.getLogger("connector_core")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, view: View) -> None:
        super().__init__(logging.WARNING)
        self._view = view
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = ""
        if record.exc_info and record.exc_info[1] is not None:
            text = place_of(record.exc_info[1])
        elif record.name == _LOOP_WATCH:
            text = _blocked(record.getMessage())
        if text and text not in self._shown:
            self._shown.add(text)
            self._view.say(text)


def place_of(error: BaseException) -> str:
    """Say where an error was raised: the innermost line of the author's own code; nothing, where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    place = _innermost([frame.filename for frame in frames])
    if place is None:
        return ""
    frame = frames[place]
    line = f": {frame.line}" if frame.line else ""
    where = f"{_shortened(frame.filename)}:{frame.lineno}, in {frame.name}{line}"
    return f"{type(error).__name__} at {where} (--verbose prints the traceback)"


def _blocked(message: str) -> str:
    """Return what the watch of event loops says, and the innermost line of the author's code in its stack."""
    first, *stack = message.splitlines()
    lines = [found for line in stack if (found := _STACK_LINE.search(line))]
    place = _innermost([line["file"] for line in lines])
    where = "" if place is None else f" At {_shortened(lines[place]['file'])}:{lines[place]['line']}"
    return first.removesuffix(" Its stack:") + where


def _innermost(files: Sequence[str]) -> int | None:
    """Return which file is the last one of an author: of code that lies around, else of what is installed."""
    theirs = [number for number, file in enumerate(files) if _is_foreign(file)]
    own = [number for number in theirs if _INSTALLED not in files[number]]
    return next(reversed(own or theirs), None)


def _is_foreign(file: str) -> bool:
    """Return whether a file belongs neither to the host nor to Python."""
    return not file.startswith(("<", _CORE)) and (_INSTALLED in file or not file.startswith(_STANDARD))


def _shortened(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
