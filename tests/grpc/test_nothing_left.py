"""Calls that are cut, and hosts that are stopped, leave no task, thread or file descriptor behind."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import grpc.aio
import pytest

from connector_core import PermanentError, Phase, Resource
from connector_core.testing import RunningServer, running_server
from tests.fakes import PATIENCE, Answers, JobMeta, Jobs, eventually
from tests.support.echo import echoes
from tests.support.faults import in_flight
from tests.support.garble import TASK_TYPES
from tests.support.wire import Holdings

WORKERS = 10

Call = Callable[[], Awaitable[Any]]


class Waiting:
    """Methods, async and blocking, that count who has come, and wait until they are let go."""

    def __init__(self) -> None:
        self._has_come = threading.Lock()
        self._is_open = threading.Event()
        self.begun = 0
        self._loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def wait(self) -> Any:
        self._count()
        is_open = asyncio.Event()
        self._loops.append((asyncio.get_running_loop(), is_open))
        if not self._is_open.is_set():  # looked at behind the append, for those who come while the others are let go
            await is_open.wait()
        return JobMeta("1")

    def block(self) -> Any:
        self._count()
        assert self._is_open.wait(PATIENCE)
        return JobMeta("1")

    async def lines(self) -> AsyncIterator[str]:
        while True:
            yield "line"
            await self.wait()

    def blocking_lines(self) -> Iterator[str]:
        while True:
            yield "line"
            self.block()

    def open(self) -> None:
        """Let all go who wait."""
        self._is_open.set()
        for loop, is_open in self._loops:
            loop.call_soon_threadsafe(is_open.set)

    def close(self) -> None:
        """Have those wait who come from now on."""
        self._is_open.clear()
        self._loops.clear()

    def _count(self) -> None:
        with self._has_come:
            self.begun += 1


def waiting_connectors(waiting: Waiting) -> list[Any]:
    names = ("create", "get", "delete", "get_metrics")
    return [
        Jobs("on_loop", **dict.fromkeys(names, waiting.wait), get_logs=waiting.lines),
        Jobs("in_thread", **dict.fromkeys(names, waiting.block), get_logs=waiting.blocking_lines),
        Answers("on_loop_do", do=waiting.wait),
        Answers("in_thread_do", do=waiting.block),
    ]


def some_calls(host: RunningServer, kind: str, number: int) -> list[Call]:
    """Return so many calls of each operation, each about a job of its own."""
    operations: list[Callable[[bytes], Awaitable[Any]]] = [
        lambda _meta: host.create(kind),
        lambda meta: host.get(kind, meta),
        lambda meta: host.delete(kind, meta),
        lambda meta: host.get_metrics(kind, meta),
        lambda meta: read(host.get_logs(kind, meta)),
        lambda _meta: host.execute(f"{kind}_do"),
    ]
    return [partial(call, JobMeta(uuid4().hex).encode()) for call in operations for _ in range(number)]


async def read(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


async def cancelled(calls: Sequence[Call], when: Callable[[], Awaitable[None]]) -> None:
    """Make calls at once, and cancel them all."""
    tasks = [asyncio.ensure_future(call()) for call in calls]
    await when()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def quiet(host: RunningServer) -> None:
    """Return when nothing is under way in the host."""
    await eventually(lambda: not in_flight(host) and not host.server.invoker.abandoned)


async def soon() -> None:
    """Give calls a moment to get anywhere on their way."""
    for _ in range(20):
        await asyncio.sleep(0)


@contextmanager
def garbage() -> Iterator[list[Any]]:
    """Fill the list with the objects of ours that had to be found by the garbage collector in the block."""
    found: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += [one for one in gc.garbage if type(one).__module__.startswith("connector_core")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("kind", ["on_loop", "in_thread", "in_place"])
async def test_answered_calls_leave_nothing_to_the_garbage_collector(kind: str) -> None:
    def block(**_arguments: Any) -> Any:
        return JobMeta("1")

    def succeed(**_arguments: Any) -> Resource:
        return Resource(Phase.SUCCEEDED)

    in_thread = Jobs("in_thread", create=block, get=succeed, delete=block), Answers("in_thread_do", do=succeed)
    others = [make(f"{one}{more}") for one in ("on_loop", "in_place") for make, more in ((Jobs, ""), (Answers, "_do"))]
    settings = {"in_place": ["test-in_place connector", "test-in_place_do connector"]}
    async with running_server(*in_thread, *others, settings=settings) as host:

        async def call_each() -> None:
            for number in range(5):
                meta = JobMeta(f"{number}").encode()
                await asyncio.gather(host.create(kind), host.get(kind, meta), host.delete(kind, meta))
                await host.execute(f"{kind}_do")

        await call_each()
        with garbage() as found:
            await call_each()
        assert found == []


@pytest.mark.parametrize("kind", ["on_loop", "in_thread", "in_place"])
async def test_failed_calls_leave_nothing_to_the_garbage_collector(kind: str) -> None:
    def fail(**_arguments: Any) -> Any:
        raise PermanentError("no")

    async def fail_on_loop(**_arguments: Any) -> Any:
        await asyncio.sleep(0)
        fail()

    how = fail if kind == "in_thread" else fail_on_loop
    connectors = Jobs(kind, create=how, get=how, delete=how), Answers(f"{kind}_do", do=how)
    # on core, since what aborts a call knows itself in `grpc.aio`
    settings = {"in_place": ["test-in_place connector", "test-in_place_do connector"], "transport": "core"}
    async with running_server(*connectors, settings=settings) as host:

        async def call_each() -> None:
            for number in range(5):
                meta = JobMeta(f"{number}").encode()
                calls = host.create(kind), host.get(kind, meta), host.delete(kind, meta), host.execute(f"{kind}_do")
                await asyncio.gather(*calls, return_exceptions=True)

        await call_each()
        with garbage() as found:
            await call_each()
        assert found == []


@pytest.mark.parametrize(("kind", "at_once"), [("on_loop", 1200), ("in_thread", 2 * WORKERS)])
async def test_thousands_of_cancelled_calls_leave_nothing_behind(kind: str, at_once: int) -> None:
    waiting = Waiting()
    settings = {"in_flight": 5000, "queue": 5000, "workers": WORKERS, "max_concurrent_streams": 5000}
    async with running_server(*waiting_connectors(waiting), settings=settings) as host:

        async def rounds(number: int) -> None:
            """Cancel calls while they are on their way, and others when as many as can be have begun."""
            begun = waiting.begun + min(at_once, len(some_calls(host, kind, number)))
            await cancelled(some_calls(host, kind, number), soon)
            await cancelled(some_calls(host, kind, number), lambda: eventually(lambda: waiting.begun >= begun))
            waiting.open()
            await quiet(host)
            waiting.close()

        await rounds(20)
        before = Holdings.count()
        await rounds(200)
        await before.come_back()
        assert await host.health() == "SERVING"


async def test_a_reader_of_logs_who_is_cancelled_at_any_moment_ends_the_call() -> None:
    waiting = Waiting()
    async with running_server(*waiting_connectors(waiting)) as host:
        for turns in [*range(60)] * 8:  # a request is sent, and its first page read, within so many
            readers = [asyncio.ensure_future(read(host.get_logs("on_loop", JobMeta("1").encode()))) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        await quiet(host)


async def test_calls_whose_deadlines_pass_by_the_hundred_leave_nothing_behind() -> None:
    waiting = Waiting()
    async with running_server(*waiting_connectors(waiting)) as host:

        async def late(number: int) -> None:
            calls = [host.delete("on_loop", JobMeta(str(one)).encode(), timeout=0.05) for one in range(number)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(one, grpc.aio.AioRpcError) for one in outcomes)
            await quiet(host)

        await late(10)
        before = Holdings.count()
        await late(300)
        await before.come_back()


async def test_connections_that_break_off_leave_nothing_behind() -> None:
    waiting = Waiting()
    async with running_server(*waiting_connectors(waiting)) as host:

        async def broken_off(number: int) -> None:
            channels = [grpc.aio.insecure_channel(host.address, [("n", one)]) for one in range(number)]
            begun = waiting.begun
            calls = [
                asyncio.ensure_future(RunningServer(host.server, channel).delete("on_loop", JobMeta("1").encode()))
                for channel in channels
            ]
            await eventually(lambda: waiting.begun == begun + number)
            for channel in channels:
                await channel.close()
            await asyncio.gather(*calls, return_exceptions=True)
            await quiet(host)

        await broken_off(3)
        before = Holdings.count()
        await broken_off(50)
        await before.come_back()


async def test_hosts_that_come_and_go_leave_nothing_behind() -> None:
    async def come_and_go() -> None:
        async with running_server(*echoes(), settings={"in_place": ["test-vouched"]}) as host:
            for task_type in set(TASK_TYPES) - {"echo2"}:
                await (host.execute if task_type.endswith("sync") else host.create)(task_type)
                await asyncio.to_thread(lambda: None)

    await come_and_go()
    before = Holdings.count()
    for _ in range(3):
        await come_and_go()
    await before.come_back()


async def test_a_host_that_could_not_start_leaves_nothing_behind() -> None:
    async def start_in_vain(port: int) -> None:
        with pytest.raises(Exception, match="is taken"):
            async with running_server(*echoes(), settings={"port": port}):
                pass

    async with running_server() as host:
        await start_in_vain(host.server.port)
        before = Holdings.count()
        for _ in range(3):
            await start_in_vain(host.server.port)
        await before.come_back()
