"""The servers that are measured, each in an environment of its own and in a process of its own, on a core of its own."""

import contextlib
import itertools
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.benchmarks.machine import SERVING, on_cores
from tests.benchmarks.peers import Environments
from tests.support.environments import clean_environment

TARGETS = Path(__file__).with_name("targets")
READY_WITHIN = 90.0

F, F_UV, F_TYPED, F_TYPED_UV, F_SYNC, F_CORE = "F", "F-uv", "F-typed", "F-typed-uv", "F-sync", "F-typed-core"
PROTECTED, VOUCHED = "connector-host", "connector-host, vouched"
FLYTEKIT, FLYTE2 = "flytekit", "flyte 2"
FLOORS = {
    F: ("constant", "asyncio"),
    F_UV: ("constant", "uvloop"),
    F_TYPED: ("typed", "asyncio"),
    F_TYPED_UV: ("typed", "uvloop"),
    F_SYNC: ("constant", "threads"),
    F_CORE: ("typed", "core"),
}


@dataclass(frozen=True)
class Target:
    """A server that can be started: its name in tables, and its command with `{grpc}` and `{http}` for the ports."""

    name: str
    command: Sequence[str]
    python: Path = Path(sys.executable)
    protocol: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    def with_options(self, *options: str) -> "Target":
        """Return it with more on its command line."""
        return replace(self, command=(*self.command, *options))

    def with_settings(self, **settings: str) -> "Target":
        """Return it with more in its environment."""
        return replace(self, environment={**self.environment, **settings})


@dataclass(frozen=True)
class Running:
    """A server that serves: where, after how many seconds, and its process."""

    target: Target
    address: str
    http_address: str
    seconds_to_serving: float
    process: psutil.Process

    def resident_megabytes(self) -> float:
        """Resident memory of the server and its children, in MB."""
        return sum(one.memory_info().rss for one in self._family()) / 1e6

    def cpu_seconds(self) -> float:
        """CPU time that the server and its children have taken."""
        return sum(sum(one.cpu_times()[:2]) for one in self._family())

    def _family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


class Servers:
    """Makes targets out of environments."""

    def __init__(self, environments: Environments) -> None:
        self.environments = environments

    def floor(self, name: str) -> Target:
        """A server that does nothing; from the same environment as ours."""
        python = self.environments.ours.python
        return Target(name, (str(python), "floor.py", "{grpc}", *FLOORS[name]))

    def ours(self, *modules: str, bare: bool = True) -> Target:
        """This checkout, with these modules; with the plugins sleep and process unless `bare`."""
        venv = self.environments.bare if bare else self.environments.ours
        command = (str(venv.script("connector-host")), "serve", *_modules(*modules))
        return Target(PROTECTED, (*command, "--port", "{grpc}", "--http-port", "{http}"))

    def vouched(self, *modules: str) -> Target:
        """The same, with plugins that the operator vouches for, so that they run on the server's loop."""
        return replace(self.ours(*modules).with_settings(CONNECTOR_HOST__IN_PLACE=",".join(modules)), name=VOUCHED)

    def flytekit(self, *modules: str) -> Target:
        """flytekit's own connector server."""
        venv = self.environments.flytekit
        command = (str(venv.script("pyflyte")), "serve", "connector", *_modules(*modules))
        return Target(FLYTEKIT, (*command, "--port", "{grpc}", "--prometheus_port", "{http}"), venv.python)

    def flyte2(self, *modules: str) -> Target:
        """flyte 2's connector server, which speaks the second protocol."""
        venv = self.environments.flyte2
        command = (str(venv.script("c0")), *_modules(*modules), "--port", "{grpc}", "--prometheus_port", "{http}")
        return Target(FLYTE2, command, venv.python, protocol=2)


@contextmanager
def running(target: Target, cores: tuple[int, ...] = SERVING) -> Iterator[Running]:
    """Start a server on these cores, wait until it says SERVING, and end it when the block does."""
    with tempfile.TemporaryFile() as output:
        server = _start(target, cores, output)
        try:
            yield server
        finally:
            _end(server.process)


def _start(target: Target, cores: tuple[int, ...], output: IO[bytes], tries: int = 3) -> Running:
    """Start it; on other ports again where it ends, since somebody else may have been faster to take one."""
    ports = _free_ports()
    command = [part.format(**ports) for part in target.command]
    path = [str(TARGETS), *filter(None, [target.environment.get("PYTHONPATH")])]
    environment = clean_environment(**{**target.environment, "PYTHONPATH": ":".join(path)})
    with on_cores(cores):
        began = time.perf_counter()
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=output, cwd=TARGETS, env=environment)
    address, http_address = (f"127.0.0.1:{port}" for port in ports.values())
    if _is_serving(address, process):
        return Running(target, address, http_address, time.perf_counter() - began, process)
    _end(process)
    if tries > 1:
        return _start(target, cores, output, tries - 1)
    output.seek(0)
    raise AssertionError(f"{target.name} does not serve: {command}\n{output.read().decode(errors='replace')[-4000:]}")


def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
    process.wait(30)


def _is_serving(address: str, process: psutil.Process) -> bool:
    """Wait until it says SERVING; return whether it did before it ended, or the time did."""
    eager = [
        ("grpc.initial_reconnect_backoff_ms", 5),
        ("grpc.min_reconnect_backoff_ms", 5),
        ("grpc.max_reconnect_backoff_ms", 5),
    ]
    end = time.monotonic() + READY_WITHIN
    # flytekit and flyte 2 know the health of each of their services, not that of the whole
    services = itertools.cycle(["", "grpc.health.v1.Health"])
    with grpc.insecure_channel(address, options=eager) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < end and _is_alive(process):
            with contextlib.suppress(grpc.RpcError):
                request = health_pb2.HealthCheckRequest(service=next(services))
                answer = stub.Check(request, wait_for_ready=True, timeout=5)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return _is_alive(process)
    return False


def _is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _modules(*names: str) -> Sequence[str]:
    return [part for name in names for part in ("--modules", name)]


def _free_ports() -> dict[str, int]:
    """Return two ports that nobody has; both are held until both are known, or they could be one."""
    with (
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as one,
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as other,
    ):
        return {"grpc": one.getsockname()[1], "http": other.getsockname()[1]}
