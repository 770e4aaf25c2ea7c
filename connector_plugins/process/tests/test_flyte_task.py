"""The task that workflow authors write, with the real SDK 2."""

import warnings
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import MessageToDict

pytest.importorskip("flyte", reason="needs the extra flyte")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import flyte.io  # pydantic has deprecated how its classes are configured

from flyte._internal.runtime.task_serde import translate_task_to_wire
from flyte.models import SerializationContext

from connector_core import Phase
from connector_core.literals import to_python_map
from connector_core.testing import running_server
from connector_plugin_process.flyte_task import ProcessTask


def serialised(task: ProcessTask) -> TaskTemplate:
    flyte.TaskEnvironment.from_task("processes", task)
    template = translate_task_to_wire(task, SerializationContext(version="v")).task_template
    return TaskTemplate.FromString(template.SerializeToString())


def test_the_task_is_serialised_to_what_the_connector_reads() -> None:
    template = serialised(
        ProcessTask("greet", ["echo", "{{.inputs.name}}"], inputs={"name": str}, env={"A": "1"}, cwd="/data")
    )
    assert template.type == "process"
    assert MessageToDict(template.custom) == {"argv": ["echo", "{{.inputs.name}}"], "env": {"A": "1"}, "cwd": "/data"}
    assert MessageToDict(serialised(ProcessTask("greet", ["echo"])).custom) == {"argv": ["echo"]}


async def test_a_serialised_task_runs_on_the_connector(bench: Any) -> None:
    task = ProcessTask("greet", ["echo", "hello {{.inputs.name}}"], inputs={"name": str})
    async with running_server(bench.connector) as host:
        engine = host.speaking_v2()
        meta = await engine.create(serialised(task), {"name": "world"})
        async for _ in engine.get_logs("process", meta, lines=0):
            pass
        over = await engine.get("process", meta)
    assert Phase(over.phase) is Phase.SUCCEEDED
    assert to_python_map(over.outputs) == {"exit_code": 0, "stdout": "hello world\n"}


def test_a_task_can_be_tried_locally_and_its_failure_says_why() -> None:
    greet = ProcessTask(
        "greet", ["/bin/sh", "-c", 'echo "$HELLO $0"', "{{.inputs.name}}"], inputs={"name": str}, env={"HELLO": "hi"}
    )
    fail = ProcessTask("fail", ["/bin/sh", "-c", "echo why >&2; exit 3"])
    flyte.TaskEnvironment.from_task("processes", greet)
    flyte.TaskEnvironment.from_task("failures", fail)
    flyte.init()
    run = flyte.with_runcontext(mode="local").run(greet, name="you")
    assert tuple(run.outputs()) == (0, "hi you\n")
    with pytest.raises(Exception, match="exit code 3: why"):
        flyte.with_runcontext(mode="local").run(fail)


def test_a_command_as_one_string_is_refused() -> None:
    with pytest.raises(TypeError, match="write a list"):
        ProcessTask("greet", "echo hello")
