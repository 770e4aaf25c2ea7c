"""A plugin made by `connector-host new`, from the wheel to its first answer: the steps that it prints really work."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AsyncAgentServiceStub, SyncAgentServiceStub

from connector_core.literals import to_literal_map, to_python_map
from tests.support.environments import Venv, make_venv, run, uv
from tests.support.hosts import host_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),  # an environment, a test suite, a type check and a host
]

TEMPLATE = TaskTemplate(type="words_count")
INPUTS = to_literal_map({"text": "to be or not to be"})


def counted_by_a_job(channel: grpc.Channel) -> dict[str, Any]:
    stub = AsyncAgentServiceStub(channel)
    job = stub.CreateTask(agent_pb2.CreateTaskRequest(template=TEMPLATE, inputs=INPUTS)).resource_meta
    category = agent_pb2.TaskCategory(name=TEMPLATE.type)
    look = agent_pb2.GetTaskRequest(task_category=category, resource_meta=job)
    running, done = (stub.GetTask(look).resource for _ in range(2))
    assert (running.phase, done.phase) == (TaskExecution.RUNNING, TaskExecution.SUCCEEDED)
    stub.DeleteTask(agent_pb2.DeleteTaskRequest(task_category=category, resource_meta=job))
    return to_python_map(done.outputs)


def counted_at_once(channel: grpc.Channel) -> dict[str, Any]:
    header = agent_pb2.CreateRequestHeader(template=TEMPLATE)
    messages = [agent_pb2.ExecuteTaskSyncRequest(header=header), agent_pb2.ExecuteTaskSyncRequest(inputs=INPUTS)]
    answer = next(SyncAgentServiceStub(channel).ExecuteTaskSync(iter(messages)))
    assert answer.header.resource.phase == TaskExecution.SUCCEEDED
    return to_python_map(answer.header.resource.outputs)


def in_shell(venv: Venv, steps: list[str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run commands as somebody does who has activated the environment."""
    path = [str(venv.python.parent), str(Path(uv()).parent), "/usr/bin", "/bin"]
    return run("sh", "-e", "-c", "\n".join(steps), cwd=cwd, PATH=":".join(path), VIRTUAL_ENV=str(venv.path))


@pytest.mark.parametrize(("kind", "count"), [("async", counted_by_a_job), ("sync", counted_at_once)])
def test_a_new_plugin_installs_passes_its_tests_and_is_served(
    core_wheel: Path, tmp_path: Path, kind: str, count: Callable[[grpc.Channel], dict[str, Any]]
) -> None:
    venv = make_venv(tmp_path / "venv", f"connector-core[new] @ {core_wheel.as_uri()}")
    # pip compiles what it installs: nothing of that may get into what the template writes.
    run(venv.python, "-m", "compileall", "-q", next((venv.path / "lib").glob("python3*/site-packages/connector_core")))
    new = venv.script("connector-host")
    made = run(new, "new", "word-count", "--task-type", TEMPLATE.type, "--kind", kind, "--output", ".", cwd=tmp_path)
    assert not list(tmp_path.glob("connector-plugin-word-count/**/__pycache__"))

    *steps, last = [line.strip() for line in made.stdout.splitlines() if line.startswith("  ")]
    assert last == "connector-host serve"
    shown = in_shell(venv, steps, tmp_path).stdout
    assert " passed" in shown
    assert "Success: no issues found" in shown
    assert f"word-count  connector-plugin-word-count  0.1.0    loaded  Word Count  words_count  {kind}" in shown

    with host_process(program=venv.script("connector-host"), cwd=tmp_path) as host:
        with grpc.insecure_channel(host.address) as channel:
            assert count(channel) == {"words": 6}
        assert host.stop() == 0
