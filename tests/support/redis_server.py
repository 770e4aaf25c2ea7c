"""A real redis-server on a free loopback port, for as long as a test needs it."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

_STARTS = 5


@dataclass
class RedisServer:
    """A running redis-server that keeps nothing on disk."""

    process: "subprocess.Popen[str]"
    port: int

    @property
    def url(self) -> str:
        """What `memory.url` takes."""
        return f"redis://127.0.0.1:{self.port}/0"

    def hang(self) -> None:
        """Let it keep its connections and answer nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, and return when its port is closed."""
        self.process.kill()
        self.process.wait(30)


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Run a redis-server until the block ends; skip the test where it is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    server = _start(program)
    try:
        yield server
    finally:
        server.stop()
        assert server.process.stdout is not None
        server.process.stdout.close()


def _start(program: str) -> RedisServer:
    for _ in range(_STARTS):  # another process may take the port before redis-server does
        port = _free_port()
        options = {"port": port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "daemonize": "no"}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        process = subprocess.Popen(
            [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        assert process.stdout is not None
        if any("eady to accept connections" in line for line in process.stdout):
            return RedisServer(process, port)
        process.wait(30)
        process.stdout.close()
    raise AssertionError(f"redis-server did not start in {_STARTS} tries")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
