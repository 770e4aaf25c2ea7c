"""Whatever one connector's code does, everybody else is answered."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import uvloop
from flyteidl.admin import agent_pb2

from connector_core import Phase, Resource
from connector_core.testing import RunningServer, running_server
from tests.fakes import PATIENCE, Answers, Gate, JobMeta, Jobs, Never, eventually, happens
from tests.support.rpc import details_of, refusal

META = JobMeta("7").encode()
CALLS = 50


@asynccontextmanager
async def stuck_calls(host: RunningServer, gate: Gate, *, reached: int) -> AsyncIterator[None]:
    """Have 50 calls of the task type `stuck` wait at a gate, `reached` of them in plugin code, until the block ends."""
    calls = [asyncio.create_task(host.delete("stuck", META)) for _ in range(CALLS)]
    await gate.reached(reached)
    await eventually(lambda: in_flight(host, "stuck", "delete") == CALLS)
    yield
    assert not any(call.done() for call in calls)
    gate.open()
    await asyncio.gather(*calls)


def in_flight(host: RunningServer, task_type: str, operation: str) -> float:
    return host.metric("flyte_connector_requests_in_flight", task_type=task_type, operation=operation)


async def everybody_else_is_answered(host: RunningServer) -> None:
    """Make each kind of call that has nothing to do with the culprit."""
    async with asyncio.timeout(PATIENCE):
        assert await host.health() == "SERVING"
        assert len(await host.list_connectors()) == 4
        await host.metadata_stub.GetAgent(agent_pb2.GetAgentRequest(name="stuck connector"))
        await host.delete("blocking", META)
        await host.delete("job", META)
        await host.execute("answer")
        assert "flyte_connector_requests_in_flight" in await asyncio.to_thread(host.metrics_text)


def others() -> list[Jobs | Answers]:
    """An async connector, one with blocking code, and a sync one."""
    return [Jobs(), Jobs("blocking", delete=lambda: None), Answers()]


async def test_50_calls_that_block_in_plain_functions_hold_nobody_else_up() -> None:
    gate = Gate()
    async with (
        running_server(Jobs("stuck", delete=gate.block), *others()) as host,
        stuck_calls(host, gate, reached=host.server.settings.workers),
    ):
        await everybody_else_is_answered(host)


async def test_50_calls_that_block_inside_async_functions_hold_nobody_else_up() -> None:
    gate = Gate()

    async def block() -> None:
        gate.block()

    async with running_server(Jobs("stuck", delete=block), *others()) as host, stuck_calls(host, gate, reached=1):
        await everybody_else_is_answered(host)


async def test_50_calls_that_block_in_to_thread_hold_nobody_else_up() -> None:
    gate = Gate()

    async def block() -> None:
        await asyncio.to_thread(gate.block)

    async with (
        running_server(Jobs("stuck", delete=block), *others()) as host,
        stuck_calls(host, gate, reached=host.server.settings.workers),
    ):
        await everybody_else_is_answered(host)


@pytest.mark.parametrize("kind", ["plain", "to_thread"])
async def test_64_blocking_calls_run_at_once_with_64_workers(kind: str) -> None:
    together = threading.Barrier(64)

    def meet() -> None:
        together.wait(PATIENCE)

    async def meet_in_thread() -> None:
        await asyncio.to_thread(meet)

    connector = Jobs(delete=meet if kind == "plain" else meet_in_thread)
    async with running_server(connector, settings={"workers": 64}) as host:
        await asyncio.gather(*(host.delete("job", META) for _ in range(64)))


async def test_64_sync_tasks_run_at_once_with_64_workers() -> None:
    together = threading.Barrier(64)

    def do() -> Resource:
        together.wait(PATIENCE)
        return Resource(Phase.SUCCEEDED)

    async with running_server(Answers(do=do), settings={"workers": 64}) as host:
        await asyncio.gather(*(host.execute("answer") for _ in range(64)))


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "blocking"])
async def test_sys_exit_in_a_call_ends_that_call_alone(is_async: bool) -> None:
    never = Never()

    def leave() -> None:
        raise SystemExit(3)

    async def leave_async() -> None:
        raise SystemExit(3)

    connector = Jobs(get=never.wait, delete=leave_async if is_async else leave)
    async with running_server(connector, Jobs("other")) as host:
        innocent = asyncio.create_task(host.get("job", META))
        await happens(never.begun)
        error = await refusal(host.delete("job", META))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "plugin 'test-job connector', delete(): the plugin called sys.exit(3)" in details_of(error)
        assert await host.create("job") == JobMeta("1").encode()
        await host.delete("other", META)
        assert not innocent.done()
        innocent.cancel()
        await happens(never.cancelled)


async def test_sys_exit_in_a_task_of_the_plugins_own_ends_no_call() -> None:
    left = threading.Event()

    async def leave() -> None:
        left.set()
        raise SystemExit(3)

    kept = []

    async def delete() -> None:
        kept.append(asyncio.create_task(leave()))

    async with running_server(Jobs(delete=delete)) as host:
        await host.delete("job", META)
        await happens(left)
        assert await host.create("job") == JobMeta("1").encode()
    with pytest.raises(SystemExit):
        kept[0].result()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("has_own_factory", [False, True], ids=["", "task factory"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_nor_does_it_end_the_serving_loop_where_the_plugin_runs_in_place(
    error: BaseException,
    has_own_factory: bool,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept: list[asyncio.Task[None]] = []

    async def leave() -> None:
        await asyncio.sleep(0)
        raise error

    async def leave_later() -> None:
        asyncio.create_task(leave(), name="deeper")  # noqa: RUF006 - as careless plugins do

    async def create() -> JobMeta:
        kept.append(asyncio.create_task(leave_later()))
        return JobMeta("7")

    async def delete() -> None:
        await asyncio.create_task(leave())

    async def serve() -> None:
        settings = {"in_place": ["test-job connector"]}
        async with running_server(Jobs(create=create, delete=delete), Jobs("other"), settings=settings) as host:
            assert await host.create("job") == META
            await eventually(lambda: "made by create(): " in caplog.text)
            waiting = await refusal(host.delete("job", META))
            assert "delete(): a task of the plugin's own tried to end the host" in details_of(waiting)
            assert await host.create("other") == JobMeta("1").encode()

    def task_factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    made: list[Any] = []
    with asyncio.Runner(loop_factory=new_loop) as runner:
        if has_own_factory:
            runner.get_loop().set_task_factory(task_factory)
        runner.run(serve())
    assert bool(made) is has_own_factory
    assert "plugin 'test-job connector', connector 'job connector', made by create(): " in caplog.text
    assert kept[0].exception() is None


async def test_nor_do_tasks_of_a_start_or_a_log_that_run_in_place(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[asyncio.Task[None]] = []

    async def leave() -> None:
        await asyncio.sleep(0)
        raise SystemExit(3)

    async def start() -> None:
        kept.append(asyncio.create_task(leave()))

    async def get_logs() -> AsyncIterator[str]:
        kept.append(asyncio.create_task(leave()))
        yield "first"
        await asyncio.sleep(0)
        kept.append(asyncio.create_task(leave()))
        yield "last"

    connector = Jobs(get_logs=get_logs)
    connector.start = start  # type: ignore[attr-defined] # as an author's method
    async with running_server(connector, settings={"in_place": ["test-job connector"]}) as host:
        lines = [line async for answer in host.get_logs("job", META) for line in answer.body.results]
        await asyncio.wait(kept)
        assert await host.create("job") == JobMeta("1").encode()
    assert lines == ["first", "last"]
    assert caplog.text.count("made by start(): ") == 1
    assert caplog.text.count("made by get_logs(): ") == 2


async def test_what_else_becomes_of_such_tasks_is_as_ever() -> None:
    """Their answers, their errors, and the end of one that was cancelled before it had begun."""
    told: dict[str, Any] = {}

    async def answer() -> str:
        await asyncio.sleep(0)
        return "answered"

    async def fail() -> None:
        raise ValueError("its own")

    async def delete() -> None:
        unbegun = asyncio.create_task(answer())
        unbegun.cancel()
        tasks = [asyncio.create_task(answer()), asyncio.create_task(fail()), unbegun]
        told["outcomes"] = await asyncio.gather(*tasks, return_exceptions=True)
        told["shown"] = repr(tasks[0])

    async with running_server(Jobs(delete=delete), settings={"in_place": ["test-job connector"]}) as host:
        await host.delete("job", META)
    answered, failed, cancelled = told["outcomes"]
    assert answered == "answered"
    assert isinstance(failed, ValueError)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert "answer()" in told["shown"]


class TestCallsWhoseClientHasGone:
    def abandoned(self, host: RunningServer) -> float:
        return host.metric("flyte_connector_abandoned_calls", plugin="test-job connector", connector="job connector")

    async def test_blocking_code_runs_on_in_its_pool_and_is_counted_until_it_ends(self) -> None:
        gate = Gate()
        async with running_server(Jobs(delete=gate.block)) as host:
            calls = [asyncio.create_task(host.delete("job", META)) for _ in range(3)]
            await gate.reached(3)
            for call in calls:
                call.cancel()
            await eventually(lambda: self.abandoned(host) == 3)
            text = await asyncio.to_thread(host.metrics_text)
            assert 'abandoned_calls{connector="job connector",plugin="test-job connector"} 3.0' in text
            gate.open()
            await eventually(lambda: self.abandoned(host) == 0)

    async def test_the_same_after_a_deadline(self) -> None:
        gate = Gate()
        async with running_server(Jobs(delete=gate.block)) as host:
            call = asyncio.create_task(host.delete("job", META, timeout=0.2))
            await gate.reached()
            error = await refusal(call)
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await eventually(lambda: self.abandoned(host) == 1)
            gate.open()
            await eventually(lambda: self.abandoned(host) == 0)

    async def test_async_code_is_cancelled(self) -> None:
        never = Never()
        async with running_server(Jobs(delete=never.wait)) as host:
            call = asyncio.create_task(host.delete("job", META))
            await happens(never.begun)
            call.cancel()
            await happens(never.cancelled)
            await eventually(lambda: self.abandoned(host) == 0)

    async def test_what_waits_for_a_thread_never_runs(self) -> None:
        gate, ran = Gate(), list[str]()

        def delete(resource_meta: JobMeta) -> None:
            ran.append(resource_meta.job_id)
            gate.block()

        async with running_server(Jobs(delete=delete), settings={"workers": 1}) as host:
            first = asyncio.create_task(host.delete("job", JobMeta("first").encode()))
            await gate.reached()
            second = asyncio.create_task(host.delete("job", JobMeta("second").encode()))
            await eventually(lambda: in_flight(host, "job", "delete") == 2)
            second.cancel()
            await eventually(lambda: in_flight(host, "job", "delete") == 1)
            third = asyncio.create_task(host.delete("job", JobMeta("third").encode()))
            gate.open()
            await asyncio.gather(first, third)
        assert ran == ["first", "third"]

    async def test_hundreds_of_cancelled_calls_leave_nothing_behind(self) -> None:
        never = Never()
        async with running_server(Jobs(delete=never.wait), settings={"in_flight": 1000}) as host:
            for _ in range(3):
                calls = [asyncio.create_task(host.delete("job", META)) for _ in range(150)]
                await eventually(lambda: in_flight(host, "job", "delete") > 0)
                for call in calls:
                    call.cancel()
                await asyncio.wait(calls)
                await eventually(lambda: in_flight(host, "job", "delete") == 0)
            await eventually(lambda: self.abandoned(host) == 0)


class TestFullPools:
    async def full(self, connector: Any, **settings: int) -> grpc.aio.AioRpcError:
        """Return how the last of three calls is refused, the first of which blocks and the second of which waits."""
        async with running_server(connector, Jobs("other", delete=lambda: None), settings=settings) as host:
            gate: Gate = connector.gate
            calls = [asyncio.create_task(host.delete("job", META))]
            await gate.reached()
            if settings.get("queue"):
                calls.append(asyncio.create_task(host.delete("job", META)))
                await eventually(lambda: in_flight(host, "job", "delete") == 2)
            error = await refusal(host.delete("job", META))
            await host.delete("other", META)
            gate.open()
            await asyncio.gather(*calls)
            await host.delete("job", META)
        return error

    async def test_a_call_beyond_threads_and_queue_is_refused_with_what_is_full(self) -> None:
        gate = Gate()
        error = await self.full(Jobs(gate=gate, delete=gate.block), workers=1, queue=1)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (
            "the thread pool of connector 'job connector' (plugin 'test-job connector') is full: "
            "1 threads are busy and 1 calls wait (settings: workers, queue)"
        ) in details_of(error)

    async def test_without_a_queue_the_first_call_too_many_is_refused(self) -> None:
        gate = Gate()
        error = await self.full(Jobs(gate=gate, delete=gate.block), workers=1, queue=0)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    async def test_async_calls_beyond_their_limit_are_refused_with_what_is_full(self) -> None:
        gate = Gate()

        async def delete() -> None:
            await asyncio.to_thread(gate.block)

        error = await self.full(Jobs(gate=gate, delete=delete), in_flight=1)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "'job connector' has 1 calls in flight, as many as it may (setting: in_flight)" in details_of(error)
