"""Programs that are run to their end, or ended when we are asked to stop."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TextIO

from connector_core.cli.packages.progress import Say

_SECONDS_TO_END = 10.0
_KEPT_LINES = 2000
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody wants us to stop: Ctrl-C, or a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code, and what it printed; on both streams, unless its errors are apart."""

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


def run(command: Sequence[str], say: Say, environment: Mapping[str, str]) -> Ended:
    """Run a program to its end, and hand on each line that it prints.

    Raises:
        Interrupted: the program has been ended.
    """
    process = _start(command, environment, subprocess.STDOUT)
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with process.stdout as said:
            for line in said:
                lines.append(line)
                say(line.rstrip())
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
        tempfile.TemporaryFile("w+", errors="replace") as answer,
        tempfile.TemporaryFile("w+", errors="replace") as said,
    ):
        process = _start(command, environment, said, answer)
        is_late = False
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            is_late = True
            _end(process, signal.SIGABRT)
        except BaseException:
            _end(process, signal.SIGKILL)
            raise
        return Ended(process.returncode, _text(answer), _text(said), is_late)


def _text(file: TextIO) -> str:
    file.seek(0)
    return file.read()


def _start(
    command: Sequence[str], environment: Mapping[str, str], errors: TextIO | int, answer: TextIO | int = subprocess.PIPE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=answer,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **environment},
        start_new_session=True,  # a Ctrl-C at the terminal is ours; we pass it on when we are ready for what follows
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
