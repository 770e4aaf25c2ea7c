"""The plugin on a real host and a real PostgreSQL, over real gRPC."""

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import Phase, ResourceMeta
from connector_core.literals import to_python_map
from connector_core.testing import ConnectorContract, running_server
from connector_plugin_postgres.connector import PostgresConnector, PostgresMeta

from .conftest import Bench, ended, outputs, reached, task


class TestContract(ConnectorContract):
    @pytest.fixture(autouse=True)
    def _database(self, bench: Bench) -> None:
        self.bench = bench

    def make_connector(self) -> PostgresConnector:
        return self.bench.connector()

    def make_template(self) -> TaskTemplate:
        return task("SELECT 1 AS one")

    def unknown_job(self) -> ResourceMeta:
        return PostgresMeta("0" * 48, "main")


async def test_a_statement_runs_and_its_value_comes_back(bench: Bench) -> None:
    async with running_server(bench.connector()) as host:
        assert await outputs(host, task("SELECT 1")) == {"result": 1}


async def test_a_statement_writes_once_however_often_it_is_created(bench: Bench) -> None:
    await bench.sql("CREATE TABLE t (n int)", "SELECT 1")
    async with running_server(bench.connector()) as host:
        prefix = bench.prefix
        metas = [await host.create(task("INSERT INTO t VALUES (1)"), output_prefix=prefix) for _ in range(3)]
        assert len(set(metas)) == 1
        assert to_python_map((await ended(host, metas[0])).outputs) == {"result": 1}
    async with running_server(bench.connector()) as host:
        again = await host.create(task("INSERT INTO t VALUES (1)"), output_prefix=prefix)
        assert to_python_map((await ended(host, again)).outputs) == {"result": 1}
    assert await bench.sql("SELECT count(*) FROM t") == 1


async def test_a_job_is_running_while_its_statement_is(bench: Bench) -> None:
    await bench.sql("CREATE TABLE t (n int)", "SELECT 1")
    async with running_server(bench.connector()) as host, bench.gate() as gate:
        meta = await host.create(task("SELECT 7 FROM (SELECT pg_advisory_xact_lock_shared(5)) AS gate"))
        assert "backend" in (await reached(host, meta, Phase.RUNNING)).message
        await gate.close()
        assert to_python_map((await ended(host, meta)).outputs) == {"result": 7}


async def test_the_host_serves_it_only_when_connections_are_named(bench: Bench) -> None:
    module = "connector_plugin_postgres.plugin"
    async with running_server(plugins=[module]) as host:
        assert await host.list_connectors() == []
    async with running_server(plugins=[module], settings={"plugins": {module: bench.section()}}) as host:
        assert await outputs(host, task("SELECT 2")) == {"result": 2}
