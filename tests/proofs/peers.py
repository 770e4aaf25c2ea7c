"""The two servers that are compared, each as its users start it, in one environment and on the same backends."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
from flyteidl.core.tasks_pb2 import TaskTemplate
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from connector_core.testing.propeller import FakePropeller, Workflow
from tests.proofs.stories import Story, differences, story_of
from tests.support.environments import Venv, clean_environment
from tests.support.hosts import host_process

FLYTEKIT_SERVER = ("pyflyte", "serve", "connector")
FLYTE_SERVER = ("c0",)

READY_WITHIN = 60.0
PATIENCE = 60.0
"""Seconds for each call: how fast a server is, is not what is compared."""

_executions = itertools.count(1)


@dataclass(frozen=True)
class Pair:
    """Their own server and ours, with the same connectors.

    Attributes:
        theirs: its address.
        ours: its address.
        tasks: the folder of tasks that their own tools have serialised.
        engine_options: of the engine that calls both.
    """

    theirs: str
    ours: str
    tasks: Path
    engine_options: Mapping[str, Any] = field(default_factory=dict)

    def of_2x(self) -> "Pair":
        """Return the pair with an engine of the 2.x line, which flytekit's own server does not understand."""
        return replace(self, engine_options={**self.engine_options, "engine_version": (2, 0)})

    def template(self, name: str) -> TaskTemplate:
        """Return a task by its name."""
        template: TaskTemplate = TaskTemplate.FromString((self.tasks / f"{name}.pb").read_bytes())
        return template

    @asynccontextmanager
    async def engine(self, address: str) -> AsyncIterator[FakePropeller]:
        """An engine that waits long, tries each task once, and has never given one to any server before."""
        workflow = Workflow(name=f"execution-{next(_executions)}")
        options = {**self.engine_options, "deadline": PATIENCE, "max_attempts": 1, "workflow": workflow}
        async with FakePropeller([address], **options) as engine:
            yield engine

    async def run(self, address: str, name: str, inputs: Mapping[str, Any]) -> Story:
        """Run a task on one server to its end."""
        async with self.engine(address) as engine:
            task = engine.submit(self.template(name), inputs)
            await engine.run_until_settled()
        return story_of(task)

    async def same(self, name: str, inputs: Mapping[str, Any], trace: Callable[[], object] | None = None) -> Story:
        """Run a task on theirs and on ours, and return the story that both tell.

        Args:
            name: the task's.
            inputs: its.
            trace: what a run has left at the backend, which has to be the same as well; it begins anew with each call.

        Raises:
            AssertionError: the stories differ; it says in which fields.
        """
        if trace is not None:
            trace()
        theirs = await self.run(self.theirs, name, inputs)
        left_by_theirs = trace and trace()
        ours = await self.run(self.ours, name, inputs)
        left_by_ours = trace and trace()
        found = differences(theirs, ours)
        assert not found, "\n".join(found)
        assert left_by_ours == left_by_theirs, f"theirs left {left_by_theirs}, ours {left_by_ours}"
        return ours

    async def moved(self, name: str, inputs: Mapping[str, Any], *, rounds: int, to_ours: bool) -> Story:
        """Run a task on one server for so many rounds of the engine, and on the other to its end."""
        first, second = (self.theirs, self.ours) if to_ours else (self.ours, self.theirs)
        async with self.engine(first) as engine:
            task = engine.submit(self.template(name), inputs)
            for _ in range(rounds):
                await engine.step()
            await engine.move([second])
            await engine.run_until_settled()
        return story_of(task)


@contextmanager
def pair(
    folder: Path, logs: Path, environment: Mapping[str, str], *server: str, **engine_options: Any
) -> Iterator[Pair]:
    """Run both servers in the environment of a folder that `bridged` has made, until the block ends.

    Args:
        folder: what `bridged` returned.
        logs: where they run, and theirs logs to.
        environment: variables of both.
        server: the command that starts theirs; flytekit's unless given.
        engine_options: of the engine that calls both.
    """
    venv = Venv(folder / "venv")
    # Starting often is what compiling once is for; what callers can make of flytekit's connectors is what is compared.
    environment = {**environment, "PYTHONDONTWRITEBYTECODE": "", "CONNECTOR_HOST__ALLOW_RISKS": "flytekit"}
    with ExitStack() as servers:
        started = _their_server(venv, logs, environment, server or FLYTEKIT_SERVER)
        theirs = servers.enter_context(started)  # it starts while ours does
        program = venv.script("connector-host")
        host = servers.enter_context(host_process(program=program, cwd=logs, before=(), **environment))
        theirs.wait()
        yield Pair(theirs.address, host.address, folder / "tasks", engine_options)


@dataclass(frozen=True)
class _Server:
    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> None:
        try:
            with grpc.insecure_channel(self.address) as channel:
                HealthStub(channel).Check(HealthCheckRequest(), wait_for_ready=True, timeout=READY_WITHIN)
        except grpc.RpcError as error:
            code = self.process.poll()
            raise AssertionError(f"their server does not serve, exit code {code}:\n{self.log.read_text()}") from error


@contextmanager
def _their_server(venv: Venv, logs: Path, environment: Mapping[str, str], server: Sequence[str]) -> Iterator[_Server]:
    port, metrics_port = _free_port(), _free_port()
    program, *rest = server
    command = [str(venv.script(program)), *rest, "--port", str(port), "--prometheus_port", str(metrics_port)]
    with (logs / "theirs.txt").open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=clean_environment(PYTHONUNBUFFERED="1", **environment),
            cwd=logs,
            start_new_session=True,
        )
        try:
            yield _Server(f"127.0.0.1:{port}", process, logs / "theirs.txt")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # on SIGTERM it would wait for calls that are open
            process.wait(30)


def _free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
    return port
