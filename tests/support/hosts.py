"""A host in a process of its own, driven through the protocol's own stubs."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.environments import environment_for

_SERVES = re.compile(r"gRPC serves on (\S+):(\d+)")
_METRICS = re.compile(r"Metrics are at (\S+)\.$")


@dataclass
class HostProcess:
    """A running `connector-host serve`: where it listens, what it has printed, and how it ends."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    grpc_port: int = 0
    metrics_url: str = ""
    _reader: threading.Thread | None = None
    _news: threading.Condition = field(default_factory=threading.Condition)
    _has_ended: bool = False

    @property
    def address(self) -> str:
        """`host:port` of gRPC."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def output(self) -> str:
        """All that it has printed, on both streams."""
        return "".join(self.lines)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(timeout)
        if self._reader is not None:
            self._reader.join(timeout)
        return code

    def read_until_serving(self) -> None:
        """Return when the host says where it listens.

        Raises:
            AssertionError: it ended before that; the message has its output.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := _SERVES.search(line):
                self.grpc_port = int(found[2])
            if found := _METRICS.search(line):
                self.metrics_url = found[1]
                self._reader = threading.Thread(target=self._read_the_rest, daemon=True)
                self._reader.start()
                return
        raise AssertionError(f"the host ended with {self.process.wait()}:\n{self.output}")

    def wait_for(self, pattern: str, times: int = 1) -> None:
        """Return when so many lines that match have been printed, since the start.

        Raises:
            AssertionError: the host ended, or a minute went by, before that.
        """

        def has_come() -> bool:
            return sum(bool(re.search(pattern, line)) for line in self.lines) >= times

        with self._news:
            self._news.wait_for(lambda: self._has_ended or has_come(), 60)
            assert has_come(), f"{pattern!r} was not printed {times} times:\n{self.output}"

    def wait_for_silence(self) -> None:
        """Return when nobody holds the host's output any more: it and all that it has started have ended."""
        assert self._reader is not None
        self._reader.join(60)
        assert self._has_ended, f"something still runs:\n{self.output}"

    def _read_the_rest(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._has_ended = True
            self._news.notify_all()


@contextmanager
def host_process(
    *arguments: str,
    program: Path | None = None,
    cwd: Path | None = None,
    before: tuple[str, ...] = (),
    **environment: str,
) -> Iterator[HostProcess]:
    """Run `connector-host serve` on free ports until the block ends.

    Args:
        arguments: further options of `serve`.
        program: the console script; this environment's unless given.
        cwd: the folder to run in, where a `connector-host.toml` is looked for.
        before: a command to run it under, such as `unshare`.
        environment: variables over this process' own.
    """
    script = program or Path(sys.executable).with_name("connector-host")
    process = subprocess.Popen(
        [*before, str(script), "serve", "--port", "0", "--http-port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env=environment_for(script, PYTHONUNBUFFERED="1", **environment),
        start_new_session=True,
    )
    host = HostProcess(process)
    try:
        host.read_until_serving()
        yield host
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
        if process.stdout is not None and host._reader is not None:
            host._reader.join(30)
            process.stdout.close()
