"""Queries that end before their time."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from connector_core import PermanentError, TransientError
from connector_plugin_duckdb.connector import DuckDBConnector
from connector_plugin_duckdb.stop import Stop
from connector_plugin_duckdb.workers import Workers

Ask = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
Connect = Callable[..., DuckDBConnector]
Asking = Callable[[DuckDBConnector], Ask]

ENDLESS = "SELECT count(*) FROM range(100_000_000_000_000)"


def no_reason() -> None:
    return None


def query_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "duckdb-query"]


class TestQueries:
    @pytest.fixture
    def started(self, open_folder: Path) -> Callable[[], Awaitable[str]]:
        """Waits until the SQL has written to the pipe."""
        os.mkfifo(open_folder / "pipe")
        return lambda: asyncio.to_thread((open_folder / "pipe").read_text)

    @pytest.fixture
    def setup(self, open_folder: Path) -> dict[str, str]:
        return {"setup": f"COPY (SELECT 1) TO '{open_folder}/pipe' (FORMAT csv)"}

    @pytest.mark.parametrize(
        "sql",
        [
            ENDLESS,
            f"{ENDLESS}; SELECT 1",
            "SELECT sleep_ms(3_600_000)",
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
            "SELECT random() FROM range(100_000_000_000_000)",
            "INSERT INTO big SELECT random() FROM range(100_000_000_000_000)",
        ],
    )
    async def test_a_cancelled_call_interrupts_duckdb_and_ends_the_thread(
        self, ask_open: Ask, started: Callable[[], Awaitable[str]], setup: dict[str, str], sql: str
    ) -> None:
        setup["setup"] = f"CREATE TABLE big (r DOUBLE); {setup['setup']}"
        call = asyncio.create_task(ask_open(sql, custom=setup))
        await started()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert query_threads() == []

    async def test_a_cancelled_call_gives_its_place_to_the_next(
        self,
        connect: Connect,
        asking: Asking,
        open_folder: Path,
        started: Callable[[], Awaitable[str]],
        setup: dict[str, str],
    ) -> None:
        ask = asking(connect(max_concurrent=1, allowed_directories=[str(open_folder)]))
        first = asyncio.create_task(ask(ENDLESS, custom=setup))
        await started()
        second = asyncio.create_task(ask("SELECT 2"))
        first.cancel()
        assert await second == {"result": 2}
        assert first.cancelled()

    async def test_closing_the_connector_ends_its_queries(
        self,
        connect: Connect,
        asking: Asking,
        open_folder: Path,
        started: Callable[[], Awaitable[str]],
        setup: dict[str, str],
    ) -> None:
        connector = connect(allowed_directories=[str(open_folder)])
        call = asyncio.create_task(asking(connector)(ENDLESS, custom=setup))
        await started()
        await connector.close()
        with pytest.raises(TransientError, match="the host is closing"):
            await call

    async def test_queries_run_beside_each_other_up_to_the_limit(
        self, connect: Connect, asking: Asking, open_folder: Path
    ) -> None:
        """Two queries hand a row through a pipe, which neither could do alone."""
        os.mkfifo(open_folder / "pipe")
        ask = asking(connect(max_concurrent=2, allowed_directories=[str(open_folder)]))
        writer = ask(f"COPY (SELECT 7 AS n) TO '{open_folder}/pipe' (FORMAT csv, HEADER false)")
        reader = ask(f"SELECT content FROM read_text('{open_folder}/pipe')")
        async with asyncio.TaskGroup() as group:
            group.create_task(writer)
            read = group.create_task(reader)
        assert read.result() == {"result": "7\n"}


class TestWorkers:
    async def test_an_answer_and_an_error_come_back(self) -> None:
        workers = Workers(1)

        def fail(stop: Stop) -> None:
            raise PermanentError("no")

        assert await workers.run(lambda _stop: 42, no_reason) == 42
        with pytest.raises(PermanentError, match="no"):
            await workers.run(fail, no_reason)

    async def test_an_interrupt_is_repeated_until_the_thread_ends(self) -> None:
        """DuckDB forgets an interrupt that comes between two statements."""
        begun, heard = asyncio.Event(), threading.Semaphore(0)
        loop = asyncio.get_running_loop()

        def work(stop: Stop) -> None:
            with stop.interrupting(heard.release):
                loop.call_soon_threadsafe(begun.set)
                for _ in range(3):
                    heard.acquire()

        call = asyncio.create_task(Workers(1).run(work, no_reason))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert query_threads() == []

    async def test_a_thread_that_cannot_be_stopped_keeps_its_place_until_it_ends(self) -> None:
        workers, begun, stuck = Workers(1), asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def work(_stop: Stop) -> None:
            loop.call_soon_threadsafe(begun.set)
            stuck.wait()

        call = asyncio.create_task(workers.run(work, no_reason))
        await begun.wait()
        call.cancel()
        await asyncio.sleep(0)  # the first cancellation begins to wait for the thread
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        following = asyncio.create_task(workers.run(lambda _stop: "ran", no_reason))
        await asyncio.sleep(0)
        assert not following.done()
        stuck.set()
        assert await following == "ran"

    async def test_a_call_that_is_cancelled_before_its_turn_never_runs(self) -> None:
        workers, begun, go_on = Workers(1), asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def work(_stop: Stop) -> None:
            loop.call_soon_threadsafe(begun.set)
            go_on.wait()

        ran: list[str] = []
        first = asyncio.create_task(workers.run(work, no_reason))
        await begun.wait()
        second = asyncio.create_task(workers.run(lambda _stop: ran.append("second"), no_reason))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go_on.set()
        await first
        assert await workers.run(lambda _stop: "third", no_reason) == "third"
        assert ran == []

    async def test_what_the_watch_says_ends_the_work(self) -> None:
        def work(stop: Stop) -> None:
            interrupted = threading.Event()
            with stop.interrupting(interrupted.set):
                interrupted.wait()
            stop.check()

        with pytest.raises(PermanentError, match="too big"):
            await Workers(1).run(work, lambda: PermanentError("too big"))

    async def test_the_first_reason_to_stop_stays(self) -> None:
        stop = Stop()
        stop.request(PermanentError("first"))
        stop.request(PermanentError("second"))
        with pytest.raises(PermanentError, match="first"):
            stop.check()
