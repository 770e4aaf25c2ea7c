"""CreateTask across restarts, replicas and memories that go."""

import asyncio
import textwrap
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from connector_core.testing import RunningServer, running_server
from tests.fakes import eventually
from tests.support.creates import (
    AWAY,
    Held,
    Warehouse,
    create,
    lose,
    memories,
    meta,
    status,
    waiting,
)
from tests.support.gate import PLUGIN
from tests.support.gate import Gate as RemoteGate
from tests.support.hosts import host_process
from tests.support.redis_server import RedisServer


async def test_after_a_restart_the_same_attempt_gets_the_same_meta(tmp_path: Path) -> None:
    warehouse = Warehouse()
    settings = {"memory": {"kind": "sqlite", "path": tmp_path / "memory.sqlite"}}
    for _ in range(2):
        async with running_server(warehouse.connector(), settings=settings) as server:
            assert await create(server) == meta("job-1")
    assert warehouse.started == ["job-1"]


async def test_after_a_restart_orphans_are_still_known(tmp_path: Path) -> None:
    held = Held()
    settings = {"memory": {"kind": "sqlite", "path": tmp_path / "memory.sqlite"}}
    async with running_server(held.connector(), settings=settings) as server:
        await lose(server, held)
        held.gate.open()
        await server.creates_ended()
    async with running_server(held.connector(), settings=settings) as server:
        await create(server, 1)
        await eventually(lambda: held.deleted)
    assert held.deleted == ["job-1"]


async def test_two_hosts_that_share_redis_start_one_job(redis: RedisServer) -> None:
    held = Held()
    settings = {"memory": {"kind": "redis", "url": redis.url}}
    async with (
        running_server(held.connector(), settings=settings) as a,
        running_server(held.connector(), settings=settings) as b,
    ):
        calls = [create(host) for host in (a, b) for _ in range(5)]
        await waiting(a, 5)
        await waiting(b, 5)
        await held.gate.reached()
        held.gate.open()
        assert await asyncio.gather(*calls) == [meta("job-1")] * 10
    assert held.started == ["job-1"]


async def test_a_later_attempt_at_another_host_deletes_the_orphan(redis: RedisServer) -> None:
    held = Held()
    settings = {"memory": {"kind": "redis", "url": redis.url}}
    async with (
        running_server(held.connector(), settings=settings) as a,
        running_server(held.connector(), settings=settings) as b,
    ):
        await lose(a, held)
        await create(b, 1)
        await b.orphans_deleted()
        held.gate.open()
        await eventually(lambda: held.deleted)
    assert held.deleted == ["job-1"]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_a_host_that_dies_in_the_middle_of_a_create_does_not_keep_others_from_it(
    kind: str, tmp_path: Path
) -> None:
    """Where the memory is shared, another host has to wait until the claim of the dead one lapses."""
    (tmp_path / "at_the_gate.py").write_text(textwrap.dedent(PLUGIN))
    warehouse = Warehouse()
    connector = warehouse.connector("blocking")
    connector.name = "blocking"
    with memories(kind, tmp_path) as settings, RemoteGate() as gate:
        environment = {f"CONNECTOR_HOST__MEMORY__{name.upper()}": str(it) for name, it in settings["memory"].items()}
        environment |= {"GATE": str(gate.port), "CONNECTOR_HOST__DEADLINES__CREATE": "0.6"}
        with host_process("--modules", "at_the_gate", cwd=tmp_path, program=None, before=(), **environment) as dying:
            async with grpc.aio.insecure_channel(dying.address) as channel:
                lost = create(RunningServer(cast("Any", None), channel), task_type="blocking")
                await asyncio.to_thread(gate.wait_for, 1)
                dying.process.kill()
                await status(lost)
                await asyncio.to_thread(dying.wait)
        async with running_server(connector, settings=settings) as server:
            assert await create(server, task_type="blocking") == meta("job-1")
    assert warehouse.started == ["job-1"]


async def test_without_redis_nothing_is_started(redis: RedisServer) -> None:
    warehouse = Warehouse()
    settings = {"memory": {"kind": "redis", "url": redis.url}}
    async with running_server(warehouse.connector(), settings=settings) as server:
        redis.stop()
        error = await status(create(server))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "Redis, which keeps what is known of jobs" in str(error.details())
    assert warehouse.calls == []


async def test_a_memory_that_goes_in_the_middle_of_a_create_costs_neither_the_job_nor_its_answer(
    redis: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in ("redis", "sqlite"):
        held = Held()
        settings = {"memory": {"kind": kind, "url": redis.url, "path": tmp_path / "memory.sqlite"}}
        async with running_server(held.connector(), settings=settings) as server:
            call = create(server)
            await held.gate.reached()
            await server.server.memory.close() if kind == "sqlite" else redis.stop()
            held.gate.open()
            assert await call == meta("job-1")
        assert caplog.text.count("create not remembered: a retried create may start a second job") == 1
        caplog.clear()


async def test_what_fails_for_another_reason_says_so_where_the_memory_has_gone_too(redis: RedisServer) -> None:
    held = Held()
    held.trouble["create"] = [AWAY]
    async with running_server(held.connector(), settings={"memory": {"kind": "redis", "url": redis.url}}) as server:
        call = create(server)
        await held.gate.reached()
        redis.stop()
        held.gate.open()
        assert "the warehouse is away" in str((await status(call)).details())
