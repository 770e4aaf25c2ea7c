"""The task that workflow authors write, with real flytekit."""

import gc
import signal
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core.literals import to_python_map
from connector_core.testing import running_server
from connector_plugin_duckdb.connector import DuckDBConnector

on_interrupt = signal.getsignal(signal.SIGINT)
flytekit = pytest.importorskip("flytekit", reason="needs the extra flytekit")
pd = pytest.importorskip("pandas", reason="flytekit reads tables with pandas")
from flytekit import FlyteContextManager, task, workflow  # noqa: E402
from flytekit.configuration import ImageConfig, SerializationSettings  # noqa: E402
from flytekit.core.type_engine import TypeEngine  # noqa: E402
from flytekit.models.literals import LiteralMap as FlytekitLiterals  # noqa: E402
from flytekit.tools.translator import get_serializable  # noqa: E402
from flytekit.types.file import FlyteFile  # noqa: E402
from flytekit.types.structured.structured_dataset import StructuredDataset  # noqa: E402

from connector_plugin_duckdb.task import DuckDBQuery  # noqa: E402

signal.signal(signal.SIGINT, on_interrupt)  # importing flytekit takes Ctrl-C away from pytest

WEATHER = Path(__file__).parents[3] / "examples" / "data" / "seattle-weather.csv"


@pytest.fixture(autouse=True)
def cleaned_up() -> Iterator[None]:
    """Collects the temporary folders that flytekit's local tasks leave to the garbage collector, which warns of them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def serialised(query: DuckDBQuery) -> TaskTemplate:
    settings = SerializationSettings(ImageConfig(), project="p", domain="d", version="v")
    specification: Any = get_serializable(OrderedDict(), settings, query)
    template: TaskTemplate = specification.template.to_flyte_idl()
    return template


def hottest() -> DuckDBQuery:
    return DuckDBQuery(
        "hottest",
        "-- the hottest day\nSELECT max(temp_max) FROM weather WHERE year(date) = $year  AND weather <> '  '",
        inputs={"weather": FlyteFile, "year": int},
        output=float,
    )


def test_a_template_has_the_sql_as_it_was_written() -> None:
    template = serialised(hottest())
    assert template.type == "duckdb_query"
    assert template.sql.statement == hottest().query
    assert list(template.interface.outputs.variables) == ["result"]
    assert not template.custom.fields


def test_a_template_has_set_up_and_database() -> None:
    query = DuckDBQuery("q", "SELECT 1", setup="CREATE TABLE t (n INT)", database="/d/base.duckdb", read_only=False)
    assert dict(serialised(query).custom) == {
        "setup": ["CREATE TABLE t (n INT)"],
        "database": "/d/base.duckdb",
        "read_only": False,
    }


async def test_a_serialised_task_runs_on_the_host_and_flytekit_reads_its_outputs(
    connect: Callable[..., DuckDBConnector], tmp_path: Path
) -> None:
    context = FlyteContextManager.current_context()
    query = DuckDBQuery(
        "months",
        "SELECT month(date) AS month, round(sum(precipitation), 1) AS rain, min(date) AS since FROM weather "
        "WHERE year(date) = $year GROUP BY ALL ORDER BY month",
        inputs={"weather": pd.DataFrame, "year": int},
        output=pd.DataFrame,
    )
    values = {"weather": pd.read_csv(WEATHER, parse_dates=["date"]), "year": 2015}
    literals = TypeEngine.dict_to_literal_map(context, values, query.get_input_types()).to_flyte_idl()
    folder = Path(literals.literals["weather"].scalar.structured_dataset.uri).parent
    connector = connect(allowed_directories=[str(folder), str(tmp_path)])
    async with running_server(connector) as host:
        resource = await host.execute(serialised(query), literals, output_prefix=str(tmp_path / "out"))
    outputs = TypeEngine.literal_map_to_kwargs(
        context, FlytekitLiterals.from_flyte_idl(resource.outputs), {"result": pd.DataFrame}
    )
    table = outputs["result"]
    assert list(table.columns) == ["month", "rain", "since"]
    assert len(table) == 12
    assert table.rain[11] == 284.5
    assert str(table.since[0])[:10] == "2015-01-01"


async def test_values_come_back_as_the_types_that_the_author_declared(connect: Callable[..., DuckDBConnector]) -> None:
    context = FlyteContextManager.current_context()
    outputs: dict[str, Any] = {"n": int, "x": float, "names": list[str], "row": dict, "maybe": int | None}
    query = DuckDBQuery(
        "several",
        "SELECT 1 AS n, 0.5 AS x, ['a', 'b'] AS names, {'k': 9007199254740993} AS row, NULL AS maybe",
        output=outputs,
    )
    async with running_server(connect()) as host:
        resource = await host.execute(serialised(query))
    found = TypeEngine.literal_map_to_kwargs(context, FlytekitLiterals.from_flyte_idl(resource.outputs), outputs)
    assert found == {"n": 1, "x": 0.5, "names": ["a", "b"], "row": {"k": 9007199254740993}, "maybe": None}


def test_a_workflow_with_the_task_can_be_tried_locally() -> None:
    query = hottest()

    @workflow
    def wf(weather: FlyteFile, year: int) -> float:
        found: Any = query(weather=weather, year=year)
        return found  # type: ignore[no-any-return]

    assert wf(weather=FlyteFile(str(WEATHER)), year=2014) == 35.6


def test_tables_go_between_python_tasks_and_queries_locally() -> None:
    query = DuckDBQuery("even", "FROM t WHERE n % 2 = 0", inputs={"t": StructuredDataset}, output=StructuredDataset)

    @task
    def make() -> StructuredDataset:
        return StructuredDataset(pd.DataFrame({"n": [1, 2, 3, 4]}))

    @task
    def add_up(t: StructuredDataset) -> int:
        return int(t.open(pd.DataFrame).all().n.sum())

    @workflow
    def wf() -> int:
        found: Any = add_up(t=query(t=make()))
        return found  # type: ignore[no-any-return]

    assert wf() == 6


def test_a_query_without_output_returns_nothing_locally() -> None:
    query = DuckDBQuery("nothing", "CREATE TABLE t AS SELECT 1")

    @workflow
    def wf() -> None:
        query()

    assert wf() is None


def test_sql_reaches_no_other_local_files_locally_either(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("n\n1\n")
    query = DuckDBQuery("reads", f"SELECT n FROM '{tmp_path}/x.csv'", output=int)
    with pytest.raises(Exception, match="file system operations are disabled"):
        query()


async def test_what_a_serialised_task_gives_is_what_its_interface_says(connect: Callable[..., DuckDBConnector]) -> None:
    query = DuckDBQuery("names", "SELECT 'a' AS name UNION ALL SELECT 'b'", output=list[str])
    async with running_server(connect()) as host:
        resource = await host.execute(serialised(query))
    assert to_python_map(resource.outputs) == {"result": ["a", "b"]}
