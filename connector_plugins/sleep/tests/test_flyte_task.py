"""The task that workflow authors write, with the real SDK 2."""

import warnings
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate

pytest.importorskip("flyte", reason="needs the extra flyte")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import flyte.io  # pydantic has deprecated how its classes are configured

from flyte._internal.runtime.task_serde import translate_task_to_wire
from flyte.models import SerializationContext

from connector_core import Phase
from connector_core.literals import to_python_map
from connector_core.testing import running_server
from connector_plugin_sleep.connector import SleepConnector
from connector_plugin_sleep.flyte_task import SleepTask


def serialised(task: SleepTask) -> Any:
    flyte.TaskEnvironment.from_task("naps", task)
    return translate_task_to_wire(task, SerializationContext(version="v")).task_template


def test_the_template_carries_a_custom_without_which_engines_fail_it() -> None:
    template = serialised(SleepTask("nap"))
    assert template.type == "sleep"
    assert template.HasField("custom")


async def test_a_serialised_task_runs_on_the_connector() -> None:
    template = serialised(SleepTask("nap", retries=2))
    sent = TaskTemplate.FromString(template.SerializeToString())
    async with running_server(SleepConnector()) as host:
        nap = await host.speaking_v2().create(sent, {"seconds": 0.0})
        over = await host.speaking_v2().get("sleep", nap)
    assert Phase(over.phase) is Phase.SUCCEEDED
    assert to_python_map(over.outputs) == {"slept": 0.0}
    assert [entry.key for entry in template.interface.outputs.variables] == ["slept"]


def test_a_task_can_be_tried_locally() -> None:
    nap = SleepTask("nap")
    flyte.TaskEnvironment.from_task("naps", nap)
    flyte.init()
    run = flyte.with_runcontext(mode="local").run(nap, seconds=0.0)
    assert tuple(run.outputs()) == (0.0,)
