"""Plugin code runs away from the loop that waits for it, is bounded in time and number, and its errors name it."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop
from flyteidl.admin import agent_pb2

from connector_core import LogPage, get_secret
from connector_core.description import ConnectorDescription, PluginIdentity
from connector_core.errors import (
    BackendUnavailableError,
    CapacityExceededError,
    ConnectorError,
    ConnectorNotStartedError,
    DeadlineExceededError,
    InvalidInputError,
    PluginCallError,
    TransientError,
    UnsupportedOperationError,
)
from connector_core.invocation import Invoker
from connector_core.invocation.offers import NOTHING, JobOffer, Offer, TaskOffer
from connector_core.literals import to_literal_map
from connector_core.metrics import Metrics
from connector_core.secrets import SecretSource
from tests.fakes import PATIENCE, Gate, JobMeta, Jobs, Never, eventually, happens
from tests.support.places import described, local_invoker
from tests.support.places import limits as changed_limits

NewLoop = Callable[[], asyncio.AbstractEventLoop]
MakeInvoker = Callable[..., Invoker]

NO_TIME = 0.0
JOB = JobOffer(JobMeta("1").encode())


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> NewLoop:
    factory: NewLoop = request.param
    return factory


@pytest_asyncio.fixture
async def make_invoker(new_loop: NewLoop) -> AsyncIterator[MakeInvoker]:
    made = []

    def make(secrets: SecretSource | None = None, **limits: Any) -> Invoker:
        chosen = changed_limits(**limits)
        made.append(local_invoker(chosen=chosen, new_loop=new_loop, secrets=secrets))
        return made[-1]

    yield make
    for invoker in made:
        await invoker.close(PATIENCE)


@pytest_asyncio.fixture
async def invoker(make_invoker: MakeInvoker) -> Invoker:
    return make_invoker()


def entry(plugin: str = "warehouse", **methods: Any) -> ConnectorDescription:
    """Inspect a connector of a plugin."""
    return described(Jobs(**methods), PluginIdentity(plugin))


class Late(Offer):
    """Works out the resource meta where it is asked for."""

    def __init__(self, work_out: Callable[[], Any]) -> None:
        self._work_out = work_out

    @property
    def resource_meta(self) -> Any:
        return self._work_out()


async def where() -> None:
    raise HereError(asyncio.get_running_loop(), threading.current_thread())


def where_blocking() -> None:
    raise HereError(None, threading.current_thread())


class HereError(ConnectorError):
    """Says where code runs; an answer would have to be one for the wire."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None, thread: threading.Thread) -> None:
        super().__init__("here")
        self.loop = loop
        self.thread = thread


async def place(invoker: Invoker, connector: ConnectorDescription, name: str = "delete") -> HereError:
    with pytest.raises(HereError) as caught:
        await invoker.invoke(connector, name, JOB)
    return caught.value


class TestWhereCodeRuns:
    async def test_async_code_runs_on_its_plugins_loop(self, invoker: Invoker) -> None:
        mine = await place(invoker, entry("warehouse", delete=where))
        sibling = await place(invoker, entry("warehouse", delete=where))
        other = await place(invoker, entry("lake", delete=where))
        assert mine.loop is sibling.loop
        assert len({id(mine.loop), id(other.loop), id(asyncio.get_running_loop())}) == 3
        assert mine.thread.name == "plugin warehouse"

    async def test_blocking_code_runs_in_its_connectors_threads(self, invoker: Invoker) -> None:
        mine = await place(invoker, entry("warehouse", name="Mine", delete=where_blocking))
        assert mine.thread is not threading.current_thread()
        assert "'Mine'" in mine.thread.name
        assert "'warehouse'" in mine.thread.name

    async def test_code_that_blocks_its_loop_stalls_neither_us_nor_other_plugins(self, invoker: Invoker) -> None:
        gate = Gate()

        async def block() -> None:
            gate.block()

        stuck = asyncio.create_task(invoker.invoke(entry("warehouse", delete=block), "delete", JOB))
        await gate.reached()
        await place(invoker, entry("lake", delete=where))
        await place(invoker, entry("warehouse", delete=where_blocking))
        assert not stuck.done()
        gate.open()
        await stuck

    async def test_a_full_pool_is_one_connectors_own(self, make_invoker: MakeInvoker) -> None:
        invoker, gate = make_invoker(workers=1, queue=0), Gate()
        full = entry(delete=gate.block)
        stuck = asyncio.create_task(invoker.invoke(full, "delete", JOB))
        await gate.reached()
        await place(invoker, entry(name="other", delete=where_blocking))
        with pytest.raises(CapacityExceededError, match=r"connector 'job connector' \(plugin 'warehouse'\) is full"):
            await invoker.invoke(full, "delete", JOB)
        gate.open()
        await stuck


class TestLimits:
    async def test_async_calls_beyond_the_limit_are_refused_and_there_is_room_again(
        self, make_invoker: MakeInvoker
    ) -> None:
        invoker, never = make_invoker(in_flight=2), Never()
        connector = entry(get=never.wait)
        calls = [asyncio.create_task(invoker.invoke(connector, "get", JOB)) for _ in range(2)]
        await happens(never.begun)
        with pytest.raises(CapacityExceededError, match=r"'job connector' has 2 calls in flight.*in_flight") as caught:
            await invoker.invoke(connector, "delete", JOB)
        assert (caught.value.plugin, caught.value.operation) == ("warehouse", "delete")
        await invoker.invoke(entry(), "delete", JOB)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await eventually(lambda: invoker.abandoned == 0)
        await invoker.invoke(connector, "delete", JOB)

    async def test_a_call_that_waits_too_long_for_a_thread_is_refused(self, make_invoker: MakeInvoker) -> None:
        invoker, gate = make_invoker(workers=1, wait=0.01), Gate()
        connector = entry(delete=gate.block)
        first = asyncio.create_task(invoker.invoke(connector, "delete", JOB))
        await gate.reached()
        with pytest.raises(CapacityExceededError, match=r"is full: a call waited 0\.01 s for a thread") as caught:
            await invoker.invoke(connector, "delete", JOB)
        assert (caught.value.plugin, caught.value.operation) == ("warehouse", "delete")
        gate.open()
        await first

    async def test_to_thread_uses_the_threads_of_the_connector_that_calls_it(self, make_invoker: MakeInvoker) -> None:
        invoker, gate, seen = make_invoker(workers=1, queue=0), Gate(), list[str]()

        async def block() -> None:
            await asyncio.to_thread(gate.block)

        async def note() -> None:
            await asyncio.to_thread(lambda: seen.append(threading.current_thread().name))

        one, other = entry(name="One", delete=block), entry(name="Other", delete=note)
        stuck = asyncio.create_task(invoker.invoke(one, "delete", JOB))
        await gate.reached()
        await invoker.invoke(other, "delete", JOB)
        assert "'Other'" in seen[0]
        with pytest.raises(CapacityExceededError, match="'One'"):
            await invoker.invoke(one, "delete", JOB)
        gate.open()
        await stuck


class TestInPlace:
    """A plugin that the operator vouches for."""

    async def test_async_code_runs_on_the_loop_that_waits(self, make_invoker: MakeInvoker) -> None:
        here = await place(make_invoker(in_place=True), entry(delete=where))
        assert here.loop is asyncio.get_running_loop()

    async def test_blocking_code_still_gets_a_thread(self, make_invoker: MakeInvoker) -> None:
        here = await place(make_invoker(in_place=True), entry(delete=where_blocking))
        assert here.thread is not threading.current_thread()

    async def test_a_stream_runs_on_the_same_loop_as_other_calls(self, make_invoker: MakeInvoker) -> None:
        """A client that `start()` has opened belongs to one loop."""
        loops, closed = set[asyncio.AbstractEventLoop](), threading.Event()

        async def get_logs() -> AsyncIterator[str]:
            loops.add(asyncio.get_running_loop())
            try:
                yield "first"
                yield "second"
            finally:
                loops.add(asyncio.get_running_loop())
                closed.set()

        invoker = make_invoker(in_place=True)
        stream: Any = invoker.stream(entry(get_logs=get_logs), "get_logs", JOB)
        assert await anext(stream) == [LogPage(("first",))]
        await stream.aclose()
        await happens(closed)
        assert loops == {asyncio.get_running_loop()}

    async def test_deadlines_hold(self, make_invoker: MakeInvoker) -> None:
        never = Never()
        with pytest.raises(DeadlineExceededError) as caught:
            await make_invoker(in_place=True).invoke(entry(delete=never.wait), "delete", JOB, timeout=0.01)
        assert caught.value.plugin == "warehouse"
        assert never.cancelled.is_set()

    @pytest.mark.parametrize(
        "error", [ValueError("x"), SystemExit(1), asyncio.CancelledError(), TimeoutError("x")], ids=repr
    )
    async def test_whatever_is_raised_is_the_plugins_error(
        self, make_invoker: MakeInvoker, error: BaseException
    ) -> None:
        with pytest.raises(PluginCallError) as caught:
            await make_invoker(in_place=True).invoke(entry(delete=raising(error, True)), "delete", JOB)
        assert caught.value.__cause__ is error

    async def test_a_caller_who_leaves_cancels_it(self, make_invoker: MakeInvoker) -> None:
        invoker, never = make_invoker(in_place=True), Never()
        call = asyncio.create_task(invoker.invoke(entry(delete=never.wait), "delete", JOB))
        await happens(never.begun)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert never.cancelled.is_set()

    async def test_to_thread_uses_the_connectors_threads_there_as_well(self, make_invoker: MakeInvoker) -> None:
        """Those of the loop's own are few, and keep the process from ending when one hangs."""
        seen = list[threading.Thread]()

        async def note() -> None:
            seen.append(await asyncio.to_thread(threading.current_thread))

        await make_invoker(in_place=True).invoke(entry(delete=note), "delete", JOB)
        assert seen[0].daemon
        assert "'job connector'" in seen[0].name
        mine = await asyncio.to_thread(threading.current_thread)
        assert "'job connector'" not in mine.name

    async def test_secrets_are_found_there_as_well(self, make_invoker: MakeInvoker, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("s3cret")
        found = list[str]()

        async def use() -> None:
            found.append(get_secret("token").get_secret_value())

        invoker = make_invoker(secrets=SecretSource("_NOT_SET_", tmp_path), in_place=True)
        await invoker.invoke(entry(delete=use), "delete", JOB)
        assert found == ["s3cret"]


class TestAnswers:
    async def test_the_answer_is_as_it_goes_on_the_wire(self, invoker: Invoker) -> None:
        connector = entry()
        assert (
            await invoker.invoke(
                connector, "create", TaskOffer(agent_pb2.CreateTaskRequest(), to_literal_map({"id": "7"}))
            )
            == JobMeta("7").encode()
        )
        assert await invoker.invoke(connector, "delete", JOB) is None

    async def test_deferred_arguments_are_worked_out_where_the_plugins_code_runs(self, invoker: Invoker) -> None:
        threads = list[threading.Thread]()

        def work_out() -> JobMeta:
            threads.append(threading.current_thread())
            return JobMeta("1")

        def delete(resource_meta: JobMeta) -> None: ...

        await invoker.invoke(entry(), "delete", Late(work_out))
        await invoker.invoke(entry(delete=delete), "delete", Late(work_out))
        assert threads[0].name == "plugin warehouse"
        assert threads[1].name.startswith("the thread pool of connector")

    async def test_an_answer_that_is_none_names_the_plugin(self, invoker: Invoker) -> None:
        with pytest.raises(PluginCallError, match="returned nothing, not a Resource") as caught:
            await invoker.invoke(entry(get=lambda: None), "get", JOB)
        assert (caught.value.plugin, caught.value.operation) == ("warehouse", "get")


class TestErrors:
    @pytest.mark.parametrize("is_async", [True, False], ids=["async", "blocking"])
    @pytest.mark.parametrize(
        "error",
        [ValueError("x"), StopIteration("x"), StopAsyncIteration("x"), KeyboardInterrupt("x"), GeneratorExit("x")],
        ids=lambda error: type(error).__name__,
    )
    async def test_whatever_is_raised_becomes_a_connector_error_with_the_culprit(
        self, invoker: Invoker, error: BaseException, is_async: bool
    ) -> None:
        with pytest.raises(PluginCallError, match=rf"{type(error).__name__}\b") as caught:
            await invoker.invoke(entry(delete=raising(error, is_async)), "delete", JOB)
        assert (caught.value.plugin, caught.value.operation) == ("warehouse", "delete")
        assert caught.value.__cause__ is not None

    @pytest.mark.parametrize("is_async", [True, False], ids=["async", "blocking"])
    async def test_sys_exit_ends_that_call_alone(self, invoker: Invoker, is_async: bool) -> None:
        never = Never()
        connector = entry(get=never.wait, delete=raising(SystemExit(3), is_async))
        innocent = asyncio.create_task(invoker.invoke(connector, "get", JOB))
        await happens(never.begun)
        with pytest.raises(PluginCallError, match=r"called sys\.exit\(3\)"):
            await invoker.invoke(connector, "delete", JOB)
        assert not innocent.done()
        innocent.cancel()
        await happens(never.cancelled)

    async def test_a_cancellation_of_the_plugins_own_is_its_error(self, invoker: Invoker) -> None:
        with pytest.raises(PluginCallError, match="cancelled its own call"):
            await invoker.invoke(entry(delete=raising(asyncio.CancelledError(), True)), "delete", JOB)

    async def test_a_timeout_of_the_plugins_own_is_not_the_callers_deadline(self, invoker: Invoker) -> None:
        with pytest.raises(PluginCallError) as caught:
            await invoker.invoke(entry(delete=raising(TimeoutError("its own"), True)), "delete", JOB)
        assert isinstance(caught.value.__cause__, TimeoutError)

    async def test_an_authors_error_stays_what_it_is(self, invoker: Invoker) -> None:
        error = BackendUnavailableError("the warehouse is away", error_code="AWAY")
        error.__cause__ = cause = ConnectionError("refused")
        with pytest.raises(BackendUnavailableError) as caught:
            await invoker.invoke(entry(delete=raising(error, True)), "delete", JOB)
        assert type(caught.value) is BackendUnavailableError
        assert caught.value.__cause__ is cause
        assert (caught.value.plugin, caught.value.operation, caught.value.error_code) == ("warehouse", "delete", "AWAY")

    async def test_one_error_object_of_two_connectors_names_each_culprit(self, invoker: Invoker) -> None:
        shared = BackendUnavailableError("the warehouse is away")
        calls = [
            invoker.invoke(entry(plugin, name=plugin, delete=raising(shared, True)), "delete", JOB)
            for plugin in ("warehouse", "lake")
        ]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [getattr(error, "plugin", None) for error in errors] == ["warehouse", "lake"]
        assert (shared.plugin, shared.operation, shared.__traceback__) == (None, None, None)

    async def test_an_error_that_cannot_be_printed_is_an_error_like_others(self, invoker: Invoker) -> None:
        class SilentError(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no")

        with pytest.raises(PluginCallError, match="SilentError"):
            await invoker.invoke(entry(delete=raising(SilentError(), True)), "delete", JOB)

    async def test_an_error_while_arguments_are_worked_out_names_the_plugin(self, invoker: Invoker) -> None:
        def work_out() -> JobMeta:
            raise InvalidInputError("no job")

        with pytest.raises(InvalidInputError) as caught:
            await invoker.invoke(entry(), "delete", Late(work_out))
        assert caught.value.plugin == "warehouse"

    async def test_an_operation_that_is_not_there_is_unsupported(self, invoker: Invoker) -> None:
        with pytest.raises(UnsupportedOperationError):
            await invoker.invoke(entry(), "get_metrics", JOB)


def raising(error: BaseException, is_async: bool) -> Callable[[], Any]:
    """Return a method that raises."""

    async def fail() -> None:
        raise error

    def fail_blocking() -> None:
        raise error

    return fail if is_async else fail_blocking


class TestDeadlines:
    async def test_a_call_ends_at_the_callers_deadline_and_its_code_is_cancelled(self, invoker: Invoker) -> None:
        never = Never()
        with pytest.raises(DeadlineExceededError) as caught:
            await invoker.invoke(entry(delete=never.wait), "delete", JOB, timeout=0.01)
        assert (caught.value.plugin, caught.value.operation) == ("warehouse", "delete")
        assert isinstance(caught.value, TransientError)
        await eventually(lambda: never.cancelled.is_set() or not never.begun.is_set())

    async def test_a_call_without_a_deadline_ends_at_the_operations_limit(self, make_invoker: MakeInvoker) -> None:
        never = Never()
        with pytest.raises(DeadlineExceededError):
            await make_invoker(deadlines={"delete": 0.01}).invoke(entry(delete=never.wait), "delete", JOB)

    async def test_the_shorter_of_both_counts(self, make_invoker: MakeInvoker) -> None:
        never = Never()
        connector = entry(delete=never.wait)
        with pytest.raises(DeadlineExceededError):
            await make_invoker(deadlines={"delete": 0.01}).invoke(connector, "delete", JOB, timeout=3600)
        with pytest.raises(DeadlineExceededError):
            await make_invoker(deadlines={"delete": 3600}).invoke(connector, "delete", JOB, timeout=0.01)

    async def test_the_deadline_holds_for_a_whole_stream(self, make_invoker: MakeInvoker) -> None:
        never, closed = Never(), threading.Event()

        async def get_logs() -> AsyncIterator[str]:
            try:
                yield "first"
                await never.wait()
            finally:
                closed.set()

        stream = make_invoker(deadlines={"get_logs": 0.5}).stream(entry(get_logs=get_logs), "get_logs", JOB)
        assert await anext(stream) == [LogPage(("first",))]
        with pytest.raises(DeadlineExceededError):
            await anext(stream)
        await happens(closed)


class TestAbandonedCalls:
    async def test_async_code_that_heeds_its_cancellation_is_soon_gone(self, invoker: Invoker) -> None:
        never = Never()
        call = asyncio.create_task(invoker.invoke(entry(delete=never.wait), "delete", JOB))
        await happens(never.begun)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        await happens(never.cancelled)
        await eventually(lambda: invoker.abandoned == 0)

    async def test_async_code_that_ignores_its_cancellation_is_counted_until_it_ends(self, invoker: Invoker) -> None:
        never, gate = Never(), Gate()

        async def stubborn() -> None:
            try:
                await never.wait()
            except asyncio.CancelledError:
                await asyncio.to_thread(gate.block)

        call = asyncio.create_task(invoker.invoke(entry(delete=stubborn), "delete", JOB))
        await happens(never.begun)
        call.cancel()
        await asyncio.wait([call])
        await gate.reached()
        assert invoker.abandoned == 1
        gate.open()
        await eventually(lambda: invoker.abandoned == 0)

    async def test_blocking_code_runs_on_and_is_counted_until_it_ends(self, make_invoker: MakeInvoker) -> None:
        invoker, gate = make_invoker(workers=2), Gate()
        connector = entry(delete=gate.block)
        calls = [asyncio.create_task(invoker.invoke(connector, "delete", JOB)) for _ in range(2)]
        await gate.reached(2)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        assert invoker.abandoned == 2
        gate.open()
        await eventually(lambda: invoker.abandoned == 0)

    async def test_what_still_waits_for_a_thread_is_withdrawn_and_never_counted(
        self, make_invoker: MakeInvoker
    ) -> None:
        invoker, gate, seen = make_invoker(workers=1), Gate(), list[str]()
        connector = entry(delete=gate.block, get=lambda: seen.append("begun"))
        first = asyncio.create_task(invoker.invoke(connector, "delete", JOB))
        await gate.reached()
        with pytest.raises(DeadlineExceededError):
            await invoker.invoke(connector, "get", JOB, timeout=NO_TIME)
        assert invoker.abandoned == 0
        gate.open()
        await first
        assert seen == []

    async def test_the_gauge_names_plugin_and_connector(self, new_loop: NewLoop) -> None:
        metrics, gate = Metrics(), Gate()
        invoker = local_invoker(metrics, new_loop=new_loop)
        call = asyncio.create_task(invoker.invoke(entry(delete=gate.block), "delete", JOB))
        await gate.reached()
        call.cancel()
        await asyncio.wait([call])
        labels = {"plugin": "warehouse", "connector": "job connector"}
        assert metrics.registry.get_sample_value("flyte_connector_abandoned_calls", labels) == 1
        gate.open()
        await eventually(lambda: metrics.registry.get_sample_value("flyte_connector_abandoned_calls", labels) == 0)
        await invoker.close(PATIENCE)


class TestStreams:
    async def test_pieces_come_one_by_one_as_they_are_asked_for(self, invoker: Invoker) -> None:
        made = list[int]()

        async def get_logs() -> AsyncIterator[str]:
            for number in range(3):
                made.append(number)
                yield str(number)

        stream = invoker.stream(entry(get_logs=get_logs), "get_logs", JOB)
        assert await anext(stream) == [LogPage(("0",))]
        assert made == [0], "a slow reader slows the plugin down"
        assert [pages async for pages in stream] == [[LogPage(("1",))], [LogPage(("2",))]]

    async def test_a_plain_generator_is_as_good(self, invoker: Invoker) -> None:
        def get_logs(lines: int) -> Iterator[str]:
            yield from map(str, range(lines))

        stream = invoker.stream(entry(get_logs=get_logs), "get_logs", JobOffer(b"", details={"lines": 3}))
        assert [pages[0].lines[0] async for pages in stream] == ["0", "1", "2"]

    @pytest.mark.parametrize("answer", [["a", "b"], LogPage(("a", "b"))], ids=["list", "page"])
    async def test_one_answer_is_a_stream_of_one(self, invoker: Invoker, answer: Any) -> None:
        stream = invoker.stream(entry(get_logs=lambda: answer), "get_logs", JOB)
        assert [pages async for pages in stream] == [[LogPage(("a", "b"))]]

    async def test_a_stream_that_is_not_there_is_unsupported(self, invoker: Invoker) -> None:
        with pytest.raises(UnsupportedOperationError):
            await anext(invoker.stream(entry(), "get_logs", JOB))

    async def test_an_error_halfway_comes_after_what_was_before_it(self, invoker: Invoker) -> None:
        def get_logs() -> Iterator[str]:
            yield "first"
            raise ValueError("halfway")

        stream = invoker.stream(entry(get_logs=get_logs), "get_logs", JOB)
        assert await anext(stream) == [LogPage(("first",))]
        with pytest.raises(PluginCallError, match="halfway"):
            await anext(stream)

    async def test_a_piece_that_is_no_log_line_closes_the_generator(self, invoker: Invoker) -> None:
        closed = threading.Event()

        async def get_logs() -> AsyncIterator[Any]:
            try:
                yield 5
            finally:
                closed.set()

        with pytest.raises(PluginCallError, match="get_logs"):
            await anext(invoker.stream(entry(get_logs=get_logs), "get_logs", JOB))
        await happens(closed)

    async def test_a_reader_that_leaves_between_pieces_closes_an_async_generator(self, invoker: Invoker) -> None:
        closed = threading.Event()

        async def get_logs() -> AsyncIterator[str]:
            try:
                yield "first"
                yield "second"
            finally:
                closed.set()

        stream: Any = invoker.stream(entry(get_logs=get_logs), "get_logs", JOB)
        await anext(stream)
        await stream.aclose()
        await happens(closed)

    async def test_a_reader_that_leaves_between_pieces_closes_a_plain_generator(self, invoker: Invoker) -> None:
        closed = threading.Event()
        stream: Any = invoker.stream(entry(get_logs=self.blocking(Gate(), closed)), "get_logs", JOB)
        await anext(stream)
        await stream.aclose()
        await happens(closed)

    async def test_a_reader_that_leaves_while_an_async_generator_waits_closes_it(self, invoker: Invoker) -> None:
        never, closed = Never(), threading.Event()

        async def get_logs() -> AsyncIterator[str]:
            try:
                await never.wait()
                yield "never"
            finally:
                closed.set()

        stream = invoker.stream(entry(get_logs=get_logs), "get_logs", JOB)
        reading = asyncio.ensure_future(anext(stream))
        await happens(never.begun)
        reading.cancel()
        await asyncio.wait([reading])
        await happens(closed)
        await eventually(lambda: invoker.abandoned == 0)

    @pytest.mark.parametrize("workers", [1, 2])
    async def test_a_reader_that_leaves_while_a_plain_generator_blocks_closes_it_at_the_end_of_its_step(
        self, make_invoker: MakeInvoker, workers: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        invoker, gate, closed = make_invoker(workers=workers, queue=0), Gate(), threading.Event()
        stream = invoker.stream(entry(get_logs=self.blocking(gate, closed)), "get_logs", JOB)
        await anext(stream)
        reading = asyncio.ensure_future(anext(stream))
        await gate.reached()
        reading.cancel()
        await asyncio.wait([reading])
        assert invoker.abandoned == 1
        assert not closed.is_set()
        gate.open()
        await happens(closed)
        await eventually(lambda: invoker.abandoned == 0)
        assert not caplog.records

    def blocking(self, gate: Gate, closed: threading.Event) -> Callable[[], Iterator[str]]:
        def get_logs() -> Iterator[str]:
            try:
                yield "first"
                gate.block()
                yield "second"
            finally:
                closed.set()

        return get_logs

    async def test_a_stream_that_has_ended_takes_no_place_in_a_full_pool(self, make_invoker: MakeInvoker) -> None:
        invoker = make_invoker(workers=1, queue=0)
        connector = entry(get_logs=yields_a_line)
        for _ in range(100):
            assert [pages async for pages in invoker.stream(connector, "get_logs", JOB)] == [[LogPage(("line",))]]

    async def test_a_generator_that_fails_to_close_is_logged_with_its_connector(
        self, invoker: Invoker, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def get_logs() -> AsyncIterator[str]:
            try:
                yield "first"
            finally:
                raise RuntimeError("the file was gone")

        stream: Any = invoker.stream(entry(get_logs=get_logs), "get_logs", JOB)
        await anext(stream)
        await stream.aclose()
        await eventually(lambda: "job connector" in caplog.text)
        assert "the file was gone" in caplog.text


def yields_a_line() -> Iterator[str]:
    yield "line"


_COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class TestContext:
    @pytest.mark.parametrize("is_async", [True, False], ids=["async", "blocking"])
    async def test_code_sees_what_was_set_when_the_invoker_was_made_and_keeps_what_it_sets_to_itself(
        self, make_invoker: MakeInvoker, is_async: bool
    ) -> None:
        seen = list[str]()

        def note() -> None:
            seen.append(_COLOUR.get())
            _COLOUR.set("plugin's")

        async def note_async() -> None:
            note()

        _COLOUR.set("host's")
        invoker = make_invoker()
        _COLOUR.set("request's")
        connector = entry(delete=note_async if is_async else note)
        for _ in range(3):
            await invoker.invoke(connector, "delete", JOB)
        assert seen == ["host's"] * 3
        assert _COLOUR.get() == "request's"

    @pytest.mark.parametrize("is_async", [True, False], ids=["async", "blocking"])
    @pytest.mark.parametrize("leaves", [True, False], ids=["left halfway", "read to the end"])
    async def test_a_stream_has_one_context_from_its_first_step_to_its_clean_up(
        self, invoker: Invoker, is_async: bool, leaves: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What a `with` block sets in one step, it can put back in another: traces and transactions do that."""
        put_back = threading.Event()

        def get_logs() -> Iterator[str]:
            token = _COLOUR.set("traced")
            try:
                yield _COLOUR.get()
                yield _COLOUR.get()
            finally:
                _COLOUR.reset(token)
                put_back.set()

        async def get_logs_async() -> AsyncIterator[str]:
            token = _COLOUR.set("traced")
            try:
                yield _COLOUR.get()
                yield _COLOUR.get()
            finally:
                _COLOUR.reset(token)
                put_back.set()

        connector = entry(get_logs=get_logs_async if is_async else get_logs)
        stream: Any = invoker.stream(connector, "get_logs", JOB)
        assert await anext(stream) == [LogPage(("traced",))]
        assert await anext(stream) == [LogPage(("traced",))]
        if leaves:
            await stream.aclose()
        else:
            assert [pages async for pages in stream] == []
        await happens(put_back)
        assert not caplog.records

    @pytest.mark.parametrize("is_async", [True, False], ids=["async", "blocking"])
    async def test_secrets_are_looked_for_where_the_settings_say(
        self, make_invoker: MakeInvoker, tmp_path: Path, is_async: bool
    ) -> None:
        (tmp_path / "token").write_text("s3cret")
        found = list[str]()

        def use() -> None:
            found.append(get_secret("token").get_secret_value())

        async def use_async() -> None:
            await asyncio.to_thread(use)

        invoker = make_invoker(secrets=SecretSource("_NOT_SET_", tmp_path))
        await invoker.invoke(entry(delete=use_async if is_async else use), "delete", JOB)
        assert found == ["s3cret"]


class TestHolding:
    async def test_calls_of_a_held_connector_are_refused_with_the_reason_until_it_is_released(
        self, invoker: Invoker
    ) -> None:
        connector = entry(start=lambda: None, get_logs=yields_a_line)
        invoker.hold(connector, "no route to the warehouse")
        with pytest.raises(ConnectorNotStartedError, match="no route to the warehouse") as caught:
            await invoker.invoke(connector, "delete", JOB)
        assert caught.value.plugin == "warehouse"
        with pytest.raises(ConnectorNotStartedError):
            await anext(invoker.stream(connector, "get_logs", JOB))
        await invoker.invoke(connector, "start", NOTHING)
        invoker.release(connector)
        await invoker.invoke(connector, "delete", JOB)

    async def test_other_connectors_of_the_plugin_are_not_held(self, invoker: Invoker) -> None:
        invoker.hold(entry(name="other"), "away")
        await invoker.invoke(entry(), "delete", JOB)


class TestClosing:
    async def test_all_loops_and_idle_threads_end(self, new_loop: NewLoop) -> None:
        invoker = local_invoker(new_loop=new_loop)
        places = [await place(invoker, entry("lake", delete=where)), await place(invoker, entry(delete=where_blocking))]
        await invoker.close(PATIENCE)
        for here in places:
            await asyncio.to_thread(here.thread.join, PATIENCE)
            assert not here.thread.is_alive()

    async def test_a_blocked_loop_is_named_and_left_behind(
        self, new_loop: NewLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        invoker, gate = local_invoker(new_loop=new_loop), Gate()

        async def block() -> None:
            gate.block()

        call = asyncio.create_task(invoker.invoke(entry(delete=block), "delete", JOB))
        await gate.reached()
        await invoker.close(NO_TIME)
        assert "event loop of plugin warehouse is blocked" in caplog.text
        gate.open()
        await call

    async def test_it_may_be_asked_twice(self, new_loop: NewLoop) -> None:
        invoker = local_invoker(new_loop=new_loop)
        await place(invoker, entry(delete=where))
        for _ in range(2):
            await invoker.close(PATIENCE)
