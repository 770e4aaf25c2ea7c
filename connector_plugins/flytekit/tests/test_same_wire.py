"""The same tasks on flytekit's own server and on this host: the same bytes, and jobs that move from one to the other."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import SimpleType
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub, SyncAgentServiceStub

from connector_core.literals import to_literal_map, to_python_map
from connector_core.plugins import PluginSource
from connector_core.testing import running_server

MODULE = "their_connectors"
SERVED = Path(__file__).with_name("served")
READY_SECONDS = 60.0


class Server:
    """The calls of the protocol on a server, whichever it is."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._async = AsyncAgentServiceStub(channel)
        self._sync = SyncAgentServiceStub(channel)
        self.metadata = AgentMetadataServiceStub(channel)

    async def create(self, template: TaskTemplate, inputs: dict[str, Any]) -> bytes:
        request = agent_pb2.CreateTaskRequest(
            template=template,
            inputs=to_literal_map(inputs),
            output_prefix="s3://bucket/path/0",
            task_execution_metadata=agent_pb2.TaskExecutionMetadata(labels={"unit": "7"}),
        )
        answer = await self._async.CreateTask(request)
        meta: bytes = answer.resource_meta
        return meta

    async def get(self, template: TaskTemplate, meta: bytes) -> agent_pb2.Resource:
        request = agent_pb2.GetTaskRequest(task_category=category(template), resource_meta=meta)
        answer: agent_pb2.GetTaskResponse = await self._async.GetTask(request)
        return answer.resource

    async def delete(self, template: TaskTemplate, meta: bytes) -> None:
        await self._async.DeleteTask(agent_pb2.DeleteTaskRequest(task_category=category(template), resource_meta=meta))

    async def execute(self, template: TaskTemplate, inputs: dict[str, Any]) -> agent_pb2.Resource:
        header = agent_pb2.CreateRequestHeader(template=template, output_prefix="s3://bucket/path/0")
        requests = [
            agent_pb2.ExecuteTaskSyncRequest(header=header),
            agent_pb2.ExecuteTaskSyncRequest(inputs=to_literal_map(inputs)),
        ]
        answer: agent_pb2.ExecuteTaskSyncResponse = await self._sync.ExecuteTaskSync(iter(requests)).read()
        return answer.header.resource


def category(template: TaskTemplate) -> agent_pb2.TaskCategory:
    return agent_pb2.TaskCategory(name=template.type, version=template.task_type_version)


def task(task_type: str, version: int = 0, custom: dict[str, Any] | None = None, **inputs: Any) -> TaskTemplate:
    template = TaskTemplate(type=task_type, task_type_version=version)
    template.custom.update(custom or {})
    for name in inputs:
        template.interface.inputs.variables[name].type.simple = SimpleType.STRING
    return template


TASKS = {
    "async": (task("their_async", custom={"ü": "ö"}, id=""), {"id": "job-ä"}),
    "blocking": (task("their_blocking", 2, id=""), {"id": "job-7"}),
    "sensor": (
        task(
            "sensor",
            custom={
                "sensor_module": "flytekit.sensor.file_sensor",
                "sensor_name": "FileSensor",
                "sensor_config": None,
                "inputs": None,
            },
            path="",
        ),
        {"path": str(SERVED)},
    ),
}


@pytest.fixture(scope="module")
def flytekit_port() -> Iterator[int]:
    """flytekit's own server, in a process of its own."""
    ports = [_free_port(), _free_port()]
    command = [str(Path(sys.executable).with_name("pyflyte")), "serve", "connector", "--modules", MODULE]
    process = subprocess.Popen(
        [*command, "--port", str(ports[0]), "--prometheus_port", str(ports[1])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(SERVED)},
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
            stub = AgentMetadataServiceStub(channel)
            stub.ListAgents(agent_pb2.ListAgentsRequest(), wait_for_ready=True, timeout=READY_SECONDS)
        yield ports[0]
    finally:
        process.kill()
        process.wait(30)


def _free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
    return port


@pytest.fixture
async def both(flytekit_port: int, bridge: PluginSource, served: Path) -> AsyncIterator[tuple[Server, Server]]:
    """flytekit's server and this host."""
    async with (
        running_server(plugins=[MODULE, bridge], settings={"allow_risks": ["flytekit"]}) as host,
        grpc.aio.insecure_channel(f"127.0.0.1:{flytekit_port}") as channel,
    ):
        yield Server(channel), Server(host.channel)


@pytest.mark.parametrize("name", TASKS)
async def test_resource_metas_and_resources_are_the_same_bytes(both: tuple[Server, Server], name: str) -> None:
    template, inputs = TASKS[name]
    theirs, ours = [await server.create(template, inputs) for server in both]
    assert ours == theirs
    resources = [(await server.get(template, theirs)).SerializeToString(deterministic=True) for server in both]
    assert resources[0] == resources[1]
    assert resources[0]


@pytest.mark.parametrize("name", TASKS)
async def test_a_job_moves_from_either_to_the_other(both: tuple[Server, Server], name: str) -> None:
    template, inputs = TASKS[name]
    for begun, finished in (both, both[::-1]):
        meta = await begun.create(template, inputs)
        assert (await finished.get(template, meta)).phase == agent_pb2.Resource(phase="SUCCEEDED").phase
        await finished.delete(template, meta)


async def test_a_sync_task_is_answered_with_the_same_bytes(both: tuple[Server, Server]) -> None:
    answers = [await server.execute(task("their_answers", n=""), {"n": "ä"}) for server in both]
    assert answers[0] == answers[1]
    assert to_python_map(answers[0].outputs) == {"n": "ä"}


async def test_every_connector_is_listed_as_flytekits_server_lists_it(both: tuple[Server, Server]) -> None:
    theirs, ours = [
        {agent.name: agent for agent in (await server.metadata.ListAgents(agent_pb2.ListAgentsRequest())).agents}
        for server in both
    ]
    assert ours == theirs


@pytest.fixture
def web() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """A web server on loopback, and what it was asked."""
    asked: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, self.headers["X-Token"], body))
            self.send_response(200 if self.path == "/good" else 503)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"done: \xc3\xa4")

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["good", "bad"])
async def test_a_webhook_calls_and_answers_the_same(
    both: tuple[Server, Server], web: tuple[str, list[tuple[str, str, bytes]]], path: str
) -> None:
    url, asked = web
    custom = {
        "url": f"{url}/{path}",
        "method": "POST",
        "headers": {"X-Token": "{inputs.who}"},
        "data": {"hello": "{inputs.who}"},
        "show_data": True,
        "show_url": True,
        "timeout_sec": 10,
    }
    answers = [await server.execute(task("webhook", custom=custom, who=""), {"who": "you"}) for server in both]
    assert answers[0] == answers[1]
    assert answers[0].phase == agent_pb2.Resource(phase="SUCCEEDED" if path == "good" else "FAILED").phase
    assert asked == [(f"/{path}", "you", b'{"hello":"you"}')] * 2
