"""GetTaskLogs and GetTaskMetrics over the wire: streams of lines, and numbers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from google.protobuf.struct_pb2 import Struct

from connector_core import LogPage
from connector_core.testing import RunningServer
from tests.fakes import PATIENCE, Answers, Gate, JobMeta, Jobs, Never, eventually, happens
from tests.support.generations import running_server
from tests.support.rpc import collected, details_of, refusal

pytestmark = pytest.mark.usefixtures("spoken")

META = JobMeta("7").encode()


async def lines_of(host: RunningServer) -> list[str]:
    """Read all lines of a job."""
    return [line for message in await collected(host.get_logs("job", META)) for line in message.body.results]


async def numbers() -> AsyncIterator[str]:
    for number in range(3):
        yield f"line {number}"


def plain_numbers() -> Iterator[str]:
    for number in range(3):
        yield f"line {number}"


async def list_of_numbers() -> list[str]:
    return ["line 0", "line 1", "line 2"]


def page_of_numbers() -> LogPage:
    return LogPage(["line 0", "line 1", "line 2"])


async def pages_of_numbers() -> AsyncIterator[LogPage | list[str]]:
    yield LogPage(["line 0"])
    yield ["line 1", "line 2"]


class TestLogs:
    @pytest.mark.parametrize(
        "get_logs", [numbers, plain_numbers, list_of_numbers, page_of_numbers, pages_of_numbers],
        ids=["async generator", "generator", "list", "page", "pages"],
    )  # fmt: skip
    async def test_every_form_of_answer_is_streamed(self, get_logs: Any) -> None:
        async with running_server(Jobs(get_logs=get_logs)) as host:
            assert await lines_of(host) == ["line 0", "line 1", "line 2"]

    async def test_the_method_is_offered_the_job_and_what_was_asked_for(self) -> None:
        seen: dict[str, Any] = {}

        def get_logs(**offered: Any) -> list[str]:
            seen.update(offered)
            return []

        async with running_server(Jobs(get_logs=get_logs)) as host:
            assert await collected(host.get_logs("job", META, lines=50, token="p2")) == []
        assert seen == {"resource_meta": JobMeta("7"), "lines": 50, "token": "p2"}

    async def test_a_pages_token_comes_before_its_lines(self) -> None:
        async with running_server(Jobs(get_logs=lambda: LogPage(["a"], token="p2"))) as host:
            header, body = await collected(host.get_logs("job", META))
        assert header.header.token == "p2"
        assert list(body.body.results) == ["a"]

    async def test_a_token_without_lines_comes_alone(self) -> None:
        async with running_server(Jobs(get_logs=lambda: LogPage(token="p2"))) as host:
            (message,) = await collected(host.get_logs("job", META))
        assert message.header.token == "p2"

    async def test_structured_lines_stay_structured(self, spoken: str) -> None:
        """A client of the second generation that finds structured lines does not look at plain ones, so all become such."""
        line = agent_pb2.LogLine(message="started", originator=agent_pb2.USER)
        async with running_server(Jobs(get_logs=lambda: ["plain", line])) as host:
            (message,) = await collected(host.get_logs("job", META))
        is_first = spoken == "v1"
        assert list(message.body.results) == (["plain"] if is_first else [])
        plain = agent_pb2.LogLine(message="plain")
        assert list(message.body.structured_lines) == ([line] if is_first else [plain, line])

    async def test_lines_come_while_the_job_still_writes(self) -> None:
        never = Never()

        async def get_logs() -> AsyncIterator[str]:
            yield "first"
            await never.wait()

        async with running_server(Jobs(get_logs=get_logs)) as host:
            stream = host.get_logs("job", META)
            message = await asyncio.wait_for(anext(stream), PATIENCE)
            await happens(never.begun)
        assert list(message.body.results) == ["first"]

    async def test_an_error_halfway_comes_after_the_lines_before_it(self) -> None:
        async def get_logs() -> AsyncIterator[str]:
            yield "first"
            raise ConnectionError("the node is gone")

        async with running_server(Jobs(get_logs=get_logs)) as host:
            stream = host.get_logs("job", META)
            assert list((await anext(stream)).body.results) == ["first"]
            error = await refusal(anext(stream))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "get_logs(): ConnectionError: the node is gone" in details_of(error)

    @pytest.mark.parametrize(
        "line", ["é" * 100_000, "€" * 100_000, "x" * 3_000_000, "😀" * 65_530], ids=["é", "€", "long", "😀"]
    )
    async def test_every_message_fits_into_what_any_client_receives(self, line: str) -> None:
        async with running_server(Jobs(get_logs=lambda: [line] * 30)) as host:
            messages = await collected(host.get_logs("job", META))
        assert max(message.ByteSize() for message in messages) < 4 * 1024 * 1024
        lines = [one for message in messages for one in message.body.results]
        assert len(lines) == 30
        assert all(one[:1000] == line[:1000] for one in lines)

    async def test_very_many_empty_lines_do_not_make_one_message(self) -> None:
        async with running_server(Jobs(get_logs=lambda: [""] * 1_000_000)) as host:
            messages = await collected(host.get_logs("job", META))
        assert len(messages) > 1
        assert sum(len(message.body.results) for message in messages) == 1_000_000

    async def test_a_structured_line_is_cut_as_well(self) -> None:
        line = agent_pb2.LogLine(message="x" * 5_000_000, originator=agent_pb2.USER)
        async with running_server(Jobs(get_logs=lambda: [line])) as host:
            (message,) = await collected(host.get_logs("job", META))
        assert message.ByteSize() < 4 * 1024 * 1024
        assert message.body.structured_lines[0].originator == agent_pb2.USER

    async def test_bytes_that_are_no_text_cost_a_letter_and_not_the_stream(self) -> None:
        """Files that are read with `surrogateescape` give such lines."""
        async with running_server(Jobs(get_logs=lambda: ["caf\udce9", "next"])) as host:
            assert await lines_of(host) == ["caf?", "next"]


class TestLogsThatAreCut:
    async def test_a_client_that_leaves_while_a_line_is_awaited_closes_an_async_generator(self) -> None:
        never, closed = Never(), threading.Event()

        async def get_logs() -> AsyncIterator[str]:
            try:
                yield "first"
                await never.wait()
            finally:
                closed.set()

        async with running_server(Jobs(get_logs=get_logs)) as host:
            await self.read_one_and_leave(host, never.begun)
            await happens(closed)
            await eventually(lambda: host.server.invoker.abandoned == 0)

    async def test_a_client_that_leaves_while_a_step_blocks_closes_a_plain_generator_at_its_end(self) -> None:
        gate, closed, blocked = Gate(), threading.Event(), threading.Event()

        def get_logs() -> Iterator[str]:
            try:
                yield "first"
                blocked.set()
                gate.block()
                yield "second"
            finally:
                closed.set()

        async with running_server(Jobs(get_logs=get_logs)) as host:
            await self.read_one_and_leave(host, blocked)
            await eventually(lambda: host.server.invoker.abandoned == 1)
            gate.open()
            await happens(closed)

    async def read_one_and_leave(self, host: RunningServer, reached: threading.Event) -> None:
        request = agent_pb2.GetTaskLogsRequest(task_category=agent_pb2.TaskCategory(name="job"), resource_meta=META)
        call = host.async_stub.GetTaskLogs(request)
        await call.read()
        await happens(reached)
        call.cancel()

    @pytest.mark.parametrize("is_async", [True, False], ids=["async generator", "generator"])
    async def test_a_client_that_stops_reading_and_leaves_closes_the_generator(self, is_async: bool) -> None:
        """Far more than the buffers on the way hold, so that the host waits to write."""
        line, closed, made = "x" * 100_000, threading.Event(), list[int]()

        def get_logs() -> Iterator[str]:
            try:
                for number in range(10_000):
                    made.append(number)
                    yield line
            finally:
                closed.set()

        async def get_logs_async() -> AsyncIterator[str]:
            try:
                for number in range(10_000):
                    made.append(number)
                    yield line
            finally:
                closed.set()

        async with running_server(Jobs(get_logs=get_logs_async if is_async else get_logs)) as host:
            request = agent_pb2.GetTaskLogsRequest(task_category=agent_pb2.TaskCategory(name="job"), resource_meta=META)
            call = host.async_stub.GetTaskLogs(request)
            await call.read()
            await self.stands_still(made)
            call.cancel()
            await happens(closed)
        assert len(made) < 10_000, "a slow reader slows the plugin down"

    async def stands_still(self, made: list[int]) -> None:
        """Wait until nothing has been made for a while, which only a clock can tell."""
        before = -1
        while before != len(made):
            before = len(made)
            await asyncio.sleep(0.05)

    async def test_the_deadline_of_a_stream_is_the_settings_where_the_client_has_none(self) -> None:
        never = Never()

        async def get_logs() -> AsyncIterator[str]:
            await never.wait()
            yield "never"

        async with running_server(Jobs(get_logs=get_logs), settings={"deadlines": {"get_logs": 0.05}}) as host:
            error = await refusal(collected(host.get_logs("job", META)))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "get_logs()" in details_of(error)


class TestMetrics:
    async def test_results_arrive_as_they_are(self) -> None:
        data = Struct()
        data.update({"values": [1, 2]})
        result = ExecutionMetricResult(metric="CPU", data=data)

        async with running_server(Jobs(get_metrics=lambda: [result])) as host:
            assert list((await host.get_metrics("job", META)).results) == [result]

    async def test_the_method_is_offered_what_was_asked_for(self) -> None:
        seen: dict[str, Any] = {}

        def get_metrics(**offered: Any) -> list[ExecutionMetricResult]:
            seen.update(offered)
            return []

        request = agent_pb2.GetTaskMetricsRequest(
            task_category=agent_pb2.TaskCategory(name="job"), resource_meta=META, queries=["CPU", "MEMORY"]
        )
        request.start_time.FromDatetime(datetime(2024, 2, 29, 12, tzinfo=UTC))
        request.end_time.FromDatetime(datetime(2024, 2, 29, 13, tzinfo=UTC))
        request.step.FromTimedelta(timedelta(seconds=30))
        async with running_server(Jobs(get_metrics=get_metrics)) as host:
            await host.async_stub.GetTaskMetrics(request)
        assert seen == {
            "resource_meta": JobMeta("7"),
            "queries": ["CPU", "MEMORY"],
            "start_time": datetime(2024, 2, 29, 12, tzinfo=UTC),
            "end_time": datetime(2024, 2, 29, 13, tzinfo=UTC),
            "step": timedelta(seconds=30),
        }

    async def test_times_that_are_left_out_are_none(self) -> None:
        seen: dict[str, Any] = {}

        def get_metrics(start_time: object, end_time: object, step: object) -> None:
            seen.update(start_time=start_time, end_time=end_time, step=step)

        async with running_server(Jobs(get_metrics=get_metrics)) as host:
            assert list((await host.get_metrics("job", META)).results) == []
        assert seen == {"start_time": None, "end_time": None, "step": None}

    @pytest.mark.parametrize("field", ["start_time", "end_time", "step"])
    async def test_a_time_that_is_none_is_an_invalid_argument(self, field: str) -> None:
        request = agent_pb2.GetTaskMetricsRequest(task_category=agent_pb2.TaskCategory(name="job"), resource_meta=META)
        getattr(request, field).seconds = 2**62
        async with running_server(Jobs(get_metrics=lambda resource_meta: [])) as host:
            error = await refusal(host.async_stub.GetTaskMetrics(request))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("operation", ["get_logs", "get_metrics"])
    @pytest.mark.parametrize("connector", [Jobs(), Answers("job")], ids=["async", "sync"])
    async def test_a_connector_without_them_is_unimplemented(self, operation: str, connector: Jobs | Answers) -> None:
        async with running_server(connector) as host:
            call = collected(host.get_logs("job", META)) if operation == "get_logs" else host.get_metrics("job", META)
            error = await refusal(call)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert f"connector 'job connector' of plugin 'test-job connector' has no {operation}()" in details_of(error)
