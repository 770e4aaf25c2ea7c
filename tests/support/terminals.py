"""A pseudo-terminal with somebody in front of it, who reads what is on it and types."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.environments import clean_environment

CTRL_C = "\x03"
_PATIENCE = 60
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\].*?(?:\x07|\x1b\\)")


class Terminal:
    """A program that runs on a terminal of 100 columns and 30 lines."""

    def __init__(self, process: "subprocess.Popen[bytes]", ours: int) -> None:
        self.process = process
        self._ours = ours
        self._raw = b""
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def raw(self) -> str:
        """All that was written to the terminal."""
        return self._raw.decode(errors="replace")

    @property
    def text(self) -> str:
        """The same without colours and movements; what was drawn anew stands there again."""
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    def wait_for(self, pattern: str) -> None:
        """Return when the text has this.

        Raises:
            AssertionError: it never had, with what it has.
        """
        with self._news:
            self._news.wait_for(lambda: self._ended or re.search(pattern, self.text), _PATIENCE)
            assert re.search(pattern, self.text), f"{pattern!r} is not in:\n{self.text}"

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._ours, text.encode())

    def wait(self) -> int:
        """Return the exit code."""
        code = self.process.wait(_PATIENCE)
        self._reader.join(_PATIENCE)
        return code

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # nobody has the other side open any more
                data = b""
            with self._news:
                self._raw += data
                self._ended = not data
                self._news.notify_all()
            if not data:
                return


@contextmanager
def terminal(*command: str | Path, cwd: Path, **environment: str) -> Iterator[Terminal]:
    """Run a command as the foreground of a terminal of its own, so that Ctrl-C reaches it as a signal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(
        ["setsid", "--ctty", *map(str, command)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env=clean_environment(TERM="xterm-256color", **environment),
    )
    os.close(theirs)
    opened = Terminal(process, ours)
    try:
        yield opened
    finally:
        if process.poll() is None:
            process.kill()
        opened.wait()
        os.close(ours)
