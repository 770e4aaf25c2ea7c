"""One process of a location, from its start to its end: the handshake, its output in the host's log, and why it ended."""

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

import msgspec

from connector_core.invocation.faults import Scrub
from connector_core.locations.heads import HelloHead, StartHead, from_json, to_json
from connector_core.locations.wire import FROM_LOCATION, VERSION, Frame, FrameReader, Kind, WireError, encode
from connector_core.processes.children import told_end
from connector_core.settings import ENV_PREFIX

_log = logging.getLogger(__name__)

_LINES_KEPT = 50
_LINES_TOLD = 5
_LONGEST_LINE = 64 * 1024
_LONGEST_TOLD = 300
_SECONDS_TO_READ_THE_REST = 1.0
_SECONDS_TO_READ_WHAT_IS_READY = 1.0
_OF_ANY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_NOT_FIELDS = frozenset({"timestamp", "level", "logger", "event", "exception"})
_FRAME_OF_INTERPRETER = re.compile(r"\s*File |Extension modules|\s*$|\(most recent call first\)")


class LocationError(Exception):
    """A location's process could not be made ready; its text says why."""


class LocationProcess:
    """A running process of a location.

    Made in the main thread: the kernel ends it with the thread that started it.

    Args:
        start: what it is told.
        env: variables over the host's own.
        scrub: takes secrets out of what is told of its output.

    Attributes:
        pid: its number, and that of its group.
        exit: its exit code, as `subprocess` has it, once it has ended and its last lines are read.
        end: the host's end of the pair of sockets, which belongs to a transport once there is one.
        reader: what has arrived and is not a whole frame yet.
        early: frames that came right behind the handshake.
        was_late: whether it was ended because it was not ready in time.
    """

    def __init__(self, start: StartHead, env: Mapping[str, str], scrub: Scrub) -> None:
        self._start = start
        self._scrub = scrub
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self.exit: Future[int] = Future()
        self.exit.set_running_or_notify_cancel()  # so that nobody who waits for it can cancel it
        self._killed_for = ""
        self.reader = FrameReader(FROM_LOCATION, start.max_bytes)
        self.early: list[Frame] = []
        self.was_late = False
        self.started_at = time.monotonic()
        self.end, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "connector_core.locations", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(env),
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )
        self.pid = self._process.pid
        self._output = threading.Thread(target=self._read_output, name=f"output of {self.name}", daemon=True)
        self._output.start()
        threading.Thread(target=self._await_end, name=f"end of {self.name}", daemon=True).start()

    @property
    def name(self) -> str:
        """The location's name in messages."""
        return f"location {self._start.location!r}"

    @property
    def lived(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started_at

    @property
    def resident(self) -> int | None:
        """Bytes of memory that the process has resident; `None` where the system does not tell."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return None

    def handshake(self, timeout: float) -> HelloHead:
        """Tell the process what to load, and wait for what became of that; blocking.

        Args:
            timeout: seconds from its start on.

        Raises:
            LocationError: it has ended, broken the wire or not been ready in time; it is ended then.
        """
        # Whoever starts several asks one after the other: what is ready by then must not be late.
        end = max(self.started_at + timeout, time.monotonic() + _SECONDS_TO_READ_WHAT_IS_READY)
        try:
            hello = self._hello(end)
        except WireError as error:
            hello = None
            self.kill(f"has broken the wire: {error}")
        except OSError:  # it has ended, which its exit tells
            hello = None
        if hello is not None:
            return hello
        if not self.exit.done() and time.monotonic() >= end:
            self.was_late = True
            self.kill(f"was not ready within {timeout:g} s, and was ended (setting: ready_timeout)")
        try:
            self.exit.result(2 * _SECONDS_TO_READ_THE_REST)
        except TimeoutError:
            self.kill("has closed its end of the wire, and was ended")
            self.exit.result()
        raise LocationError(self.reason())

    def _hello(self, end: float) -> HelloHead | None:
        self.end.sendall(b"".join(encode(Kind.START, head=to_json(self._start))))
        while not self.exit.done() and (left := end - time.monotonic()) > 0:
            # Its exit is looked for in between: an end of file never comes where it has forked.
            self.end.settimeout(min(left, 0.1))
            try:
                data = self.end.recv(262_144)
            except TimeoutError:
                continue
            if not data:
                return None
            if frames := self.reader.feed(data):
                first, *self.early = frames
                hello: HelloHead = from_json(first.head, HelloHead)
                if first.kind is not Kind.HELLO or hello.version != VERSION:
                    raise WireError(f"its first frame is of kind {first.kind} and version {hello.version}")
                self.end.setblocking(False)
                return hello
        return None

    def reason(self) -> str:
        """Say how it ended, with the last that it wrote."""
        code = self.exit.result() if self.exit.done() else None
        how = "still runs" if code is None else f"ended ({told_end(code)})"
        if code == -signal.SIGKILL and self._killed_for:
            how = self._killed_for
        return f"{self.name} {how}{self._last_lines()}"

    def _last_lines(self) -> str:
        told = [line for line in self._lines if not _FRAME_OF_INTERPRETER.match(line)][-_LINES_TOLD:]
        lines = " | ".join(self._scrub(line.strip())[:_LONGEST_TOLD] for line in told)
        return f"; its last lines: {lines}" if lines else ""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if not self.exit.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self, why: str = "") -> None:
        """End it and its group at once; `why` goes before the signal where its end is told."""
        if not self.exit.done():
            self._killed_for = self._killed_for or why
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def _await_end(self) -> None:
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        # Its number is not free before it is waited for below, so that this reaches nobody else's processes.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._output.join(_SECONDS_TO_READ_THE_REST)
        self.exit.set_result(self._process.wait())

    def _read_output(self) -> None:
        output = self._process.stdout
        assert output is not None  # noqa: S101 - it is a pipe
        with output:
            while line := _next_line(output):
                text = line.decode(errors="replace").rstrip()
                self._lines.append(_log_line(self._start.location, text))


def _next_line(output: IO[bytes]) -> bytes:
    with contextlib.suppress(OSError, ValueError):
        return output.readline(_LONGEST_LINE)
    return b""


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a location: the host's but for its settings, which may hold secrets of other plugins."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    return {**own, **env}


def _log_line(location: str, text: str) -> str:
    """Log a line of a location's output, be it one of its log or printed by anybody; return its text."""
    try:
        line = msgspec.json.decode(text, type=dict[str, Any])
        level, logger, event = logging.getLevelNamesMapping()[line["level"].upper()], line["logger"], str(line["event"])
    except (msgspec.MsgspecError, KeyError, AttributeError):
        if text:
            _log.info("%s", text, extra={"location": location})
        return text
    fields = {
        f"{name}_" if name in _OF_ANY_RECORD else name: value for name, value in line.items() if name not in _NOT_FIELDS
    }
    exception = line.get("exception", "")
    made = {"name": logger, "levelno": level, "levelname": logging.getLevelName(level), "msg": event}
    record = logging.makeLogRecord({**fields, **made, "stack_info": exception or None, "location": location})
    logging.getLogger(str(logger)).handle(record)
    return f"{event}: {exception.splitlines()[-1]}" if exception else event
