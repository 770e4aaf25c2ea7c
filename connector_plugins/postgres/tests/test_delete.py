"""What DeleteTask ends: a statement, a connection that does not listen, a job that waits, here or at another host."""

from typing import Any

import pytest

from connector_core import Phase
from connector_core.testing import running_server
from connector_plugin_postgres.connector import PostgresMeta

from .conftest import GATED_INSERT, Bench, ended, reached, task

STUBBORN = """
DO $$ BEGIN
    LOOP
        BEGIN
            INSERT INTO t VALUES (1);
            PERFORM pg_sleep(100);
        EXCEPTION WHEN query_canceled THEN NULL;
        END;
    END LOOP;
END $$
"""


@pytest.fixture
async def counted(bench: Bench) -> Bench:
    """A bench with an empty table `t`."""
    await bench.sql("CREATE TABLE t (n int)", "SELECT 1")
    return bench


async def nothing_is_left(bench: Bench) -> bool:
    backends = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^flyte-[0-9a-f]{48}$'"
    return (await bench.sql(backends), await bench.sql("SELECT count(*) FROM t")) == (0, 0)


async def phase(host: Any, meta: bytes) -> Phase:
    return Phase((await host.get("postgres_query", meta)).phase)


@pytest.mark.parametrize("statement", [GATED_INSERT, "INSERT INTO t SELECT 1 FROM pg_sleep(100)"])
async def test_a_statement_is_cancelled_and_undone(counted: Bench, statement: str) -> None:
    async with counted.gate(), running_server(counted.connector()) as host:
        meta = await host.create(task(statement))
        await reached(host, meta, Phase.RUNNING)
        await host.delete("postgres_query", meta)
        assert await nothing_is_left(counted)
        await host.delete("postgres_query", meta)
        assert await phase(host, meta) is Phase.ABORTED


async def test_a_statement_that_ignores_cancellation_loses_its_connection(counted: Bench) -> None:
    async with running_server(counted.connector(cancel_grace=0.1)) as host:
        meta = await host.create(task(STUBBORN))
        await counted.until("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        await host.delete("postgres_query", meta)
        assert await nothing_is_left(counted)
        assert await phase(host, meta) is Phase.ABORTED


async def test_another_host_cancels_it_too(counted: Bench) -> None:
    async with counted.gate(), running_server(counted.connector()) as one, running_server(counted.connector()) as other:
        meta = await one.create(task(GATED_INSERT))
        await reached(one, meta, Phase.RUNNING)
        await other.delete("postgres_query", meta)
        assert await nothing_is_left(counted)
        assert Phase((await ended(one, meta)).phase) is Phase.ABORTED
        assert await phase(other, meta) is Phase.ABORTED


@pytest.mark.parametrize("where", ["here", "at another host"])
async def test_a_job_that_waits_never_runs(counted: Bench, where: str) -> None:
    async with running_server(counted.connector(max_jobs=1)) as one, running_server(counted.connector()) as other:
        async with counted.gate() as gate:
            first = await one.create(task("SELECT pg_advisory_xact_lock_shared(5)::text"))
            await reached(one, first, Phase.RUNNING)
            meta = await one.create(task("INSERT INTO t VALUES (1)"))
            await reached(one, meta, Phase.WAITING_FOR_RESOURCES)
            await (one if where == "here" else other).delete("postgres_query", meta)
            await gate.close()
            assert Phase((await ended(one, first)).phase) is Phase.SUCCEEDED
        assert Phase((await ended(one, meta)).phase) is Phase.ABORTED
        assert await phase(other, meta) is Phase.ABORTED
    assert await nothing_is_left(counted)


async def test_a_job_that_is_over_stays_as_it_is(counted: Bench) -> None:
    async with running_server(counted.connector()) as host:
        meta = await host.create(task("SELECT 1"))
        await ended(host, meta)
        await host.delete("postgres_query", meta)
        assert await phase(host, meta) is Phase.SUCCEEDED
    async with running_server(counted.connector()) as host:
        await host.delete("postgres_query", meta)
        assert await phase(host, meta) is Phase.SUCCEEDED


async def test_what_was_cancelled_stays_so_for_a_repeated_create(counted: Bench) -> None:
    prefix = counted.prefix
    async with counted.gate(), running_server(counted.connector()) as host:
        meta = await host.create(task(GATED_INSERT), output_prefix=prefix)
        await host.delete("postgres_query", meta)
    async with running_server(counted.connector()) as host:
        again = await host.create(task(GATED_INSERT), output_prefix=prefix)
        assert PostgresMeta.decode(again) == PostgresMeta.decode(meta)
        assert Phase((await ended(host, again)).phase) is Phase.ABORTED
    assert await nothing_is_left(counted)
