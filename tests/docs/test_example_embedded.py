"""The program that embeds a server does its own work, serves, and ends on SIGTERM."""

import signal
import subprocess
import sys

import grpc
from flyteidl.admin.agent_pb2 import CreateRequestHeader, ExecuteTaskSyncRequest
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import SyncAgentServiceStub

from connector_core.literals import to_literal_map, to_python_map
from tests.support.environments import ROOT, clean_environment

PROGRAM = ROOT / "examples" / "embedded" / "main.py"


def price(channel: grpc.Channel, item: str) -> float:
    requests = [
        ExecuteTaskSyncRequest(header=CreateRequestHeader(template=TaskTemplate(type="price"))),
        ExecuteTaskSyncRequest(inputs=to_literal_map({"item": item})),
    ]
    answer = next(SyncAgentServiceStub(channel).ExecuteTaskSync(iter(requests)))
    found: float = to_python_map(answer.header.resource.outputs)["price"]
    return found


def test_a_task_is_told_the_programs_own_prices() -> None:
    environment = clean_environment(CONNECTOR_HOST__PORT="0", CONNECTOR_HOST__HTTP_PORT="0")
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)], stdout=subprocess.PIPE, text=True, env=environment
    ) as program:
        try:
            assert program.stdout is not None
            announced, port = program.stdout.readline().rsplit(maxsplit=1)
            assert announced == "prices are served on port"
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                assert price(channel, "tea") >= 3.0
                assert price(channel, "coffee") >= 4.0
            program.send_signal(signal.SIGTERM)
            assert program.wait(60) == 0
        finally:
            program.kill()
