"""The task that workflow authors write, with real flytekit."""

from collections import OrderedDict
from typing import Any

import pytest
from flyteidl.core.literals_pb2 import LiteralMap

pytest.importorskip("flytekit", reason="needs the extra flytekit")

from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.workflow import workflow
from flytekit.tools.translator import get_serializable

from connector_core import Phase
from connector_core.literals import to_python_map
from connector_core.testing import running_server
from connector_plugin_sleep.connector import SleepConnector
from connector_plugin_sleep.task import SleepTask


async def test_a_serialised_task_runs_on_the_connector() -> None:
    settings = SerializationSettings(ImageConfig(), project="p", domain="d", version="v")
    specification: Any = get_serializable(OrderedDict(), settings, SleepTask("nap"))
    async with running_server(SleepConnector()) as host:
        nap = await host.create(specification.template.to_flyte_idl(), {"seconds": 0.0})
        over = await host.get("sleep", nap)
    assert Phase(over.phase) is Phase.SUCCEEDED
    outputs: LiteralMap = over.outputs
    assert to_python_map(outputs) == {"slept": 0.0}
    assert set(outputs.literals) == set(specification.template.interface.outputs)


def test_a_workflow_with_the_task_can_be_tried_locally() -> None:
    nap = SleepTask("nap")

    @workflow
    def wf() -> float:
        slept: Any = nap(seconds=0.0)
        return slept  # type: ignore[no-any-return]

    assert wf() == 0.0
