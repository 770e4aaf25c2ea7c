"""The task that workflow authors write, with the real SDK 2."""

import warnings

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
from connector_plugin_http.connector import HttpJobConnector
from connector_plugin_http.flyte_task import HttpJob

from .conftest import Backend, config_of


def serialised(task: HttpJob) -> TaskTemplate:
    flyte.TaskEnvironment.from_task("jobs", task)
    template = translate_task_to_wire(task, SerializationContext(version="v")).task_template
    return TaskTemplate.FromString(template.SerializeToString())


def test_the_task_is_serialised_to_what_the_connector_reads() -> None:
    template = serialised(HttpJob("load", "airflow", values={"dag": "load", "n": 3}, recipe="airflow3"))
    assert template.type == "http_job"
    assert MessageToDict(template.custom) == {
        "endpoint": "airflow",
        "recipe": "airflow3",
        "values": {"dag": "load", "n": 3.0},
    }


async def test_a_serialised_job_runs_on_the_connector(accepting: Backend) -> None:
    task = HttpJob("render", "there", inputs={"body": str}, outputs={"result": dict})
    async with running_server(HttpJobConnector(config_of(accepting, "accepted"))) as host:
        engine = host.speaking_v2()
        meta = await engine.create(serialised(task), {"body": "frame"})
        over = await engine.get("http_job", meta)
    assert Phase(over.phase) is Phase.SUCCEEDED
    assert to_python_map(over.outputs)["result"]["echo"] == "frame"
