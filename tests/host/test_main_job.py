"""The main job, end to end: an operator's host in a process of its own, and a client that runs real jobs through every RPC."""

import collections
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.interface_pb2 import Variable, VariableMap
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import Container, Sql, TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub, SyncAgentServiceStub

from connector_core import Phase
from connector_core.literals import File, to_literal_map, to_python_map
from tests.support.environments import ROOT
from tests.support.hosts import HostProcess, host_process

DATA = ROOT / "examples" / "data" / "seattle-weather.csv"
PROCESS = agent_pb2.TaskCategory(name="process")
INJECTED_BY_KUBERNETES = {
    "CONNECTOR_HOST_PORT": "tcp://10.0.0.7:8000",
    "CONNECTOR_HOST_SERVICE_HOST": "10.0.0.7",
    "CONNECTOR_HOST_SERVICE_PORT": "8000",
}


@pytest.fixture(params=[{}, INJECTED_BY_KUBERNETES], ids=["plain", "in-kubernetes"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HostProcess]:
    """A host whose operator allows a shell, and DuckDB to read the examples' data."""
    (tmp_path / "connector-host.toml").write_text(
        f'[plugins.process]\nallow = ["/bin/sh"]\nstate = {json.dumps(str(tmp_path))}\n'
        f"[plugins.duckdb]\nallowed_directories = [{json.dumps(str(DATA.parent))}]\n"
    )
    with host_process(cwd=tmp_path, **request.param) as host:
        yield host
        assert host.stop() == 0


def test_a_client_runs_real_jobs_through_every_rpc(host: HostProcess, tmp_path: Path) -> None:
    with grpc.insecure_channel(host.address) as channel:
        lists_and_describes_its_connectors(AgentMetadataServiceStub(channel))
        runs_a_process_from_create_to_logs_and_metrics(AsyncAgentServiceStub(channel), tmp_path / "gate")
        deletes_a_running_process(AsyncAgentServiceStub(channel))
        answers_a_query_over_a_real_file(SyncAgentServiceStub(channel))


def lists_and_describes_its_connectors(stub: Any) -> None:
    agents = {agent.name: agent for agent in stub.ListAgents(agent_pb2.ListAgentsRequest()).agents}
    kinds = {kind: agent.is_sync for agent in agents.values() for kind in agent.supported_task_types}
    assert kinds == {"sleep": False, "process": False, "duckdb_query": True}
    for name, agent in agents.items():
        assert stub.GetAgent(agent_pb2.GetAgentRequest(name=name)).agent == agent


def runs_a_process_from_create_to_logs_and_metrics(stub: Any, gate: Path) -> None:
    os.mkfifo(gate)
    job = create(stub, f"echo first; cat {gate}; echo warning >&2")
    following = stub.GetTaskLogs(agent_pb2.GetTaskLogsRequest(task_category=PROCESS, resource_meta=job))
    assert first_lines(following) == ["first"]
    running = stub.GetTask(agent_pb2.GetTaskRequest(task_category=PROCESS, resource_meta=job)).resource
    assert Phase(running.phase) is Phase.RUNNING
    results = stub.GetTaskMetrics(agent_pb2.GetTaskMetricsRequest(task_category=PROCESS, resource_meta=job)).results
    assert results
    gate.write_text("second\n")
    assert sorted(line for message in following for line in lines_of(message)) == ["second", "warning"]
    over = stub.GetTask(agent_pb2.GetTaskRequest(task_category=PROCESS, resource_meta=job)).resource
    assert Phase(over.phase) is Phase.SUCCEEDED, over.message
    assert to_python_map(over.outputs) == {"exit_code": 0, "stdout": "first\nsecond\n"}
    page = agent_pb2.GetTaskLogsRequest(task_category=PROCESS, resource_meta=job, lines=10)
    lines = [line for message in stub.GetTaskLogs(page) for line in lines_of(message)]
    assert sorted(lines) == ["first", "second", "warning"]


def deletes_a_running_process(stub: Any) -> None:
    job = create(stub, "echo up; sleep 1000")
    following = stub.GetTaskLogs(agent_pb2.GetTaskLogsRequest(task_category=PROCESS, resource_meta=job))
    assert first_lines(following) == ["up"]
    delete(stub, job)
    delete(stub, job)
    gone = stub.GetTask(agent_pb2.GetTaskRequest(task_category=PROCESS, resource_meta=job)).resource
    assert Phase(gone.phase) is Phase.ABORTED


def answers_a_query_over_a_real_file(stub: Any) -> None:
    statement = "SELECT count(*) AS days, max(temp_max) AS hottest FROM weather WHERE weather.weather = $kind"
    template = TaskTemplate(type="duckdb_query", sql=Sql(statement=statement, dialect=Sql.ANSI))
    outputs = {"days": SimpleType.INTEGER, "hottest": SimpleType.FLOAT}
    variables = {name: Variable(type=LiteralType(simple=kind)) for name, kind in outputs.items()}
    template.interface.outputs.CopyFrom(VariableMap(variables=variables))
    inputs = to_literal_map({"weather": File(DATA.as_uri(), "csv"), "kind": "snow"})
    with DATA.open() as file:
        snow = [row for row in csv.DictReader(file) if row["weather"] == "snow"]
    assert execute(stub, template, inputs) == {
        "days": len(snow),
        "hottest": max(float(row["temp_max"]) for row in snow),
    }


def execute(stub: Any, template: TaskTemplate, inputs: LiteralMap) -> dict[str, Any]:
    requests = [
        agent_pb2.ExecuteTaskSyncRequest(header=agent_pb2.CreateRequestHeader(template=template)),
        agent_pb2.ExecuteTaskSyncRequest(inputs=inputs),
    ]
    answer = next(iter(stub.ExecuteTaskSync(iter(requests))))
    resource = answer.header.resource
    assert Phase(resource.phase) is Phase.SUCCEEDED, resource.message
    return to_python_map(resource.outputs)


_numbers = collections.Counter[str]()


def create(stub: Any, script: str) -> bytes:
    template = TaskTemplate(type="process", container=Container(command=["sh"], args=["-c", script]))
    _numbers["job"] += 1
    request = agent_pb2.CreateTaskRequest(template=template, output_prefix=f"s3://bucket/{_numbers['job']}/0")
    meta: bytes = stub.CreateTask(request).resource_meta
    return meta


def delete(stub: Any, job: bytes) -> None:
    stub.DeleteTask(agent_pb2.DeleteTaskRequest(task_category=PROCESS, resource_meta=job))


def lines_of(message: agent_pb2.GetTaskLogsResponse) -> list[str]:
    return [*message.body.results, *(line.message for line in message.body.structured_lines)]


def first_lines(messages: Iterator[agent_pb2.GetTaskLogsResponse]) -> list[str]:
    """Return the lines of the first message that has any: a page's token comes before its lines."""
    return next(lines for message in messages if (lines := lines_of(message)))
