"""A statement's notices are its job's log: in pages, followed, and bounded."""

import asyncio
import threading
from typing import Any

import grpc
import grpc.aio
import pytest

from connector_core import Phase
from connector_core.testing import running_server
from connector_plugin_postgres import client
from connector_plugin_postgres.logs import MAX_LINES

from .conftest import PATIENCE, Bench, ended, task

TELLING = """
DO $$ BEGIN
    RAISE NOTICE E'one\\ntwo';
    PERFORM pg_advisory_xact_lock_shared(5);
    RAISE WARNING 'three';
END $$
"""


async def page(host: Any, meta: bytes, lines: int, token: str = "") -> tuple[list[str], str]:
    messages = [one async for one in host.get_logs("postgres_query", meta, lines=lines, token=token)]
    return [line for one in messages for line in one.body.results], "".join(one.header.token for one in messages)


async def test_notices_are_followed_while_the_statement_runs(bench: Bench) -> None:
    async with running_server(bench.connector()) as host, bench.gate() as gate:
        meta = await host.create(task(TELLING))
        lines: list[str] = []
        async for message in host.get_logs("postgres_query", meta, lines=0):
            lines += message.body.results
            if "NOTICE: two" in message.body.results:
                await gate.close()
        assert lines == ["NOTICE: one", "NOTICE: two", "WARNING: three"]


async def test_notices_are_read_in_pages_after_the_end(bench: Bench) -> None:
    async with running_server(bench.connector()) as host:
        meta = await host.create(task(TELLING))
        assert Phase((await ended(host, meta)).phase) is Phase.SUCCEEDED
        first, token = await page(host, meta, 2)
        assert first == ["NOTICE: one", "NOTICE: two"]
        assert await page(host, meta, 2, token) == (["WARNING: three"], "")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await page(host, meta, 2, "-1")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_talkative_statement_does_not_fill_the_host(bench: Bench) -> None:
    talk = "DO $$ BEGIN FOR i IN 1..12000 LOOP RAISE NOTICE 'line %', i; END LOOP; END $$"
    async with running_server(bench.connector()) as host:
        meta = await host.create(task(talk))
        await ended(host, meta)
        lines, _token = await page(host, meta, MAX_LINES + 1)
    assert lines[-2:] == [f"NOTICE: line {MAX_LINES}", "(2000 further lines were left out)"]


async def test_another_host_says_where_notices_are(bench: Bench) -> None:
    async with running_server(bench.connector()) as host:
        meta = await host.create(task(TELLING))
        await ended(host, meta)
    async with running_server(bench.connector()) as host:
        (line,), token = await page(host, meta, 10)
    assert "kept by the host that runs the statement" in line
    assert token == ""


async def test_a_host_keeps_the_newest_jobs_that_are_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector_plugin_postgres.jobs.MOST_ENDED", 2)
    async with running_server(bench.connector()) as host:
        metas = []
        for _ in range(4):
            metas.append(await host.create(task("DO $$ BEGIN RAISE NOTICE 'x'; END $$")))
            await ended(host, metas[-1])
        kept = [await page(host, meta, 10) for meta in metas]
        assert [lines == ["NOTICE: x"] for lines, _token in kept] == [False, True, True, True]
        assert Phase((await host.get("postgres_query", metas[0])).phase) is Phase.SUCCEEDED


async def test_a_log_is_complete_as_soon_as_its_job_is_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    may_close = threading.Event()
    plainly = client.close

    async def late(connection: Any) -> None:
        await asyncio.to_thread(may_close.wait, PATIENCE)
        await plainly(connection)

    monkeypatch.setattr(client, "close", late)
    async with running_server(bench.connector()) as host:
        try:
            meta = await host.create(task("DO $$ BEGIN RAISE NOTICE 'x'; END $$"))
            await ended(host, meta)
            assert await page(host, meta, 10) == (["NOTICE: x"], "")
        finally:
            may_close.set()
