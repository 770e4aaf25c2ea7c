"""The tasks that workflow authors write, with real flytekit."""

from collections import OrderedDict
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import MessageToDict

pytest.importorskip("flytekit", reason="needs the extra flytekit")

from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.tools.translator import get_serializable

from connector_core import InvalidInputError, Phase
from connector_core.literals import to_python_map
from connector_core.testing import running_server
from connector_plugin_http.calls import HttpCallConnector
from connector_plugin_http.connector import HttpJobConnector
from connector_plugin_http.task import HttpCall, HttpJob

from .conftest import Backend, config_of


def serialised(task: HttpCall | HttpJob) -> TaskTemplate:
    settings = SerializationSettings(ImageConfig(), project="p", domain="d", version="v")
    specification: Any = get_serializable(OrderedDict(), settings, task)
    template: TaskTemplate = specification.template.to_flyte_idl()
    return template


def test_what_is_left_out_is_not_sent() -> None:
    assert MessageToDict(serialised(HttpJob("load", "airflow")).custom) == {"endpoint": "airflow"}


async def test_a_serialised_job_runs_on_the_connector(accepting: Backend) -> None:
    task = HttpJob("render", "there", inputs={"body": dict}, outputs={"result": dict})
    async with running_server(HttpJobConnector(config_of(accepting, "accepted"))) as host:
        meta = await host.create(serialised(task), {"body": {"frame": 7}})
        over = await host.get("http_job", meta)
    assert Phase(over.phase) is Phase.SUCCEEDED
    assert to_python_map(over.outputs)["result"]["echo"] == {"frame": 7}


async def test_an_output_that_the_recipe_does_not_bring_is_refused_at_the_create(accepting: Backend) -> None:
    task = HttpJob("render", "there", outputs={"frames": int})
    async with running_server(HttpJobConnector(config_of(accepting, "accepted"))) as host:
        over = await host.get("http_job", await host.create(serialised(task)))
    assert Phase(over.phase) is Phase.FAILED
    assert "recipe 'accepted' has no outputs frames; it has: result" in over.message
    assert accepting.received == []


async def test_a_serialised_call_runs_on_the_connector(echo: Backend) -> None:
    task = HttpCall("report", "there", "/reports/{day}", inputs={"day": str}, outputs={"json": dict})
    async with running_server(HttpCallConnector(config_of(echo, calls=["GET /reports/*"]))) as host:
        over = await host.execute(serialised(task), {"day": "monday"})
    assert to_python_map(over.outputs)["json"]["target"] == "/reports/monday"


def test_a_value_that_a_request_cannot_carry_is_refused_when_the_task_is_registered() -> None:
    with pytest.raises(InvalidInputError, match=r"values\.x"):
        serialised(HttpJob("load", "airflow", values={"x": float("nan")}))
