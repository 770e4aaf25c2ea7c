"""The task that workflow authors write, with real flytekit."""

from collections import OrderedDict
from typing import Any

import pyarrow as pa
import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import MessageToDict

pytest.importorskip("flytekit", reason="needs the extra flytekit")

from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.type_engine import TypeEngine
from flytekit.models.literals import LiteralMap
from flytekit.tools.translator import get_serializable
from flytekit.types.structured.structured_dataset import StructuredDataset

from connector_core import InvalidInputError
from connector_core.testing import running_server
from connector_plugin_postgres.task import PostgresQuery

from .conftest import Bench, run


def serialised(task: PostgresQuery) -> TaskTemplate:
    settings = SerializationSettings(ImageConfig(), project="p", domain="d", version="v")
    specification: Any = get_serializable(OrderedDict(), settings, task)
    template: TaskTemplate = specification.template.to_flyte_idl()
    return template


async def decoded(over: Any, types: dict[str, Any]) -> dict[str, Any]:
    """The outputs as flytekit gives them to the next task."""
    literals = LiteralMap.from_flyte_idl(over.outputs)
    context = FlyteContextManager.current_context()
    values: dict[str, Any] = await TypeEngine._literal_map_to_kwargs(context, literals, types)
    return values


def test_what_is_left_out_is_not_sent() -> None:
    task = PostgresQuery("one", "SELECT 1", "main")
    assert MessageToDict(serialised(task).custom) == {"query": "SELECT 1", "connection": "main"}
    vacuum = PostgresQuery("vacuum", "VACUUM", "main", transaction=False)
    assert MessageToDict(serialised(vacuum).custom)["transaction"] is False


async def test_a_serialised_task_runs_and_flytekit_reads_its_outputs(bench: Bench) -> None:
    task = PostgresQuery(
        "add",
        "SELECT $a::int + $b AS total, 'x' AS name",
        "main",
        inputs={"a": int, "b": int},
        output={"total": int, "name": str},
    )
    async with running_server(bench.connector()) as host:
        over = await run(host, serialised(task), {"a": 40, "b": 2})
    assert await decoded(over, {"total": int, "name": str}) == {"total": 42, "name": "x"}


async def test_flytekit_opens_a_table(bench: Bench) -> None:
    task = PostgresQuery("rows", "SELECT generate_series(1, 3) AS n", "main", output=StructuredDataset)
    async with running_server(bench.connector()) as host:
        over = await run(host, serialised(task), prefix=bench.prefix)
    (found,) = (await decoded(over, {"result": StructuredDataset})).values()
    assert found.open(pa.Table).all()["n"].to_pylist() == [1, 2, 3]


def test_a_statement_that_is_refused_is_refused_when_the_task_is_registered() -> None:
    with pytest.raises(InvalidInputError, match="begins with COMMIT"):
        serialised(PostgresQuery("bad", "COMMIT", "main"))
