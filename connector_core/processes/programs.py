"""Programs that are run to their end, or ended when this process is asked to stop."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TextIO

_SECONDS_TO_END = 10.0
_KEPT_LINES = 2000
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Raised where a Ctrl-C, or a signal, asks this process to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@dataclass(frozen=True)
class Ended:
    """The end of a program: its exit code, and what it printed; on both streams, unless its errors are apart."""

    code: int
    output: str
    errors: str = ""
    has_run_out_of_time: bool = False


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` in the block on any signal that asks us to stop."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handling(stop):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let nothing but SIGKILL end the block: what it does must not stay half done."""
    with _handling(signal.SIG_IGN):
        yield


@contextmanager
def _handling(handler: "signal._HANDLER") -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _STOPS}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, signal.SIG_DFL if former is None else former)


def run(command: Sequence[str], on_line: Callable[[str], None], environment: Mapping[str, str]) -> Ended:
    """Run a program to its end, and call `on_line` with each line that it prints.

    Raises:
        Interrupted: the program has been ended.
    """
    process = _start(command, environment, subprocess.STDOUT)
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with process.stdout as output:
            for line in output:
                lines.append(line)
                on_line(line.rstrip())
        return Ended(process.wait(), "".join(lines))
    except BaseException:
        _end(process, signal.SIGINT)
        raise


def run_apart(command: Sequence[str], timeout: float, environment: Mapping[str, str]) -> Ended:
    """Run a program to its end, its two streams apart.

    Out of time, it is ended by SIGABRT: Python prints its threads' stacks then, under `-X faulthandler`.

    Raises:
        Interrupted: the program has been ended.
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
    ):
        process = _start(command, environment, errors, output)
        is_late = False
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            is_late = True
            _end(process, signal.SIGABRT)
        except BaseException:
            _end(process, signal.SIGKILL)
            raise
        return Ended(process.returncode, _text(output), _text(errors), is_late)


def _text(file: TextIO) -> str:
    file.seek(0)
    return file.read()


def _start(
    command: Sequence[str], environment: Mapping[str, str], errors: TextIO | int, output: TextIO | int = subprocess.PIPE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **environment},
        # A Ctrl-C at the terminal is this process' own, which passes it on when it is ready for what follows.
        start_new_session=True,
    )


def _end(process: subprocess.Popen[str], number: int) -> None:
    """End a program by a signal, and wait: on SIGINT pip undoes what it has half done."""
    with undisturbed():
        _signal(process, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_END)
        _signal(process, signal.SIGKILL)  # its children as well, if there are any left
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
