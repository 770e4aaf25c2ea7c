"""The servers that are measured, each in an environment of its own and in a process of its own."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from flyteidl.admin.agent_pb2 import ListAgentsRequest
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub

from tests.support.environments import ROOT, Venv, build_wheel, clean_environment, run, uv

TARGETS = Path(__file__).with_name("targets")
CACHE = ROOT / ".benchmarks"
READY_WITHIN = 60.0


@dataclass(frozen=True)
class Target:
    """A server that can be started: its name in tables, and its command with `{grpc}` and `{http}` for the ports."""

    name: str
    command: Sequence[str]


@dataclass(frozen=True)
class Running:
    """A server that answers: where, after how many seconds, and its process."""

    address: str
    seconds_to_serving: float
    process: psutil.Process

    def resident_megabytes(self) -> float:
        """Resident memory of the server and its children, in MB."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(one.memory_info().rss for one in family) / 1e6


def make_ours(*modules: str) -> Target:
    """Build this checkout's wheel and install it as a user would, byte-compiled; serve these modules besides."""
    folder = CACHE / "ours"
    venv = _fresh(folder)
    wheel = build_wheel(ROOT, folder)
    _install(venv, f"connector-core @ {wheel.as_uri()}")
    command = (str(venv.script("connector-host")), "serve", *_modules("ours", *modules))
    return Target("connector-host", (*command, "--port", "{grpc}", "--http-port", "{http}"))


def make_flytekit(*modules: str) -> Target:
    """Install the newest flytekit with what its connector server needs; serve these modules besides."""
    venv = _fresh(CACHE / "flytekit")
    _install(venv, "flytekit", "prometheus-client", "grpcio-health-checking", "httpx")
    command = (str(venv.script("pyflyte")), "serve", "connector", *_modules("flytekit_noop", *modules))
    return Target("flytekit", (*command, "--port", "{grpc}", "--prometheus_port", "{http}"))


@contextmanager
def running(target: Target) -> Iterator[Running]:
    """Start a server, wait until it lists its connectors, and end it when the block does."""
    grpc_port, http_port = _free_port(), _free_port()
    command = [part.format(grpc=grpc_port, http=http_port) for part in target.command]
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=TARGETS,
        env=clean_environment(PYTHONPATH=str(TARGETS)),
    )
    try:
        address = f"127.0.0.1:{grpc_port}"
        _wait_until_listed(address, process)
        yield Running(address, time.perf_counter() - began, psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait(30)


def _wait_until_listed(address: str, process: subprocess.Popen[bytes]) -> None:
    eager = [
        ("grpc.initial_reconnect_backoff_ms", 5),
        ("grpc.min_reconnect_backoff_ms", 5),
        ("grpc.max_reconnect_backoff_ms", 5),
    ]
    with grpc.insecure_channel(address, options=eager) as channel:
        stub = AgentMetadataServiceStub(channel)
        answer = stub.ListAgents(ListAgentsRequest(), wait_for_ready=True, timeout=READY_WITHIN)
    assert process.poll() is None
    listed = {task_type for agent in answer.agents for task_type in agent.supported_task_types}
    assert {"noop_1", "noop_2"} <= listed, listed


def _modules(*names: str) -> Sequence[str]:
    return [part for name in names for part in ("--modules", name)]


def _fresh(folder: Path) -> Venv:
    folder.mkdir(parents=True, exist_ok=True)
    run(uv(), "venv", "--quiet", "--clear", "--python", sys.executable, folder / "venv")
    return Venv(folder / "venv")


def _install(venv: Venv, *requirements: str) -> None:
    run(uv(), "pip", "install", "--quiet", "--compile-bytecode", "--python", venv.python, *requirements)


def _free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
    return port


def versions() -> str:
    """Say what was measured on what."""
    return f"Python {sys.version.split()[0]}, {os.cpu_count()} cores"
