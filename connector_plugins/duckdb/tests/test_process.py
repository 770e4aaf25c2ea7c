"""The processes that queries run in: their limits, their deaths, and what they have of the host."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from connector_core import BackendUnavailableError, InvalidInputError, PermanentError, TransientError
from connector_plugin_duckdb import process as process_module
from connector_plugin_duckdb.connector import DuckDBConnector
from connector_plugin_duckdb.pool import Pool
from connector_plugin_duckdb.process import Limits, QueryProcess
from connector_plugin_duckdb.stop import Stop
from connector_plugin_duckdb.wire import Box, Query

Ask = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
Connect = Callable[..., DuckDBConnector]
Asking = Callable[[DuckDBConnector], Ask]

ENDLESS = "SELECT count(*) FROM range(100_000_000_000_000)"
DOUBLING = ", ".join(f"c{i} AS (FROM c{i - 1} x, c{i - 1} y)" if i else "c0 AS (SELECT 1 a)" for i in range(60))

LIMITS = Limits(200 * 10**6, 2)


def children() -> list[int]:
    """Return the ids of the query processes of this process."""
    found = []
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += [int(pid) for pid in (thread / "children").read_text().split()]
    return [pid for pid in found if b"connector_plugin_duckdb.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def ended(descriptor: int, seconds: float = 20) -> bool:
    """Wait for the end of the process that a pidfd stands for."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(LIMITS, 2)
    yield pool
    pool.close()


@pytest.fixture
def started(open_folder: Path) -> Callable[[], Awaitable[str]]:
    """Waits until the SQL has written to the pipe."""
    os.mkfifo(open_folder / "pipe")
    return lambda: asyncio.to_thread((open_folder / "pipe").read_text)


@pytest.fixture
def setup(open_folder: Path) -> dict[str, str]:
    return {"setup": f"COPY (SELECT 1) TO '{open_folder}/pipe' (FORMAT csv)"}


class TestMemory:
    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT len(range(200_000_000))",
            f"WITH {DOUBLING} SELECT count(*) FROM c59",
            "SELECT len(list_sort(list_transform(range(20_000_000), lambda x: x::VARCHAR)))",
            "SELECT len(string_agg(repeat('x', 100_000), '')) FROM range(100_000)",
            "SELECT len(repeat('x', 4_000_000_000))",
        ],
    )
    async def test_small_sql_cannot_take_much_memory(self, ask: Ask, sql: str) -> None:
        with pytest.raises(PermanentError) as caught:
            await ask(sql)
        assert caught.value.error_code == "OUT_OF_MEMORY"
        assert await ask("SELECT 1") == {"result": 1}

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_the_hard_limit_is_the_kernels(self, pool: Pool) -> None:
        with pool.lend(Stop()) as process:
            limits = Path(f"/proc/{process.pid}/limits").read_text()
        (line,) = (line for line in limits.splitlines() if line.startswith("Max data size"))
        soft, hard = line.split()[3:5]
        assert soft == hard
        assert LIMITS.memory < int(hard) < 600 * 10**6

    async def test_work_that_spills_stays_within_it(self, ask: Ask) -> None:
        sql = "SELECT count(*) FROM (SELECT md5(range::VARCHAR) m FROM range(2_000_000) ORDER BY m)"
        assert await ask(sql) == {"result": 2_000_000}

    async def test_a_process_that_has_more_than_the_kernel_would_let_it_ends_itself(
        self, ask: Ask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not every kernel keeps to the limit."""
        more = process_module._START.replace("main()", "sys.modules[main.__module__].resident = lambda: 2**62; main()")
        monkeypatch.setattr(process_module, "_START", more)
        with pytest.raises(PermanentError, match=r"hard limit of \d+ bytes, which memory_limit") as caught:
            await ask(ENDLESS)
        assert caught.value.error_code == "OUT_OF_MEMORY"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
class TestDeath:
    @pytest.mark.parametrize(
        ("number", "said"),
        [
            (signal.SIGSEGV, "it crashed with SIGSEGV"),
            (signal.SIGKILL, "SIGKILL from outside"),
            (signal.SIGTERM, "SIGTERM"),
        ],
    )
    async def test_a_process_that_ends_costs_its_query_alone_and_the_error_says_how(
        self, ask_open: Ask, started: Callable[[], Awaitable[str]], setup: dict[str, str], number: int, said: str
    ) -> None:
        call = asyncio.create_task(ask_open(ENDLESS, custom=setup))
        await started()
        for pid in children():
            os.kill(pid, number)
        with pytest.raises(TransientError, match=said):
            await call
        assert await ask_open("SELECT 1") == {"result": 1}

    async def test_a_process_that_hears_no_interrupt_is_killed_and_its_place_comes_back(
        self,
        connect: Connect,
        asking: Asking,
        open_folder: Path,
        started: Callable[[], Awaitable[str]],
        setup: dict[str, str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        ask = asking(connect(max_concurrent=1, allowed_directories=[str(open_folder)]))
        call = asyncio.create_task(ask(ENDLESS, custom=setup))
        await started()
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert pid not in children()
        assert "query process killed: it did not heed an interrupt" in caplog.text
        assert await ask("SELECT 1") == {"result": 1}

    async def test_a_database_file_outlives_a_process_that_is_killed_while_it_has_it(
        self, ask_open: Ask, open_folder: Path, started: Callable[[], Awaitable[str]], setup: dict[str, str]
    ) -> None:
        file = str(open_folder / "base.duckdb")
        statements = ["CREATE TABLE t AS SELECT 7 AS n", setup["setup"]]
        custom = {"database": file, "read_only": False, "setup": statements}
        call = asyncio.create_task(ask_open(f"INSERT INTO t {ENDLESS}", custom=custom))
        await started()
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(TransientError):
            await call
        assert await ask_open("SELECT n FROM t", custom={"database": file}) == {"result": 7}
        assert await ask_open("INSERT INTO t VALUES (8)", custom={"database": file, "read_only": False}) == {
            "result": 1
        }

    async def test_an_idle_process_that_has_ended_is_not_used(self, ask: Ask) -> None:
        await ask("SELECT 1")
        for pid in children():
            descriptor = os.pidfd_open(pid)
            os.kill(pid, signal.SIGKILL)
            assert ended(descriptor)
            os.close(descriptor)
        assert await ask("SELECT 1") == {"result": 1}

    async def test_closing_ends_all_processes(self, connect: Connect, asking: Asking) -> None:
        connector = connect()
        await connector.start()
        await asking(connector)("SELECT 1")
        assert children()
        await connector.close()
        assert children() == []

    def test_a_process_ends_when_its_host_closes_the_pipe(self, pool: Pool) -> None:
        """For systems whose kernel does not end it with the host."""
        with pool.lend(Stop()) as process:
            descriptor = os.pidfd_open(process.pid)
            assert process._process.stdin is not None
            process._process.stdin.close()
            assert ended(descriptor)
            os.close(descriptor)

    @pytest.mark.parametrize("is_busy", [True, False])
    def test_a_process_ends_with_a_host_that_is_killed(self, tmp_path: Path, is_busy: bool) -> None:
        """The pipe is held open by another process, as a fork of the host would hold it."""
        code = f"""
import os, threading
from connector_plugin_duckdb.pool import Pool
from connector_plugin_duckdb.process import Limits
from connector_plugin_duckdb.stop import Stop
from connector_plugin_duckdb.wire import Box, Query
box = Box(["/nowhere"], [], {str(tmp_path / "temp")!r}, "/nowhere/home", 2 * 10**8, 10**9, 2)
with Pool(Limits(2 * 10**8, 2), 1).lend(Stop()) as process:
    if os.fork() == 0:
        print(os.getpid(), process.pid, flush=True)
        threading.Event().wait()
    if {is_busy}:
        process.ask(Query(box, None, [], [], {ENDLESS!r}, {{}}, 10, 10**6))
    threading.Event().wait()
"""
        host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert host.stdout is not None
        fork, pid = map(int, host.stdout.readline().split())
        descriptor = os.pidfd_open(pid)
        host.kill()
        host.wait()
        host.stdout.close()
        assert ended(descriptor)
        os.close(descriptor)
        os.kill(fork, signal.SIGKILL)

    async def test_a_process_that_cannot_start_is_an_error_with_its_last_words(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(process_module, "_START", "raise ModuleNotFoundError('no duckdb here')")
        with pytest.raises(BackendUnavailableError, match=r"did not start: exit code 1; .*no duckdb here"):
            await connect().start()

    async def test_an_answer_that_is_not_one_ends_the_process(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        liar = "import os, sys; os.write(1, bytes([0, 0, 0, 2]) + b'no'); sys.stdin.read()"
        monkeypatch.setattr(process_module, "_START", liar)
        with pytest.raises(TransientError, match="not an answer"):
            await ask("SELECT 1")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
class TestInheritance:
    def test_a_process_has_neither_sockets_nor_secrets_of_the_host(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.set_inheritable(True)
            with pool.lend(Stop()) as process:
                place = Path(f"/proc/{process.pid}")
                assert b"hush-hush" not in (place / "environ").read_bytes()
                opened = [str(one.readlink()) for one in (place / "fd").iterdir()]
        assert not [one for one in opened if one.startswith("socket:")]
        assert os.path.realpath(os.devnull) in opened

    def test_a_process_has_nothing_of_the_hosts_libraries_loaded(self, pool: Pool) -> None:
        """They take a third of a second, and memory that the query's limit would have to make up for."""
        with pool.lend(Stop()) as process:
            loaded = Path(f"/proc/{process.pid}/maps").read_text()
        assert "_duckdb" in loaded
        assert "grpc" not in loaded
        assert "protobuf" not in loaded

    def test_a_process_has_a_session_of_its_own(self, pool: Pool) -> None:
        """So that Ctrl-C in the host's terminal does not reach it."""
        with pool.lend(Stop()) as process:
            assert os.getsid(process.pid) == process.pid


class TestPool:
    def test_a_clean_process_is_used_again(self, pool: Pool) -> None:
        with pool.lend(Stop()) as first:
            pass
        with pool.lend(Stop()) as second:
            assert second is first

    async def test_a_process_is_not_used_again_after_a_lack_of_memory(self, pool: Pool, tmp_path: Path) -> None:
        with pool.lend(Stop()) as first, pytest.raises(PermanentError):
            first.ask(query("SELECT len(range(200_000_000))", tmp_path))
        with pool.lend(Stop()) as second:
            assert second is not first
        assert not first.is_alive

    def test_a_refused_query_leaves_it_clean(self, pool: Pool, tmp_path: Path) -> None:
        with pool.lend(Stop()) as first, pytest.raises(InvalidInputError):
            first.ask(query("SELEC", tmp_path))
        with pool.lend(Stop()) as second:
            assert second is first

    def test_an_answer_larger_than_the_host_takes_is_a_result_too_large(self, pool: Pool, tmp_path: Path) -> None:
        small = structs.replace(query(f"SELECT 1 AS {'n' * 200}", tmp_path), most_bytes=100)
        with pool.lend(Stop()) as process, pytest.raises(InvalidInputError, match="too many") as caught:
            process.ask(small)
        assert caught.value.error_code == "RESULT_TOO_LARGE"

    def test_a_process_that_cannot_be_forked_is_unavailable(self, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(BackendUnavailableError, match="cannot be started"), pool.lend(Stop()):
            raise AssertionError

    def test_processes_of_a_burst_are_ended_when_they_have_waited_for_a_minute(self, pool: Pool) -> None:
        with pool.lend(Stop()) as first, pool.lend(Stop()) as second:
            pass
        assert pool.trim() is True
        assert pool.trim(now=10.0**9) is False
        assert [first.is_alive, second.is_alive] == [True, False]

    def test_a_closed_pool_lends_nothing(self, pool: Pool) -> None:
        pool.close()
        with pytest.raises(TransientError, match="the host is closing"), pool.lend(Stop()):
            raise AssertionError

    def test_a_process_is_ready_before_the_second_query_needs_it(self, pool: Pool) -> None:
        with pool.lend(Stop()) as first:
            with pool.lend(Stop()) as second:
                pass
            assert isinstance(first, QueryProcess)
            with pool.lend(Stop()) as third:
                assert third is second


def query(sql: str, folder: Path) -> Query:
    box = Box(["/nowhere"], [], str(folder / "temp"), "/nowhere/home", 2 * 10**8, 10**9, 2)
    return Query(box, None, [], [], sql, {}, 10, 10**6)
