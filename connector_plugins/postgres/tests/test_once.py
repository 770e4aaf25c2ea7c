"""A job is done once: hosts that are killed, answers that are lost, servers that restart."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import Phase, TaskCategory
from connector_core.literals import to_python_map
from connector_core.protocol.client import Client
from connector_core.testing import running_server
from connector_plugin_postgres.connector import PostgresMeta
from connector_plugin_postgres.control import Control
from connector_plugin_postgres.failures import LOST

from .conftest import GATED_INSERT, PASSWORD, Bench, Proxy, ended, outputs, reached, task

HOST_PROGRAM = """
import asyncio, json, sys
from connector_core.testing import running_server
from connector_plugin_postgres.config import load_config
from connector_plugin_postgres.connector import PostgresConnector

async def main():
    async with running_server(PostgresConnector(load_config(json.loads(sys.argv[1])))) as host:
        print(host.address, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@contextmanager
def host_process(section: dict[str, Any]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A host in a process of its own, which can be killed, and its address."""
    import json

    with subprocess.Popen(
        [sys.executable, "-c", HOST_PROGRAM, json.dumps(section)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@asynccontextmanager
async def engine_of(address: str) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Client(channel)


def request(template: TaskTemplate, prefix: str) -> agent_pb2.CreateTaskRequest:
    return agent_pb2.CreateTaskRequest(template=template, output_prefix=prefix)


@pytest.fixture
async def counted(bench: Bench) -> Bench:
    """A bench with an empty table `t`."""
    await bench.sql("CREATE TABLE t (n int)", "SELECT 1")
    return bench


async def rows(bench: Bench) -> Any:
    return await bench.sql("SELECT count(*) FROM t")


async def test_what_a_killed_host_committed_is_found_by_the_repeated_create(counted: Bench) -> None:
    bench, prefix = counted, counted.prefix
    insert = task("INSERT INTO t VALUES (1) RETURNING n + 41")
    with host_process(bench.section()) as (process, address):
        async with engine_of(address) as engine:
            first = await engine.create(request(insert, prefix))
            await bench.until("SELECT count(*) = 1 FROM flyte_jobs")
            os.kill(process.pid, signal.SIGKILL)
    async with running_server(bench.connector()) as host:
        again = await host.create(insert, output_prefix=prefix)
        assert PostgresMeta.decode(again).job.encode() in first
        assert to_python_map((await ended(host, again)).outputs) == {"result": 42}
    assert await rows(bench) == 1


async def test_the_statement_that_a_killed_host_left_is_found_and_not_run_beside(counted: Bench) -> None:
    bench, prefix = counted, counted.prefix
    async with bench.gate() as gate:
        # The server does not look whether the host is there, so that the statement goes on.
        section = bench.section(connection_check_interval=0)
        with host_process(section) as (process, address):
            async with engine_of(address) as engine:
                await engine.create(request(task(GATED_INSERT), prefix))
                await bench.until("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory'")
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
        async with running_server(bench.connector()) as host:
            again = await host.create(task(GATED_INSERT), output_prefix=prefix)
            over = await host.get("postgres_query", again)
            assert Phase(over.phase) is Phase.RUNNING
            assert "waits for a lock" in over.message
            assert (
                await bench.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^flyte-[0-9a-f]{48}$'")
                == 1
            )
            await gate.close()
            over = await ended(host, again)
        assert Phase(over.phase) is Phase.RETRYABLE_FAILED
        assert "PostgreSQL has undone all of it" in over.message
        assert await rows(bench) == 0


async def test_the_server_ends_the_statement_of_a_killed_host(counted: Bench) -> None:
    bench = counted
    async with bench.gate():
        with host_process(bench.section(connection_check_interval=0.1)) as (process, address):
            async with engine_of(address) as engine:
                meta = await engine.create(request(task(GATED_INSERT), bench.prefix))
                await bench.until("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory'")
                os.kill(process.pid, signal.SIGKILL)
        await bench.until("SELECT count(*) = 0 FROM pg_stat_activity WHERE wait_event = 'advisory'")
        async with running_server(bench.connector()) as host:
            over = await ended(host, meta)
        assert Phase(over.phase) is Phase.RETRYABLE_FAILED
        assert over.agent_error.code == "CONNECTION_LOST"


async def test_a_job_that_waited_at_a_killed_host_can_be_tried_again(counted: Bench) -> None:
    bench = counted
    async with bench.gate():
        with host_process(bench.section(max_jobs=1, connection_check_interval=0)) as (process, address):
            async with engine_of(address) as engine:
                await engine.create(request(task(GATED_INSERT), bench.prefix))
                meta = await engine.create(request(task(GATED_INSERT), bench.prefix))
                got = await engine.get(TaskCategory("postgres_query", 0), meta)
                assert Phase(got.phase) is Phase.WAITING_FOR_RESOURCES
                os.kill(process.pid, signal.SIGKILL)
        async with running_server(bench.connector()) as host:
            over = await ended(host, meta)
        assert Phase(over.phase) is Phase.RETRYABLE_FAILED


@pytest.fixture
async def proxied(counted: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Bench, Proxy]]:
    """A bench whose connectors log in with a password, through a proxy."""
    bench = counted
    monkeypatch.setenv("_FSEC_DB_PASSWORD", PASSWORD)
    user = f"app_{bench.database}"
    await bench.sql(
        f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}",
        "SELECT 1",
    )
    async with Proxy(bench.server.socket).running() as proxy:
        yield bench, proxy


def through(bench: Bench, proxy: Proxy) -> dict[str, Any]:
    dsn = f"postgresql://app_{bench.database}@127.0.0.1:{proxy.port}/{bench.database}"
    return {"dsn": dsn, "secret": "password", "group": "db"}


def _commit(what: str) -> Any:
    return lambda data: what if b"COMMIT\0" in data else ""


async def test_a_commit_whose_answer_is_lost_is_looked_up(proxied: tuple[Bench, Proxy]) -> None:
    bench, proxy = proxied
    proxy.on_client = _commit("swallow")
    async with running_server(bench.connector(**through(bench, proxy))) as host:
        meta = await host.create(task("INSERT INTO t VALUES (1)"))
        await proxy.cut.wait()
        assert to_python_map((await ended(host, meta)).outputs) == {"result": 1}
    assert await rows(bench) == 1


async def test_a_commit_that_never_arrived_has_not_happened(proxied: tuple[Bench, Proxy]) -> None:
    bench, proxy = proxied
    proxy.on_client = _commit("cut")
    async with running_server(bench.connector(**through(bench, proxy))) as host:
        over = await ended(host, await host.create(task("INSERT INTO t VALUES (1)")))
    assert Phase(over.phase) is Phase.RETRYABLE_FAILED
    assert await rows(bench) == 0


async def test_a_wrong_password_is_told_without_the_password(
    proxied: tuple[Bench, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, proxy = proxied
    monkeypatch.setenv("_FSEC_DB_PASSWORD", "another one")
    async with running_server(bench.connector(**through(bench, proxy))) as host:
        over = await ended(host, await host.create(task("SELECT 1")))
    assert Phase(over.phase) is Phase.FAILED
    assert "the server refuses the login" in over.message
    assert "another one" not in over.message


async def test_a_server_that_restarts_fails_what_ran_and_not_what_waits(counted: Bench) -> None:
    bench = counted
    async with bench.gate():
        async with running_server(bench.connector(max_jobs=1), settings={"deadlines": {"get": 0.5}}) as host:
            ran = await host.create(task(GATED_INSERT))
            await reached(host, ran, Phase.RUNNING)
            waits = await host.create(task("INSERT INTO t VALUES (2)"))
            await reached(host, waits, Phase.WAITING_FOR_RESOURCES)
            await asyncio.to_thread(bench.server.stop)
            try:
                # The host answers what it knew while the server is away.
                assert Phase((await host.get("postgres_query", ran)).phase) is Phase.RUNNING
            finally:
                await asyncio.to_thread(bench.server.start)
            assert Phase((await ended(host, ran)).phase) is Phase.RETRYABLE_FAILED
            assert to_python_map((await ended(host, waits)).outputs) == {"result": 1}
        assert await rows(bench) == 1


async def test_a_host_that_stops_ends_its_statements(counted: Bench) -> None:
    bench = counted
    async with bench.gate():
        async with running_server(bench.connector(connection_check_interval=0)) as host:
            meta = await host.create(task(GATED_INSERT))
            await reached(host, meta, Phase.RUNNING)
        await bench.until("SELECT count(*) = 0 FROM pg_stat_activity WHERE wait_event = 'advisory'")
        async with running_server(bench.connector()) as host:
            assert Phase((await ended(host, meta)).phase) is Phase.RETRYABLE_FAILED
    assert await rows(bench) == 0


async def test_a_server_that_is_away_is_told_to_the_engine_at_the_create(bench: Bench) -> None:
    dsn = "postgresql://admin@127.0.0.1:1/nowhere"
    async with running_server(bench.connector(dsn=dsn)) as host:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await host.create(task("SELECT 1"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "the server cannot be reached" in (caught.value.details() or "")


async def test_a_job_that_was_declared_lost_cannot_commit_any_more(counted: Bench) -> None:
    bench = counted
    async with bench.gate() as gate:
        async with running_server(bench.connector()) as host:
            meta = await host.create(task(GATED_INSERT))
            await reached(host, meta, Phase.RUNNING)
            control = Control("main", bench.config().connections["main"])
            await control.settle(PostgresMeta.decode(meta).job, LOST)
            await control.close()
            await gate.close()
            assert Phase((await ended(host, meta)).phase) is Phase.RETRYABLE_FAILED
        assert await rows(bench) == 0


async def test_two_hosts_run_a_job_once_and_both_know_of_it(counted: Bench) -> None:
    bench, prefix = counted, counted.prefix
    async with bench.gate() as gate:
        async with running_server(bench.connector(max_jobs=1)) as one, running_server(bench.connector()) as other:
            first = await one.create(task(GATED_INSERT), output_prefix=prefix)
            waits = await one.create(task("INSERT INTO t VALUES (2)"))
            assert PostgresMeta.decode(await other.create(task(GATED_INSERT), output_prefix=prefix)).job == (
                PostgresMeta.decode(first).job
            )
            await reached(other, first, Phase.RUNNING)
            await reached(other, waits, Phase.WAITING_FOR_RESOURCES)
            await gate.close()
            assert to_python_map((await ended(other, first)).outputs) == {"result": 1}
            assert to_python_map((await ended(other, waits)).outputs) == {"result": 1}
        assert await rows(bench) == 2


async def test_a_missing_key_table_is_told_with_its_ddl(bench: Bench) -> None:
    async with running_server(bench.connector(key_table="ops.jobs")) as host:
        over = await ended(host, await host.create(task("SELECT 1")))
        assert Phase(over.phase) is Phase.FAILED
        assert over.agent_error.code == "KEY_TABLE"
        (ddl,) = [part for part in over.message.split("\n\n") if "CREATE TABLE" in part][:1]
        await bench.sql("CREATE SCHEMA ops", ddl[ddl.index("CREATE TABLE") :].split(";")[0], "SELECT 1")
        assert await outputs(host, task("SELECT 1")) == {"result": 1}


async def test_a_create_that_failed_can_be_repeated(bench: Bench) -> None:
    prefix = bench.prefix
    async with running_server(bench.connector()) as host:
        await asyncio.to_thread(bench.server.stop)
        try:
            with pytest.raises(grpc.aio.AioRpcError):
                await host.create(task("SELECT 1"), output_prefix=prefix, timeout=2)
        finally:
            await asyncio.to_thread(bench.server.start)
        await host.creates_ended()
        assert await outputs(host, task("SELECT 1"), prefix=prefix) == {"result": 1}
