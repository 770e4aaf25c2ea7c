"""The three memories keep, forget and refuse alike; each is bounded, and says so when it cannot be reached."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from connector_core.errors import MemoryUnavailableError, SettingsError
from connector_core.jobs import Memory, open_memory
from connector_core.jobs.claims import Claims
from connector_core.jobs.memory_process import ProcessMemory
from connector_core.jobs.memory_redis import RedisMemory
from connector_core.jobs.memory_sqlite import SqliteMemory
from connector_core.jobs.records import JobRecord
from connector_core.secrets import SecretStr
from connector_core.settings import MemorySettings
from tests.support.redis_server import RedisServer, running_redis


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["process", "sqlite", "redis"])
async def memory(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Memory]:
    settings = MemorySettings(kind=request.param, path=tmp_path / "memory.sqlite")
    if request.param == "redis":
        settings = msgspec.structs.replace(settings, url=SecretStr(request.getfixturevalue("redis").url))
    memory = open_memory(settings)
    yield memory
    await memory.close()


@pytest.fixture
async def sqlite(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteMemory]:
    memory = SqliteMemory(tmp_path / "memory.sqlite", 100, clock)
    yield memory
    await memory.close()


async def test_what_is_put_is_found_byte_for_byte(memory: Memory) -> None:
    everything = bytes(range(256)) * 300
    await memory.put("a", everything, 60)
    await memory.put("b", b"", 60)
    assert await memory.get("a") == everything
    assert await memory.get("b") == b""
    assert await memory.get("c") is None


async def test_a_put_takes_the_place_of_what_was_there(memory: Memory) -> None:
    await memory.put("a", b"1", 60)
    await memory.put("a", b"2", 60)
    assert await memory.get("a") == b"2"


async def test_what_is_removed_is_gone_and_removing_it_again_is_no_error(memory: Memory) -> None:
    await memory.put("a", b"1", 60)
    await memory.remove("a")
    await memory.remove("a")
    assert await memory.get("a") is None


async def test_add_keeps_what_is_there(memory: Memory) -> None:
    assert await memory.add("a", b"1", 60)
    assert not await memory.add("a", b"2", 60)
    assert await memory.get("a") == b"1"
    await memory.remove("a")
    assert await memory.add("a", b"3", 60)


async def test_replace_takes_the_place_of_what_its_caller_has_seen_and_of_nothing_else(memory: Memory) -> None:
    assert not await memory.replace("a", b"1", b"2", 60)
    assert await memory.get("a") is None
    await memory.put("a", b"1", 60)
    assert await memory.replace("a", b"1", b"2", 60)
    assert not await memory.replace("a", b"1", b"3", 60)
    assert await memory.get("a") == b"2"


async def test_of_many_who_add_one_key_at_once_one_succeeds(memory: Memory) -> None:
    added = await asyncio.gather(*(memory.add("a", str(number).encode(), 60) for number in range(50)))
    assert added.count(True) == 1
    assert await memory.get("a") == str(added.index(True)).encode()


async def test_of_many_who_replace_one_value_at_once_one_succeeds(memory: Memory) -> None:
    await memory.put("a", b"old", 60)
    replaced = await asyncio.gather(*(memory.replace("a", b"old", str(number).encode(), 60) for number in range(50)))
    assert replaced.count(True) == 1


async def test_many_use_it_at_once(memory: Memory) -> None:
    await asyncio.gather(*(memory.put(str(number), b"1", 60) for number in range(200)))
    assert await asyncio.gather(*(memory.get(str(number)) for number in range(200))) == [b"1"] * 200


async def test_it_says_what_it_guarantees(memory: Memory) -> None:
    assert memory.guarantees.startswith("Job memory: ")


async def test_closing_it_twice_is_no_error(memory: Memory) -> None:
    await memory.put("a", b"1", 60)
    await asyncio.gather(memory.close(), memory.close())


async def test_a_value_is_forgotten_when_its_time_is_over(sqlite: SqliteMemory, clock: Clock) -> None:
    for memory in (sqlite, ProcessMemory(10_000, clock)):
        await memory.put("a", b"1", 60)
        clock.now += 59
        assert await memory.get("a") == b"1"
        assert not await memory.add("a", b"2", 60)
        clock.now += 2
        assert await memory.get("a") is None
        assert not await memory.replace("a", b"1", b"2", 60)
        assert await memory.add("a", b"2", 60)


async def test_a_replaced_value_lives_as_long_as_its_replacement(sqlite: SqliteMemory, clock: Clock) -> None:
    for memory in (sqlite, ProcessMemory(10_000, clock)):
        await memory.put("a", b"1", 10)
        await memory.replace("a", b"1", b"2", 100)
        clock.now += 50
        assert await memory.get("a") == b"2"


async def test_in_the_process_what_was_not_used_for_longest_goes_when_it_is_full() -> None:
    memory = ProcessMemory(10_000)
    for number in range(1000):
        await memory.put("used", b"1", 60)
        await memory.put(str(number), b"x" * 100, 60)
    kept = [number for number in range(1000) if await memory.get(str(number)) is not None]
    assert 10 < len(kept) < 100
    assert kept == list(range(kept[0], 1000))
    assert await memory.get("used") == b"1"


async def test_in_the_process_what_is_over_gives_its_room_back_though_nobody_asks_for_it(clock: Clock) -> None:
    memory = ProcessMemory(1_000_000, clock)
    for number in range(100):
        await memory.put(str(number), b"1", 60)
    clock.now += 50
    await memory.get("0")
    await memory.put("later", b"1", 60)
    clock.now += 20
    await memory.put("latest", b"1", 60)
    assert list(memory.at_once._entries) == ["later", "latest"]


async def test_what_is_in_the_process_is_the_same_for_those_who_cannot_wait() -> None:
    memory = ProcessMemory(10_000)
    assert memory.at_once.add("a", b"1", 60)
    assert not await memory.add("a", b"2", 60)
    assert await memory.replace("a", b"1", b"2", 60)
    assert memory.at_once.get("a") == b"2"
    assert not memory.at_once.replace("a", b"1", b"3", 60)
    memory.at_once.remove("a")
    assert await memory.get("a") is None


async def test_in_the_process_a_value_larger_than_the_store_is_not_kept_in_place_of_all_others() -> None:
    memory = ProcessMemory(10_000)
    await memory.put("small", b"1", 60)
    await memory.put("large", b"1", 60)
    await memory.put("large", b"x" * 20_000, 60)
    assert await memory.get("large") is None
    assert await memory.get("small") == b"1"


async def test_in_a_file_the_number_of_values_is_bounded(sqlite: SqliteMemory, tmp_path: Path) -> None:
    for number in range(2000):
        await sqlite.put(f"{number:04}", b"1", 60 + number)
    await sqlite.close()
    [(count, first)] = rows(tmp_path / "memory.sqlite", "SELECT count(*), min(key) FROM memory")
    assert count == 100
    assert first == "1900"


async def test_in_a_file_what_is_over_is_deleted_when_it_is_opened(
    sqlite: SqliteMemory, tmp_path: Path, clock: Clock
) -> None:
    await sqlite.put("a", b"1", 60)
    await sqlite.put("b", b"1", 600)
    await sqlite.close()
    clock.now += 100
    await SqliteMemory(tmp_path / "memory.sqlite", 100, clock).close()
    assert rows(tmp_path / "memory.sqlite", "SELECT key FROM memory") == [("b",)]


async def test_a_file_survives_being_closed_and_opened_again(sqlite: SqliteMemory, tmp_path: Path) -> None:
    await sqlite.put("a", b"1", 60)
    await sqlite.close()
    again = SqliteMemory(tmp_path / "memory.sqlite", 100, lambda: 1_000_000.0)
    assert await again.get("a") == b"1"
    assert not await again.add("a", b"2", 60)
    await again.close()


async def test_a_file_survives_a_process_that_is_killed(tmp_path: Path) -> None:
    script = """
import asyncio, os, signal, sys
from pathlib import Path
from connector_core.jobs.memory_sqlite import SqliteMemory
async def main():
    await SqliteMemory(Path(sys.argv[1]), 100).put("a", b"1", 600)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    path = tmp_path / "memory.sqlite"
    killed = await python(script, path)
    assert killed.returncode == -signal.SIGKILL
    memory = SqliteMemory(path, 100)
    assert await memory.get("a") == b"1"
    await memory.close()


async def test_a_second_opener_of_a_file_is_refused(sqlite: SqliteMemory, tmp_path: Path) -> None:
    await sqlite.put("a", b"1", 60)
    path = tmp_path / "memory.sqlite"
    with pytest.raises(SettingsError, match=r"memory\.sqlite cannot be used .*another host may have it open"):
        SqliteMemory(path, 100)
    script = """
import sys
from pathlib import Path
from connector_core.jobs.memory_sqlite import SqliteMemory
SqliteMemory(Path(sys.argv[1]), 100)
"""
    other = await python(script, path)
    assert "SettingsError" in other.stderr
    assert await sqlite.get("a") == b"1"


async def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, but long enough to be taken for one" * 100)
    for path in (tmp_path / "text", tmp_path / "no" / "such" / "folder"):
        with pytest.raises(SettingsError, match=str(path)):
            SqliteMemory(path, 100)


async def test_a_file_that_cannot_be_written_any_more_is_a_memory_that_cannot_be_reached(sqlite: SqliteMemory) -> None:
    await sqlite.put("a", b"1", 60)
    await sqlite._run(lambda: sqlite._database.execute("PRAGMA query_only = ON"))
    with pytest.raises(MemoryUnavailableError, match=r"memory\.sqlite.*readonly"):
        await sqlite.put("a", b"2", 60)
    with pytest.raises(MemoryUnavailableError):
        await sqlite.add("b", b"2", 60)
    with pytest.raises(MemoryUnavailableError):
        await sqlite.remove("a")
    assert await sqlite.get("a") == b"1"


async def test_a_closed_file_is_a_memory_that_cannot_be_reached(sqlite: SqliteMemory) -> None:
    await sqlite.close()
    with pytest.raises(MemoryUnavailableError, match="closed"):
        await sqlite.get("a")


async def test_redis_is_told_how_long_to_keep_a_value(redis: RedisServer) -> None:
    from redis import asyncio as client

    memory = RedisMemory(redis.url)
    await memory.put("put", b"1", 60)
    await memory.add("added", b"1", 1.5)
    await memory.put("replaced", b"1", 1)
    await memory.replace("replaced", b"1", b"2", 3600)
    async with client.Redis.from_url(redis.url) as direct:
        assert 50_000 < await direct.pttl("connector-host/put") <= 60_000
        assert 0 < await direct.pttl("connector-host/added") <= 1_500
        assert 3_500_000 < await direct.pttl("connector-host/replaced") <= 3_600_000
    await memory.close()


async def test_two_hosts_share_redis(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        hosts = [RedisMemory(redis.url) for _ in range(2)]
        for host in hosts:
            stack.push_async_callback(host.close)
        added = await asyncio.gather(*(hosts[number % 2].add("a", str(number).encode(), 60) for number in range(60)))
        assert added.count(True) == 1
        winner = str(added.index(True)).encode()
        assert [await host.get("a") for host in hosts] == [winner, winner]
        replaced = await asyncio.gather(*(hosts[number % 2].replace("a", winner, b"new", 60) for number in range(60)))
        assert replaced.count(True) == 1


async def test_many_calls_at_once_share_a_few_connections_to_redis(redis: RedisServer) -> None:
    from redis import asyncio as client

    memory = RedisMemory(redis.url)
    assert await asyncio.gather(*(memory.get(str(number)) for number in range(300))) == [None] * 300
    async with client.Redis.from_url(redis.url) as direct:
        assert (await direct.info("clients"))["connected_clients"] <= 50
    await memory.close()


async def test_redis_that_is_gone_cannot_be_reached(redis: RedisServer) -> None:
    memory = RedisMemory(redis.url)
    await memory.put("a", b"1", 60)
    redis.stop()
    for call in (memory.get("a"), memory.put("a", b"1", 60), memory.add("a", b"1", 60), memory.remove("a")):
        with pytest.raises(MemoryUnavailableError, match="Redis, which keeps what is known of jobs, does not answer"):
            await call
    with pytest.raises(MemoryUnavailableError):
        await memory.replace("a", b"1", b"2", 60)
    await memory.close()


async def test_redis_that_hangs_is_waited_for_once_and_found_again(redis: RedisServer) -> None:
    patient = RedisMemory(redis.url, timeout=30, pause=0)
    await patient.put("a", b"1", 60)
    memory = RedisMemory(redis.url, timeout=0.05, pause=3600)
    redis.hang()
    answers = await asyncio.gather(*(memory.get("a") for _ in range(200)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {MemoryUnavailableError}
    redis.go_on()
    with pytest.raises(MemoryUnavailableError, match="did not answer a moment ago"):
        await memory.get("a")
    await memory.close()
    assert await patient.get("a") == b"1"
    await patient.close()


async def test_a_caller_who_goes_leaves_redis_usable(redis: RedisServer) -> None:
    memory = RedisMemory(redis.url)
    await memory.put("a", b"1", 60)
    await memory.put("b", b"2", 60)
    redis.hang()
    calls = [asyncio.create_task(memory.get("a")) for _ in range(100)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(answer) for answer in answers} == {asyncio.CancelledError}
    redis.go_on()
    assert [await memory.get("b") for _ in range(100)] == [b"2"] * 100
    await memory.close()


def test_a_url_that_is_none_is_named() -> None:
    with pytest.raises(SettingsError, match=r"memory\.url is not a Redis URL"):
        RedisMemory("http://127.0.0.1")


async def python(script: str, path: Path) -> "subprocess.CompletedProcess[str]":
    """Run a script in a process of its own."""
    arguments = [sys.executable, "-c", script, str(path)]
    return await asyncio.to_thread(subprocess.run, arguments, check=False, capture_output=True, text=True, timeout=60)


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


@pytest.mark.parametrize("harm", ["truncated", "replaced", "gone"])
async def test_a_file_that_is_not_the_one_that_was_opened_is_noticed(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "memory.sqlite"
    memory = SqliteMemory(path, 100)
    await memory.put("key", b"value", 60)
    if harm == "truncated":
        path.write_bytes(b"")
    elif harm == "replaced":
        path.rename(tmp_path / "old")
        path.write_bytes((tmp_path / "old").read_bytes())
    else:
        path.unlink()
    for _try in range(2):
        with pytest.raises(MemoryUnavailableError, match=r"memory\.sqlite cannot be used"):
            await memory.get("key")
        with pytest.raises(MemoryUnavailableError):
            await memory.put("key", b"value", 60)
    await memory.close()


async def test_whatever_a_server_that_is_killed_midway_makes_the_client_raise_is_unavailable() -> None:
    async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"$1000\r\nhalf")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(half_an_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    memory = RedisMemory(f"redis://127.0.0.1:{port}/0")
    try:
        for _try in range(3):
            with pytest.raises(MemoryUnavailableError, match="Redis"):
                await memory.get("key")
    finally:
        await memory.close()
        server.close()


@pytest.mark.parametrize("data", [b"", b"garbage", b"[1]", b'["owner", "!!", true, false]', b"\xff\xfe"])
async def test_a_record_of_an_attempt_that_cannot_be_read_is_absent(data: bytes) -> None:
    memory = ProcessMemory(100_000)
    await memory.put("create/job/key", data, 60)
    claims = Claims(memory, "a", 60)
    assert await claims.job_of("create/job/key") is None
    assert await claims.claim("create/job/key", 60) is None
    assert (await claims.keep("create/job/key", b"meta")).resource_meta == b"meta"


@pytest.mark.parametrize("data", [b"", b"garbage", b"[1]", b"[99, 0, 0.0, null]", b'[3, 0, 0.0, "!!"]', b"\xff"])
def test_a_record_of_a_job_that_cannot_be_read_is_absent(data: bytes) -> None:
    assert JobRecord.decode(data) == JobRecord()
