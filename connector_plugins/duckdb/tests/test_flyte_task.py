"""The task that workflow authors write, with the real SDK 2."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import Phase
from connector_core.literals import File, to_python_map
from connector_core.testing import running_server
from connector_plugin_duckdb.connector import DuckDBConnector

flyte = pytest.importorskip("flyte", reason="needs the extra flyte")
from flyte._internal.runtime.task_serde import translate_task_to_wire  # noqa: E402
from flyte.models import SerializationContext  # noqa: E402
from flyte.types import TypeEngine  # noqa: E402
from flyteidl2.core.literals_pb2 import LiteralMap  # noqa: E402

with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
    from flyte.io import File as FlyteFile  # pydantic has deprecated how its classes are configured

from connector_plugin_duckdb.flyte_task import DuckDBQuery  # noqa: E402

WEATHER = Path(__file__).parents[3] / "examples" / "data" / "seattle-weather.csv"


def serialised(task: DuckDBQuery) -> Any:
    flyte.TaskEnvironment.from_task("queries", task)
    return translate_task_to_wire(task, SerializationContext(version="v")).task_template


def hottest() -> DuckDBQuery:
    return DuckDBQuery(
        "hottest",
        "-- the hottest day\nSELECT max(temp_max) FROM weather WHERE year(date) = $year",
        inputs={"weather": FlyteFile, "year": int},
        output=float,
    )


def run_here(task: DuckDBQuery, **inputs: Any) -> tuple[Any, ...]:
    flyte.TaskEnvironment.from_task("queries", task)
    flyte.init()
    return tuple(flyte.with_runcontext(mode="local").run(task, **inputs).outputs())


def test_a_template_has_the_sql_as_it_was_written_no_container_and_a_custom() -> None:
    template = serialised(hottest())
    assert template.type == "duckdb_query"
    assert template.sql.statement.startswith("-- the hottest day\n")
    assert not template.HasField("container")
    assert template.HasField("custom")
    assert [entry.key for entry in template.interface.outputs.variables] == ["result"]


def test_a_template_has_set_up_and_database() -> None:
    task = DuckDBQuery("q", "SELECT 1", setup="CREATE TABLE t (n INT)", database="/d/base.duckdb", read_only=False)
    assert dict(serialised(task).custom) == {
        "setup": ["CREATE TABLE t (n INT)"],
        "database": "/d/base.duckdb",
        "read_only": False,
    }


async def test_a_serialised_task_runs_on_the_host_and_the_sdk_reads_its_outputs(
    connect: Callable[..., DuckDBConnector],
) -> None:
    outputs: dict[str, Any] = {"day": str, "temperatures": list[float]}
    query = DuckDBQuery(
        "several",
        "SELECT 'snow' AS day, list(temp_max ORDER BY temp_max)[-2:] AS temperatures FROM weather WHERE weather = 'snow'",
        inputs={"weather": FlyteFile},
        output=outputs,
    )
    sent = TaskTemplate.FromString(serialised(query).SerializeToString())
    async with running_server(connect(allowed_directories=[str(WEATHER.parent)])) as host:
        resource = await host.execute(sent, {"weather": File(str(WEATHER))})
    assert Phase(resource.phase) is Phase.SUCCEEDED
    literals = LiteralMap.FromString(resource.outputs.SerializeToString())
    assert await TypeEngine.literal_map_to_kwargs(literals, outputs) == {"day": "snow", "temperatures": [10.0, 11.1]}


async def test_an_engine_of_the_second_generation_runs_it(connect: Callable[..., DuckDBConnector]) -> None:
    sent = TaskTemplate.FromString(serialised(DuckDBQuery("one", "SELECT 1", output=int)).SerializeToString())
    async with running_server(connect()) as host:
        engine = host.speaking_v2()
        resource = await engine.get("duckdb_query", await engine.create(sent))
    assert to_python_map(resource.outputs) == {"result": 1}


def test_a_query_can_be_tried_locally(tmp_path: Path) -> None:
    (tmp_path / "weather.csv").write_text("date,temp_max\n2015-01-01,1.5\n2015-07-01,30.5\n")
    assert run_here(hottest(), weather=FlyteFile(path=str(tmp_path / "weather.csv")), year=2015) == (30.5,)


def test_several_outputs_come_back_in_order_locally() -> None:
    query = DuckDBQuery("two", "SELECT 'x' AS s, $n + 1 AS n", inputs={"n": int}, output={"n": int, "s": str})
    assert run_here(query, n=1) == (2, "x")


def test_a_query_without_output_returns_nothing_locally() -> None:
    assert [one for one in run_here(DuckDBQuery("none", "CREATE TABLE t AS SELECT 1")) if one is not None] == []


def test_sql_reaches_no_other_local_files_locally_either(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("n\n1\n")
    with pytest.raises(Exception, match="file system operations are disabled"):
        run_here(DuckDBQuery("reads", f"SELECT n FROM '{tmp_path}/x.csv'", output=int))


async def test_a_query_can_be_awaited_outside_of_a_run() -> None:
    assert await DuckDBQuery("one", "SELECT 1", output=int).execute() == 1
