"""The plugin on a host: how it is found and loaded, and its connector over real gRPC."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import Phase, SyncConnectorBase
from connector_core.literals import File, StructuredDataset, to_python_map
from connector_core.testing import ConnectorContract, running_server
from connector_plugin_duckdb.connector import DuckDBConnector

PLUGIN = "connector_plugin_duckdb.plugin"
WEATHER = Path(__file__).parents[3] / "examples" / "data" / "seattle-weather.csv"
ENDLESS = "SELECT count(*) FROM range(100_000_000_000_000)"

Make = Callable[..., TaskTemplate]


class TestContract(ConnectorContract):
    inputs = {"x": 41}

    def make_connector(self) -> SyncConnectorBase:
        return DuckDBConnector()

    def make_template(self) -> TaskTemplate:
        template = TaskTemplate(type="duckdb_query")
        template.sql.statement = "SELECT $x + 1"
        return template


def test_duckdb_is_never_imported_in_the_host_and_fsspec_not_before_the_connector_is_used() -> None:
    code = f"""
import asyncio, sys
from flyteidl.core.tasks_pb2 import TaskTemplate
from {PLUGIN} import register_connectors
(connector,) = register_connectors(config={{}}, places=())
assert not {{"duckdb", "_duckdb", "fsspec"}} & set(sys.modules)
async def use():
    await connector.start()
    assert "fsspec" in sys.modules
    template = TaskTemplate()
    template.sql.statement = "SELECT 1"
    await connector.do(template, {{}})
    await connector.close()
asyncio.run(use())
assert not {{"duckdb", "_duckdb"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_the_plugin_serves_with_its_section_of_the_settings(template: Make, tmp_path: Path) -> None:
    settings = {"plugins": {PLUGIN: {"allowed_directories": [str(tmp_path)]}}}
    async with running_server(plugins=[PLUGIN], settings=settings) as host:
        (agent,) = await host.list_connectors()
        assert (agent.name, agent.is_sync, list(agent.supported_task_types)) == ("DuckDB", True, ["duckdb_query"])
        query = template(f"COPY (SELECT 1 AS n) TO '{tmp_path}/x.csv'")
        await host.execute(query)
    assert (tmp_path / "x.csv").read_text() == "n\n1\n"


async def test_values_come_back_over_the_wire(template: Make, connect: Callable[..., DuckDBConnector]) -> None:
    connector = connect(allowed_directories=[str(WEATHER.parent)])
    sql = "SELECT count(*) AS days, max(temp_max) AS hottest, min(date) AS first FROM weather WHERE weather = $kind"
    async with running_server(connector) as host:
        resource = await host.execute(template(sql), {"weather": File(str(WEATHER)), "kind": "snow"})
    assert Phase(resource.phase) is Phase.SUCCEEDED
    assert to_python_map(resource.outputs) == {"result": [{"days": 26, "hottest": 11.1, "first": "2012-01-14"}]}


async def test_a_table_comes_back_as_its_uri(
    template: Make, connect: Callable[..., DuckDBConnector], open_folder: Path
) -> None:
    async with running_server(connect(allowed_directories=[str(open_folder)])) as host:
        resource = await host.execute(template("FROM range(2000)"), output_prefix=f"file://{open_folder}/out")
    columns = (("range", int),)
    assert to_python_map(resource.outputs) == {
        "result": StructuredDataset(f"file://{open_folder}/out/result", "parquet", columns)
    }


@pytest.mark.parametrize(
    ("sql", "code", "said"),
    [
        ("SELEC 1", "InvalidInput", 'syntax error at or near "SELEC"'),
        ("FROM nowhere", "InvalidInput", "nowhere does not exist"),
        ("FROM read_text('/etc/passwd')", "PermissionDenied", "/etc/passwd"),
        ("SELECT len(range(200_000_000))", "OUT_OF_MEMORY", "the query needs more memory"),
    ],
)
async def test_what_is_wrong_comes_back_as_a_failed_task(
    template: Make, connect: Callable[..., DuckDBConnector], sql: str, code: str, said: str
) -> None:
    """Not as a status, after which engines try again."""
    async with running_server(connect()) as host:
        resource = await host.execute(template(sql))
    assert Phase(resource.phase) is Phase.FAILED
    assert resource.agent_error.code == code
    assert said in resource.message


async def test_a_query_whose_client_has_gone_frees_its_thread(
    template: Make, connect: Callable[..., DuckDBConnector], open_folder: Path
) -> None:
    """With one thread, the next query can only run when the first one has let it go."""
    os.mkfifo(open_folder / "pipe")
    connector = connect(max_concurrent=1, allowed_directories=[str(open_folder)])
    endless = template(ENDLESS, custom={"setup": f"COPY (SELECT 1) TO '{open_folder}/pipe' (FORMAT csv)"})
    async with running_server(connector) as host:
        gone = asyncio.create_task(host.execute(endless))
        await asyncio.to_thread((open_folder / "pipe").read_text)
        gone.cancel()
        resource = await host.execute(template("SELECT 'free'"))
    assert to_python_map(resource.outputs) == {"result": "free"}


async def test_a_query_that_outlives_its_deadline_frees_its_thread(
    template: Make, connect: Callable[..., DuckDBConnector]
) -> None:
    async with running_server(connect(max_concurrent=1)) as host:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await host.execute(template(ENDLESS), timeout=1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        resource = await host.execute(template("SELECT 'free'"))
    assert to_python_map(resource.outputs) == {"result": "free"}


async def test_a_host_that_ends_ends_its_queries(
    template: Make, connect: Callable[..., DuckDBConnector], open_folder: Path
) -> None:
    os.mkfifo(open_folder / "pipe")
    connector = connect(allowed_directories=[str(open_folder)])
    endless = template(ENDLESS, custom={"setup": f"COPY (SELECT 1) TO '{open_folder}/pipe' (FORMAT csv)"})
    async with running_server(connector, settings={"grace": 0}) as host:
        call = asyncio.create_task(host.execute(endless))
        await asyncio.to_thread((open_folder / "pipe").read_text)
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await call
    assert "duckdb-query" not in {one.name for one in threading.enumerate()}


async def test_an_engine_that_calls_it_as_async_is_served_too(
    template: Make, connect: Callable[..., DuckDBConnector]
) -> None:
    async with running_server(connect()) as host:
        resource_meta = await host.create(template("SELECT 1"))
        resource = await host.get("duckdb_query", resource_meta)
    assert to_python_map(resource.outputs) == {"result": 1}
