"""The two servers that are compared, each as its users start it, in one environment and on the same backends."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from flyteidl.admin.agent_pb2 import Agent, ListAgentsRequest
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub

from connector_core.testing.propeller import FakePropeller, Workflow
from tests.proofs.stories import Story, differences, story_of
from tests.support.environments import Venv, clean_environment
from tests.support.hosts import host_process

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
    """

    theirs: str
    ours: str
    tasks: Path

    def template(self, name: str) -> TaskTemplate:
        """Return a task by its name."""
        template: TaskTemplate = TaskTemplate.FromString((self.tasks / f"{name}.pb").read_bytes())
        return template

    @asynccontextmanager
    async def engine(self, address: str) -> AsyncIterator[FakePropeller]:
        """An engine that waits long, tries each task once, and has never given one to any server before."""
        workflow = Workflow(name=f"execution-{next(_executions)}")
        async with FakePropeller([address], deadline=PATIENCE, max_attempts=1, workflow=workflow) as engine:
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
def pair(folder: Path, logs: Path, environment: Mapping[str, str]) -> Iterator[Pair]:
    """Run both servers in the environment of a folder that `bridged` has made, until the block ends."""
    venv = Venv(folder / "venv")
    environment = {**environment, "PYTHONDONTWRITEBYTECODE": ""}  # starting often is what compiling once is for
    with ExitStack() as servers:
        theirs = servers.enter_context(_flytekit_server(venv, logs, environment))  # it starts while ours does
        program = venv.script("connector-host")
        host = servers.enter_context(host_process(program=program, cwd=logs, before=(), **environment))
        theirs.wait()
        yield Pair(theirs.address, host.address, folder / "tasks")


def agents(address: str) -> Mapping[str, Agent]:
    """Return what a server lists, by task type."""
    with grpc.insecure_channel(address) as channel:
        stub = AgentMetadataServiceStub(channel)
        answer = stub.ListAgents(ListAgentsRequest(), wait_for_ready=True, timeout=READY_WITHIN)
    return {category.name: agent for agent in answer.agents for category in agent.supported_task_categories}


@dataclass(frozen=True)
class _Server:
    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> None:
        try:
            agents(self.address)
        except grpc.RpcError as error:
            code = self.process.poll()
            raise AssertionError(f"flytekit does not serve, exit code {code}:\n{self.log.read_text()}") from error


@contextmanager
def _flytekit_server(venv: Venv, logs: Path, environment: Mapping[str, str]) -> Iterator[_Server]:
    port, metrics_port = _free_port(), _free_port()
    command = [str(venv.script("pyflyte")), "serve", "connector"]
    command += ["--port", str(port), "--prometheus_port", str(metrics_port)]
    with (logs / "flytekit.txt").open("wb") as out:
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
            yield _Server(f"127.0.0.1:{port}", process, logs / "flytekit.txt")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # on SIGTERM it would wait for calls that are open
            process.wait(30)


def _free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
    return port
