"""A host in a process of its own that serves connectors written for flytekit: what it prints, and how it ends."""

import concurrent.futures
import json
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import grpc
from flyteidl.admin.agent_pb2 import CreateTaskRequest
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AsyncAgentServiceStub
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.support.environments import BRIDGE_OFF, run
from tests.support.gate import Gate
from tests.support.hosts import host_process

SECRET = "hunter2-and-nobody-else"
BRIDGE_ON: dict[str, Any] = dict.fromkeys(BRIDGE_OFF, "")

AT_THE_GATE = """
    import asyncio, os, socket
    from dataclasses import dataclass
    from flytekit import logger
    from flytekit.extend.backend.base_connector import AsyncConnectorBase, ConnectorRegistry, ResourceMeta
    from flytekit.extend.backend.utils import get_connector_secret

    print("printed by a module that is imported")
    ADDRESS = ("127.0.0.1", int(os.environ.get("GATE", 0)))

    @dataclass
    class Meta(ResourceMeta):
        job_id: str

        @classmethod
        def decode(cls, data):
            import pickle
            return pickle.loads(data)

    class Blocking(AsyncConnectorBase):
        def __init__(self): super().__init__(task_type_name="blocking", metadata_type=Meta)
        def get(self, resource_meta, **kwargs): ...
        def delete(self, resource_meta, **kwargs): ...
        def create(self, task_template, **kwargs):
            logger.warning(f"their code logs {get_connector_secret('gate_token')}")
            with socket.create_connection(ADDRESS) as waiting:
                waiting.recv(1)
            return Meta("7")

    class Asynchronous(Blocking):
        def __init__(self): AsyncConnectorBase.__init__(self, task_type_name="asynchronous", metadata_type=Meta)
        async def create(self, task_template, **kwargs):
            reader, writer = await asyncio.open_connection(*ADDRESS)
            await reader.read(1)
            writer.close()
            return Meta("7")

    ConnectorRegistry.register(Blocking())
    ConnectorRegistry.register(Asynchronous())
"""


def create(channel: grpc.Channel, task_type: str) -> Any:
    request = CreateTaskRequest(template=TaskTemplate(type=task_type))
    return AsyncAgentServiceStub(channel).CreateTask.future(request)


def wait_until_not_serving(channel: grpc.Channel) -> None:
    """Return when health, which is watched, says that the host drains."""
    for answer in HealthStub(channel).Watch(HealthCheckRequest()):
        if answer.status != HealthCheckResponse.SERVING:
            return


def test_a_signal_lets_20_calls_of_flytekits_connectors_finish_and_ends_with_0(tmp_path: Path) -> None:
    (tmp_path / "at_the_gate.py").write_text(textwrap.dedent(AT_THE_GATE))
    with (
        Gate() as gate,
        host_process(
            "--modules", "at_the_gate", cwd=tmp_path, GATE=str(gate.port), _FSEC_GATE_TOKEN=SECRET, **BRIDGE_ON
        ) as host,
        grpc.insecure_channel(host.address) as channel,
        concurrent.futures.ThreadPoolExecutor(1) as threads,
    ):
        drains = threads.submit(wait_until_not_serving, channel)
        calls = [create(channel, task_type) for task_type in ["blocking", "asynchronous"] * 10]
        gate.wait_for(20)
        host.process.send_signal(signal.SIGTERM)
        drains.result(30)
        assert not any(call.done() for call in calls)
        gate.open()
        assert [call.result(30).resource_meta for call in calls] == [b'{"job_id": "7"}'] * 20
        assert host.wait() == 0
    assert "flytekit/webhook" in host.output
    assert "unpickles its resource metas (with pickle)" in host.output
    assert host.output.count("their code logs") == 10
    assert SECRET not in host.output


def test_list_prints_json_whatever_is_printed_while_flytekits_plugins_are_imported(tmp_path: Path) -> None:
    (tmp_path / "at_the_gate.py").write_text(textwrap.dedent(AT_THE_GATE))
    program = Path(sys.executable).with_name("connector-host")
    listed = run(program, "list", "--json", "--modules", "at_the_gate", cwd=tmp_path, **BRIDGE_ON)
    plugins = {plugin["name"]: plugin for plugin in json.loads(listed.stdout)["plugins"]}
    assert [one["task_types"] for one in plugins["at_the_gate"]["connectors"]] == [["blocking"], ["asynchronous"]]
    assert plugins["flytekit/webhook"]["distribution"] == "flytekit"
    assert "printed by a module that is imported" in listed.stderr
