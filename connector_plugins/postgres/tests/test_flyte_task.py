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
from connector_plugin_postgres.flyte_task import PostgresQuery

from .conftest import Bench, ended


def serialised(task: PostgresQuery) -> TaskTemplate:
    flyte.TaskEnvironment.from_task("queries", task)
    template = translate_task_to_wire(task, SerializationContext(version="v")).task_template
    return TaskTemplate.FromString(template.SerializeToString())


def test_the_task_is_serialised_to_what_the_connector_reads() -> None:
    template = serialised(PostgresQuery("vacuum", "VACUUM", "main", transaction=False))
    assert template.type == "postgres_query"
    assert MessageToDict(template.custom) == {"query": "VACUUM", "connection": "main", "transaction": False}


async def test_a_serialised_task_runs_on_the_connector(bench: Bench) -> None:
    task = PostgresQuery("double", "SELECT $n * 2 AS n", "main", inputs={"n": int}, output={"n": int})
    async with running_server(bench.connector()) as host:
        engine = host.speaking_v2()
        over = await ended(engine, await engine.create(serialised(task), {"n": 21}))
    assert Phase(over.phase) is Phase.SUCCEEDED, over.message
    assert to_python_map(over.outputs) == {"n": 42}


async def test_a_table_is_declared_as_a_data_frame(bench: Bench) -> None:
    task = PostgresQuery("rows", "SELECT generate_series(1, 3) AS n", "main", output=flyte.io.DataFrame)
    async with running_server(bench.connector()) as host:
        engine = host.speaking_v2()
        over = await ended(engine, await engine.create(serialised(task), output_prefix=bench.prefix))
    assert Phase(over.phase) is Phase.SUCCEEDED, over.message
    assert to_python_map(over.outputs)["result"].format == "parquet"
