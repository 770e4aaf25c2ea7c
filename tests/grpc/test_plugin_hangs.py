"""Plugin code that blocks, hangs or will not go keeps what is its own, and nothing else."""

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import grpc
import pytest

from connector_core import Phase
from connector_core.testing import RunningServer, running_server
from tests.fakes import PATIENCE, Gate, JobMeta, Jobs, Never, eventually, happens
from tests.support.faults import failure, failures, host_of, others_are_served
from tests.support.rpc import details_of

JOB = JobMeta("1").encode()
BAD = {"plugin": "test-bad connector", "connector": "bad connector"}
CANCELLED, LATE, FULL = (
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


def started(call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Begin a call, and go on."""
    return asyncio.create_task(call)


def stalls(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the logged reports of blocked event loops."""
    return [message for message in caplog.messages if "is blocked: no response" in message]


def lag(host: RunningServer, loop: str) -> float:
    """Return how late a loop is, as the metrics say."""
    return host.metric("flyte_connector_loop_lag_seconds", loop=loop)


def abandoned(host: RunningServer) -> float:
    """Return how many calls run on although nobody waits, as the metrics say."""
    return host.metric("flyte_connector_abandoned_calls", **BAD)


# Blocking the loop


async def test_a_loop_that_is_blocked_stalls_nobody_else_and_is_logged_once_with_the_culprit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()

    async def create() -> JobMeta:
        gate.block()  # the commonest bug of connector authors
        return JobMeta("1")

    async with host_of(Jobs("bad", create=create), stall_seconds=0.1) as host:
        call = started(host.create("bad"))
        await gate.reached()
        await others_are_served(host)
        await eventually(lambda: lag(host, "plugin test-bad connector") > 0.5)
        (report,) = stalls(caplog)
        assert "running: plugin 'test-bad connector', connector 'bad connector', create(). Use `await`" in report
        assert "gate.block()  # the commonest bug of connector authors" in report
        gate.open()
        assert await call == JOB
        await eventually(lambda: lag(host, "plugin test-bad connector") == 0)
    assert len(stalls(caplog)) == 1


async def test_a_second_stall_is_logged_as_well(caplog: pytest.LogCaptureFixture) -> None:
    gates = [Gate(), Gate()]
    waiting = iter(gates)

    def has_stalled(times: int) -> bool:
        return len(stalls(caplog)) == times

    async def create() -> JobMeta:
        next(waiting).block()
        return JobMeta("1")

    async with host_of(Jobs("bad", create=create), stall_seconds=0.1) as host:
        for number, gate in enumerate(gates, 1):
            call = started(host.create("bad"))
            await eventually(partial(has_stalled, number))
            gate.open()
            await call
            await eventually(lambda: lag(host, "plugin test-bad connector") == 0)
    assert len(stalls(caplog)) == 2


async def test_calls_behind_a_blocked_loop_end_at_their_deadlines_and_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()

    async def delete() -> None:
        gate.block()

    async with host_of(Jobs("bad", delete=delete), deadlines={"delete": 0.2}) as host:
        errors = await asyncio.gather(*(failure(host.delete("bad", JOB)) for _ in range(5)))
        for error in errors:
            assert error.code() is LATE
            assert details_of(error) == "plugin 'test-bad connector', delete(): did not finish before its deadline"
        assert host.server.invoker.abandoned == abandoned(host) == 5
        await others_are_served(host)
        gate.open()
        await eventually(lambda: abandoned(host) == 0)
        assert failures(host, "bad") == {"delete DEADLINE_EXCEEDED": 5}


async def test_a_vouched_plugin_that_blocks_the_serving_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """It stalls everybody, which is what the operator vouched against; so who it was has to be told."""
    told = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "is blocked: no response" in record.getMessage():
                told.set()

    async def create() -> JobMeta:
        assert told.wait(PATIENCE)
        return JobMeta("1")

    listener = Listener()
    logging.getLogger("connector_core").addHandler(listener)
    try:
        async with host_of(Jobs("bad", create=create), stall_seconds=0.1, in_place=[BAD["plugin"]]) as host:
            assert await host.create("bad") == JOB
    finally:
        logging.getLogger("connector_core").removeHandler(listener)
    (report,) = stalls(caplog)
    assert report.startswith("event loop of serving is blocked: no response")
    assert "running: plugin 'test-bad connector', connector 'bad connector', create(). Use `await`" in report


# Hanging


async def test_a_connector_that_hangs_in_all_its_threads_is_refused_more_and_the_others_serve() -> None:
    gate = Gate()

    async with host_of(Jobs("bad", delete=gate.block), workers=2, queue=1) as host:
        hanging = [started(host.delete("bad", JOB)) for _ in range(3)]
        await gate.reached(2)
        await eventually(lambda: host.metric("flyte_connector_pool_waiting_calls", **BAD) == 1)
        assert host.metric("flyte_connector_pool_busy_threads", **BAD) == 2
        error = await failure(host.delete("bad", JOB))
        assert error.code() is FULL
        assert details_of(error) == (
            "plugin 'test-bad connector', delete(): the thread pool of connector 'bad connector' "
            "(plugin 'test-bad connector') is full: 2 threads are busy and 1 calls wait (settings: workers, queue)"
        )
        await others_are_served(host)
        gate.open()
        await asyncio.gather(*hanging)
        await host.delete("bad", JOB)


async def test_a_call_waits_for_a_thread_as_long_as_the_setting_says() -> None:
    gate = Gate()

    async with host_of(Jobs("bad", delete=gate.block), workers=1, wait=0.05) as host:
        hanging = started(host.delete("bad", JOB))
        await gate.reached()
        error = await failure(host.delete("bad", JOB))
        assert error.code() is FULL
        assert "is full: a call waited 0.05 s for a thread (setting: wait)" in details_of(error)
        gate.open()
        await hanging


async def test_async_code_that_hangs_is_refused_more_beyond_its_places() -> None:
    never = Never()

    async with host_of(Jobs("bad", delete=never.wait), in_flight=2) as host:
        hanging = [started(host.delete("bad", JOB)) for _ in range(2)]
        await happens(never.begun)
        await eventually(lambda: bad_in_flight(host) == 2)
        error = await failure(host.delete("bad", JOB))
        assert error.code() is FULL
        assert details_of(error) == (
            "plugin 'test-bad connector', delete(): connector 'bad connector' has 2 calls in flight, "
            "as many as it may (setting: in_flight)"
        )
        await others_are_served(host)
        for call in hanging:
            call.cancel()
        await happens(never.cancelled)
        assert failures(host, "bad")["delete RESOURCE_EXHAUSTED"] == 1


def bad_in_flight(host: RunningServer) -> float:
    return host.metric("flyte_connector_requests_in_flight", task_type="bad", operation="delete")


async def test_threads_that_outlive_their_clients_are_counted_until_they_end() -> None:
    gate = Gate()

    async with host_of(Jobs("bad", delete=gate.block), workers=3) as host:
        calls = [started(host.delete("bad", JOB)) for _ in range(3)]
        await gate.reached(3)
        for call in calls:
            call.cancel()
        await eventually(lambda: abandoned(host) == 3)
        assert host.server.invoker.abandoned == 3
        assert host.metric("flyte_connector_pool_busy_threads", **BAD) == 3
        await eventually(lambda: failures(host, "bad") == {"delete CANCELLED": 3})
        gate.open()
        await eventually(lambda: abandoned(host) == 0)


async def test_a_job_whose_get_hangs_is_answered_with_its_last_known_phase() -> None:
    gate = Gate()

    async with host_of(Jobs("bad", get=gate.block), deadlines={"get": 0.4}) as host:
        resource = await host.get("bad", JOB)
        assert Phase(resource.phase) is Phase.RUNNING
        assert "did not finish before its deadline" in resource.message
        gate.open()


# Ignoring cancellation


class Stubborn:
    """Awaited, it lasts until it is released, however often it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self._release: Callable[[], object] = lambda: None

    async def stay(self) -> None:
        loop = asyncio.get_running_loop()
        released = loop.create_future()
        self._release = lambda: loop.call_soon_threadsafe(released.set_result, None)
        while not released.done():
            try:
                await asyncio.shield(released)
            except asyncio.CancelledError:
                self.cancelled.set()

    def release(self) -> None:
        self._release()


async def test_code_that_ignores_its_cancellation_costs_its_caller_the_deadline_and_is_counted() -> None:
    stubborn = Stubborn()
    async with host_of(Jobs("bad", delete=stubborn.stay), deadlines={"delete": 0.1}) as host:
        error = await failure(host.delete("bad", JOB))
        assert error.code() is LATE
        assert details_of(error) == "plugin 'test-bad connector', delete(): did not finish before its deadline"
        await happens(stubborn.cancelled)
        assert host.server.invoker.abandoned == abandoned(host) == 1
        await others_are_served(host)
        stubborn.release()
        await eventually(lambda: abandoned(host) == 0)


async def test_code_in_place_that_ignores_its_cancellation_costs_its_own_caller_alone() -> None:
    stubborn = Stubborn()
    async with host_of(Jobs("bad", delete=stubborn.stay), in_place=[BAD["plugin"]]) as host:
        error = await failure(host.delete("bad", JOB, timeout=0.1))
        assert error.code() is LATE
        await happens(stubborn.cancelled)
        await others_are_served(host)
        stubborn.release()


async def test_code_in_place_ends_at_its_deadline() -> None:
    never = Never()
    settings: dict[str, Any] = {"in_place": [BAD["plugin"]], "deadlines": {"delete": 0.1}}
    async with host_of(Jobs("bad", delete=never.wait), **settings) as host:
        error = await failure(host.delete("bad", JOB))
    assert error.code() is LATE
    assert details_of(error) == "plugin 'test-bad connector', delete(): did not finish before its deadline"
    assert never.cancelled.is_set()


@pytest.mark.parametrize("in_place", [False, True], ids=["on its loop", "in place"])
async def test_code_that_cancels_its_own_task_fails_that_call_alone(in_place: bool) -> None:
    async def delete() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with host_of(Jobs("bad", delete=delete), in_place=[BAD["plugin"]] if in_place else []) as host:
        error = await failure(host.delete("bad", JOB))
        assert error.code() is (CANCELLED if in_place else grpc.StatusCode.INTERNAL)
        assert host.server.invoker.abandoned == 0


# Its own tasks, its own loop


def leaves(error: BaseException | type[BaseException]) -> Callable[[], Coroutine[Any, Any, JobMeta]]:
    """Return a `create` that starts a task of its own, and waits until that has raised."""

    async def create() -> JobMeta:
        over = asyncio.get_running_loop().create_future()

        async def leave() -> None:
            try:
                raise error
            finally:
                over.set_result(None)

        task = asyncio.create_task(leave())
        await over
        await asyncio.sleep(0)
        del task
        return JobMeta("1")

    return create


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), RuntimeError("loose")], ids=repr)
async def test_a_task_of_its_own_that_leaves_ends_neither_host_nor_call(error: BaseException) -> None:
    async with host_of(Jobs("bad", create=leaves(error))) as host:
        assert await host.create("bad") == JOB


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # Python itself lets it pass
async def test_a_thread_of_its_own_that_exits_ends_nothing() -> None:
    def create() -> JobMeta:
        thread = threading.Thread(target=sys.exit, args=(3,))
        thread.start()
        thread.join()
        return JobMeta("1")

    async with host_of(Jobs("bad", create=create)) as host:
        assert await host.create("bad") == JOB


async def test_a_plugin_that_stops_its_loop_stops_nothing() -> None:
    async def create() -> JobMeta:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return JobMeta("1")

    async with host_of(Jobs("bad", create=create)) as host:
        for _ in range(3):
            assert await host.create("bad") == JOB


async def test_a_plugin_that_closes_its_loop_while_it_runs_fails_that_call_alone() -> None:
    async def create() -> JobMeta:
        asyncio.get_running_loop().close()
        return JobMeta("1")

    async with host_of(Jobs("bad", create=create)) as host:
        error = await failure(host.create("bad"))
        assert "RuntimeError: Cannot close a running event loop" in details_of(error)
        assert Phase((await host.get("bad", JOB)).phase) is Phase.SUCCEEDED


class Fragile(asyncio.SelectorEventLoop):
    """A loop that is closed as soon as it is stopped, as a thread of the plugin's own might do."""

    def run_forever(self) -> None:
        super().run_forever()
        self.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncio's, of what died with the loop
async def test_a_plugin_that_loses_its_loop_fails_the_calls_on_it_and_gets_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    never = Never()

    async def create() -> JobMeta:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return JobMeta("1")

    async with running_server(Jobs("bad", create=create, delete=never.wait), new_plugin_loop=Fragile) as host:
        other = started(host.delete("bad", JOB))
        await happens(never.begun)
        await failure(host.create("bad"))
        await failure(other)
        assert Phase((await host.get("bad", JOB)).phase) is Phase.SUCCEEDED
        assert host.server.invoker.abandoned == 0
        assert len([one for one in caplog.messages if one.startswith("event loop closed by code of")]) == 1


# When it is started and closed


async def test_a_plugin_whose_start_hangs_is_listed_and_says_why_it_cannot_serve() -> None:
    never = Never()
    async with host_of(Jobs("bad", start=never.wait), start_timeout=0.1) as host:
        error = await failure(host.create("bad"))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "connector 'bad connector' could not be started: did not finish before its deadline" in details_of(error)
        assert "bad connector" in {agent.name for agent in await host.list_connectors()}
        assert host.metric("flyte_connector_connector_started", **BAD) == 0


async def test_a_plugin_whose_close_ignores_everything_does_not_keep_the_host() -> None:
    stubborn = Stubborn()
    async with host_of(Jobs("bad", close=stubborn.stay), start_timeout=0.1) as host:
        pass
    assert stubborn.cancelled.is_set()
    assert host.server.invoker.abandoned == 1
    stubborn.release()


async def test_a_plugin_whose_close_blocks_a_thread_does_not_keep_the_host() -> None:
    gate = Gate()
    async with host_of(Jobs("bad", close=gate.block), start_timeout=0.1):
        pass
    await gate.reached()
    gate.open()
