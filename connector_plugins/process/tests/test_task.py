"""The task that workflow authors write, with real flytekit."""

from collections import OrderedDict
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import MessageToDict

pytest.importorskip("flytekit", reason="needs the extra flytekit")

from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.workflow import workflow
from flytekit.tools.translator import get_serializable

from connector_core import Phase
from connector_plugin_process.task import ProcessTask


def serialised(task: ProcessTask) -> TaskTemplate:
    settings = SerializationSettings(ImageConfig(), project="p", domain="d", version="v")
    specification: Any = get_serializable(OrderedDict(), settings, task)
    template: TaskTemplate = specification.template.to_flyte_idl()
    return template


def test_the_task_is_serialised_to_what_the_connector_reads() -> None:
    task = ProcessTask("greet", ["echo", "{{.inputs.name}}"], inputs={"name": str}, env={"A": "1"}, cwd="/data")
    template = serialised(task)
    assert template.type == "process"
    assert not template.HasField("container")
    assert MessageToDict(template.custom) == {"argv": ["echo", "{{.inputs.name}}"], "env": {"A": "1"}, "cwd": "/data"}
    assert set(template.interface.inputs.variables) == {"name"}
    assert set(template.interface.outputs.variables) == {"exit_code", "stdout"}


def test_what_is_left_out_is_not_sent() -> None:
    assert MessageToDict(serialised(ProcessTask("greet", ["echo"])).custom) == {"argv": ["echo"]}


def test_a_serialised_task_runs_on_the_connector(bench: Any) -> None:
    task = ProcessTask("greet", ["echo", "hello {{.inputs.name}}"], inputs={"name": str})
    meta = bench.connector.create(serialised(task), {"name": "world"}, "", None)
    over = bench.end(meta)
    assert over.phase is Phase.SUCCEEDED
    assert over.outputs == {"exit_code": 0, "stdout": "hello world\n"}
    assert set(over.outputs) == set(task.python_interface.outputs)


def test_a_workflow_with_the_task_can_be_tried_locally() -> None:
    greet = ProcessTask(
        "greet", ["/bin/sh", "-c", 'echo "$HELLO $0"', "{{.inputs.name}}"], inputs={"name": str}, env={"HELLO": "hi"}
    )

    @workflow
    def wf(name: str) -> str:
        greeted: Any = greet(name=name)
        return greeted.stdout  # type: ignore[no-any-return]

    assert wf(name="you") == "hi you\n"


def test_a_command_that_fails_locally_fails_the_task() -> None:
    task = ProcessTask("fail", ["/bin/sh", "-c", "echo why >&2; exit 3"])
    with pytest.raises(Exception, match="exit code 3: why"):
        task()


def test_a_command_as_one_string_is_refused() -> None:
    with pytest.raises(TypeError, match="write a list"):
        ProcessTask("greet", "echo hello")
