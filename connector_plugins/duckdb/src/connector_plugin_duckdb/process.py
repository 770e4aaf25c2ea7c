"""One query process as the host has it: started, asked, interrupted, and in the end explained."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from connector_core.errors import (
    BackendUnavailableError,
    ConnectorError,
    InvalidInputError,
    PermanentError,
    PermissionDeniedError,
    TransientError,
)
from connector_plugin_duckdb.config import SECTION
from connector_plugin_duckdb.wire import (
    EXIT_MEMORY,
    Answer,
    Close,
    Done,
    Failed,
    Interrupt,
    Kind,
    Ready,
    Request,
    decode_answer,
    encode,
    is_readable,
    receive,
    send,
)

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]);"
    " from connector_plugin_duckdb.child import main; main()"
)  # fmt: skip
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "SYSTEMROOT")
"""The variables by which the system's loader finds libraries; the rest of the environment, with its secrets, stays out."""

_START_SECONDS = 30.0
_PATIENCE_SECONDS = 1.0
_LOOK_SECONDS = 0.25
_REAP_SECONDS = 2.0
_STDERR_BYTES = 2**16
_STDERR_LINES = 3
_SMALL_MESSAGE = 2**20

_log = logging.getLogger("connector_plugin_duckdb")


@dataclass(frozen=True, slots=True)
class Limits:
    """The resources of a process: bytes of memory for DuckDB, and its threads."""

    memory: int
    threads: int


class QueryProcess:
    """A process that runs one query after the other.

    It has to be made in a thread that lives as long as it may: on Linux the kernel ends it with that thread.
    """

    def __init__(self, limits: Limits) -> None:
        self._process = subprocess.Popen(
            _command(limits),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env=_environment(),
            start_new_session=True,  # Ctrl-C in a terminal is for the host, which stops its queries in order
        )
        self._started = time.monotonic()
        self._hard = 0
        self._writing = threading.Lock()
        self._interrupted: float | None = None
        self._killed: float | None = None
        self.idle_since = 0.0

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """True while it runs."""
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait until it takes queries; it may have been for long.

        Raises:
            BackendUnavailableError: it does not start.
        """
        if self._hard:
            return
        try:
            answer = self._receive(_SMALL_MESSAGE, self._started + _START_SECONDS)
        except _GoneError:
            raise BackendUnavailableError(f"the process for queries did not start: {self._death()}") from None
        except ValueError as error:
            raise BackendUnavailableError(f"the process for queries says what is not an answer: {error}") from None
        self._hard = answer.memory if isinstance(answer, Ready) else 1

    def ask(self, request: Request, most: int = _SMALL_MESSAGE) -> Answer:
        """Send a request and return the answer, of at most so many bytes.

        Raises:
            ConnectorError: the query has failed, or the process has ended.
        """
        try:
            data = encode(request)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"the inputs cannot be given to DuckDB: {error}") from None
        try:
            with self._writing:
                send(self._descriptor(self._process.stdin), data)
            answer = self._receive(most, None)
        except (_GoneError, OSError):
            raise self._explain() from None
        except ValueError as error:
            self.kill(f"it answered what is not an answer ({error})")
            raise TransientError(f"the process of the query answered what is not an answer: {error}") from None
        if isinstance(answer, Failed):
            raise _error(answer)
        return answer

    def close_query(self) -> bool:
        """End the query that was asked; say whether another one may follow."""
        if self._killed is not None or self._interrupted is not None:
            return False
        try:
            answer = self.ask(Close())
        except ConnectorError:
            return False
        return isinstance(answer, Done) and answer.is_clean

    def interrupt(self) -> None:
        """Ask for the query's end; when it has not come for a second since the first time, kill the process."""
        now = time.monotonic()
        if self._interrupted is None:
            self._interrupted = now
        if now - self._interrupted > _PATIENCE_SECONDS:
            self.kill("it did not heed an interrupt")
        elif self._writing.acquire(blocking=False):  # who writes now is asked again in a moment
            try:
                send(self._descriptor(self._process.stdin), encode(Interrupt()))
            except OSError:
                return
            finally:
                self._writing.release()

    def kill(self, reason: str = "") -> None:
        """End the process at once."""
        if self._killed is None:
            self._killed = time.monotonic()
            if reason:
                _log.warning("query process killed: %s; pid=%d", reason, self.pid)
        self._process.kill()

    def discard(self) -> None:
        """End the process and let go of what the host has of it."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _receive(self, most: int, end: float | None) -> Answer:
        def wait(descriptor: int) -> None:
            while not is_readable(descriptor, _LOOK_SECONDS):
                now = time.monotonic()
                if self._killed is not None and now - self._killed > _REAP_SECONDS:
                    raise _GoneError  # a process that the kernel cannot end now keeps nobody's place
                if end is not None and now > end:
                    self.kill(f"it did not start within {_START_SECONDS:.0f} s")

        try:
            return decode_answer(receive(self._descriptor(self._process.stdout), most, wait))
        except EOFError:
            raise _GoneError from None

    def _descriptor(self, pipe: Any) -> int:
        descriptor: int = pipe.fileno()
        return descriptor

    def _explain(self) -> ConnectorError:
        """Return the error of a query whose process has ended under it."""
        death = self._death()
        if death.is_memory:
            return PermanentError(
                f"the query needs more memory than [plugins.duckdb] gives it: its process reached the hard limit of "
                f"{self._hard} bytes, which memory_limit of {SECTION} sets ({death})",
                error_code="OUT_OF_MEMORY",
            )
        return TransientError(f"the process of the query ended before its query: {death}")

    def _death(self) -> "Death":
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SECONDS)
        said = b""
        with suppress(OSError):
            descriptor = self._descriptor(self._process.stderr)
            said = os.read(descriptor, _STDERR_BYTES) if is_readable(descriptor, 0) else b""
        lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
        return Death(self._process.returncode, self._killed is not None, " | ".join(lines[-_STDERR_LINES:]))


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a process: its exit code (below zero, the signal's number), whether the host did it, its last words."""

    code: int | None
    is_ours: bool
    said: str

    @property
    def is_memory(self) -> bool:
        """True if it reached its hard limit of memory."""
        return self.code == EXIT_MEMORY or "bad_alloc" in self.said or "MemoryError" in self.said

    def __str__(self) -> str:
        said = f"; its last words: {self.said}" if self.said else ""
        return f"{self._how()}{said}"

    def _how(self) -> str:
        if self.is_ours:
            return "the host ended it"
        if self.code is None:
            return "it closed its pipe"
        if self.code == EXIT_MEMORY:
            return "it had more memory than it may"
        if self.code == -signal.SIGKILL:
            return "SIGKILL from outside, as the kernel sends when the machine or container has no memory left"
        if self.code < 0:
            return f"it crashed with {_signal_name(-self.code)}"
        return f"exit code {self.code}"


class _GoneError(Exception):
    """The process has closed its pipe."""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _command(limits: Limits) -> list[str]:
    path = [os.path.abspath(one) for one in sys.path]  # noqa: PTH100 - resolve() would follow links to other packages
    given = json.dumps({"memory": limits.memory, "threads": limits.threads})
    return [sys.executable, "-I", "-X", "utf8", "-c", _START, str(os.getpid()), json.dumps(path), given]


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    # jemalloc, which is built into DuckDB, keeps the addresses of freed memory for itself: a query that stayed within
    # 200 MB had 600 MB in the eyes of the hard limit, and has 310 MB so, at the same speed.
    return kept | {"LC_ALL": "C.UTF-8", "DUCKDB_JE_MALLOC_CONF": "retain:false"}


_ERRORS: dict[Kind, type[ConnectorError]] = {
    "invalid": InvalidInputError,
    "denied": PermissionDeniedError,
    "permanent": PermanentError,
    "transient": TransientError,
    "unavailable": BackendUnavailableError,
    "interrupted": TransientError,
}


def _error(failed: Failed) -> ConnectorError:
    return _ERRORS[failed.kind](failed.message, error_code=failed.code)
