"""What happened to each call is on /metrics, under names and labels that dashboards know."""

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2

from connector_core.testing import RunningServer, running_server
from tests.fakes import Answers, JobMeta, Jobs, Never, eventually, happens
from tests.support.rpc import ASYNC, collected, refusal

META = JobMeta("7").encode()


def count(host: RunningServer, outcome: str, operation: str, task_type: str = "job", **labels: str) -> float:
    """Return how many requests of an operation ended so."""
    name = f"flyte_connector_requests_{outcome}_total"
    return host.metric(name, task_type=task_type, operation=operation, **labels)


def series(text: str) -> dict[str, list[str]]:
    """Return the label names of every sample on a metrics page, by the sample's name."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"(flyte_connector_\w+)(?:\{(.*)\})? ", line):
            found[match[1]] = sorted(re.findall(r'(\w+)="', match[2] or ""))
    return found


async def test_the_page_has_the_names_and_labels_that_dashboards_use() -> None:
    async with running_server(Jobs(), Answers()) as host:
        await host.create("job", {"id": "1"})
        await host.execute("answer", {"a": 1})
        await refusal(host.get("job", b"garbage"))
        found = series(await asyncio.to_thread(host.metrics_text))
    on_task = ["operation", "task_type"]
    assert found["flyte_connector_requests_success_total"] == on_task
    assert found["flyte_connector_requests_failure_total"] == ["error_code", *on_task]
    assert found["flyte_connector_requests_in_flight"] == on_task
    for name in ("flyte_connector_request_latency_seconds_sum", "flyte_connector_request_latency_seconds_count"):
        assert found[name] == on_task
    for name in ("flyte_connector_input_literal_bytes_sum", "flyte_connector_input_literal_bytes_count"):
        assert found[name] == ["task_type"]
    assert found["flyte_connector_connector_started"] == ["connector", "plugin"]
    assert found["flyte_connector_build_info"] == ["version"]


async def test_plugins_are_shown_with_their_state_and_load_time() -> None:
    async with running_server(plugins=["tests.no_such_module", "connector_plugin_sleep.plugin"]) as host:
        text = await asyncio.to_thread(host.metrics_text)
    for name, state in {"tests.no_such_module": "failed", "connector_plugin_sleep.plugin": "loaded"}.items():
        assert f'flyte_connector_plugin_state{{distribution="",plugin="{name}",state="{state}"}} 1.0' in text
        assert f'flyte_connector_plugin_load_seconds{{plugin="{name}"}}' in text


class TestSuccesses:
    async def test_every_rpc_counts_under_its_own_operation(self) -> None:
        connector = Jobs(get_metrics=lambda resource_meta: [], get_logs=lambda: ["line"])
        async with running_server(connector, Answers()) as host:
            await host.create("job")
            await host.get("job", META)
            await host.delete("job", META)
            await host.get_metrics("job", META)
            await collected(host.get_logs("job", META))
            await host.list_connectors()
            await host.metadata_stub.GetAgent(agent_pb2.GetAgentRequest(name="job connector"))
            await host.execute("answer")
            for operation in ("create", "get", "delete", "get_metrics", "get_logs"):
                assert count(host, "success", operation) == 1, operation
            for operation in ("list_agents", "get_agent"):
                assert count(host, "success", operation, task_type="") == 1
            await eventually(lambda: count(host, "success", "do", "answer") == 1)

    async def test_latency_is_counted_and_nothing_stays_in_flight(self) -> None:
        async with running_server(Jobs()) as host:
            for _ in range(3):
                await host.get("job", META)
            labels = {"task_type": "job", "operation": "get"}
            assert host.metric("flyte_connector_request_latency_seconds_count", **labels) == 3
            assert host.metric("flyte_connector_request_latency_seconds_sum", **labels) > 0
            assert host.metric("flyte_connector_requests_in_flight", **labels) == 0
            assert host.metric("flyte_connector_requests_in_flight", task_type="unknown", operation="get") == 0

    async def test_calls_under_way_are_in_flight(self) -> None:
        never = Never()
        async with running_server(Jobs(delete=never.wait)) as host:
            call = asyncio.create_task(host.delete("job", META))
            await happens(never.begun)
            labels = {"task_type": "job", "operation": "delete"}
            assert host.metric("flyte_connector_requests_in_flight", **labels) == 1
            call.cancel()
            await eventually(lambda: host.metric("flyte_connector_requests_in_flight", **labels) == 0)

    async def test_the_size_of_inputs_is_counted(self) -> None:
        async with running_server(Jobs(), Answers()) as host:
            await host.create("job", {"id": "x" * 5000})
            await host.execute("answer", {"a": "x" * 3000})
            assert 5000 < host.metric("flyte_connector_input_literal_bytes_sum", task_type="job") < 5100
            assert 3000 < host.metric("flyte_connector_input_literal_bytes_sum", task_type="answer") < 3100


class TestFailures:
    async def test_the_label_is_the_name_of_the_status_code(self) -> None:
        def fail() -> None:
            raise PermissionError("no")

        async with running_server(Jobs(delete=fail)) as host:
            error = await refusal(host.delete("job", META))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert count(host, "failure", "delete", error_code="PERMISSION_DENIED") == 1
            assert count(host, "success", "delete") == 0

    async def test_garbage_counts_as_unknown(self) -> None:
        async with running_server(Jobs()) as host:
            channel: Any = host.channel
            await refusal(channel.unary_unary(f"/{ASYNC}/CreateTask")(b"\xff"))
            assert count(host, "failure", "create", "unknown", error_code="INVALID_ARGUMENT") == 1

    async def test_5000_made_up_task_types_leave_no_new_series(self) -> None:
        async with running_server(Jobs()) as host:
            await refusal(host.get("made-up", META))
            before = await asyncio.to_thread(host.metrics_text)
            request = agent_pb2.GetTaskRequest(resource_meta=META)
            for start in range(0, 5000, 1000):
                calls = []
                for number in range(start, start + 1000):
                    request.task_category.name = f"made-up-{number}"
                    calls.append(host.async_stub.GetTask(request))
                codes = await asyncio.gather(*(call.code() for call in calls))
                assert set(codes) == {grpc.StatusCode.NOT_FOUND}
            after = await asyncio.to_thread(host.metrics_text)
            assert count(host, "failure", "get", "unknown", error_code="NOT_FOUND") == 5001
        assert "made-up" not in after
        assert len(after.splitlines()) == len(before.splitlines())

    async def test_an_unknown_version_of_a_known_type_counts_as_unknown(self) -> None:
        async with running_server(Jobs()) as host:
            await refusal(host.get("job@7", META))
            assert count(host, "failure", "get", "unknown", error_code="NOT_FOUND") == 1


async def lines_for_ever(never: Never) -> AsyncIterator[str]:
    yield "first"
    await never.wait()


class TestCallsThatAreCut:
    @pytest.mark.parametrize("operation", ["delete", "get_metrics", "get_logs", "do"])
    async def test_by_the_client_they_count_as_cancelled(self, operation: str) -> None:
        never = Never()
        async with running_server(*self.connectors(never)) as host:
            call = self.call(host, operation, None)
            await happens(never.begun)
            call.cancel()
            await eventually(lambda: self.failures(host, operation, "CANCELLED") == 1)
            assert self.all_failures(host, operation) == 1
            await eventually(lambda: host.server.invoker.abandoned == 0)

    @pytest.mark.parametrize("operation", ["delete", "get_metrics", "get_logs", "do"])
    async def test_by_its_deadline_they_count_as_that(self, operation: str) -> None:
        """The client's clock strikes first as often as ours: what it then sends looks like any other cancellation."""
        never = Never()
        async with running_server(*self.connectors(never)) as host:
            calls = [self.call(host, operation, 0.3) for _ in range(30)]
            await happens(never.begun)
            codes = await asyncio.gather(*(call.code() for call in calls))
            assert set(codes) == {grpc.StatusCode.DEADLINE_EXCEEDED}
            # On a busy machine a deadline may pass before its call has left the client: those are never seen here.
            await eventually(lambda: self.all_failures(host, operation) > 0 and not self.in_flight(host, operation))
            assert self.failures(host, operation, "DEADLINE_EXCEEDED") == self.all_failures(host, operation)

    def connectors(self, never: Never) -> list[Jobs | Answers]:
        waiting = dict.fromkeys(("delete", "get_metrics"), never.wait)
        return [Jobs("job", **waiting, get_logs=partial(lines_for_ever, never)), Answers(do=never.wait)]

    def call(self, host: RunningServer, operation: str, timeout: float | None) -> Any:
        about: dict[str, Any] = {"task_category": agent_pb2.TaskCategory(name="job"), "resource_meta": META}
        if operation == "delete":
            return host.async_stub.DeleteTask(agent_pb2.DeleteTaskRequest(**about), timeout=timeout)
        if operation == "get_metrics":
            return host.async_stub.GetTaskMetrics(agent_pb2.GetTaskMetricsRequest(**about), timeout=timeout)
        if operation == "get_logs":
            return host.async_stub.GetTaskLogs(agent_pb2.GetTaskLogsRequest(**about), timeout=timeout)
        header = agent_pb2.ExecuteTaskSyncRequest()
        header.header.template.type = "answer"
        return host.sync_stub.ExecuteTaskSync(iter([header]), timeout=timeout)

    def in_flight(self, host: RunningServer, operation: str) -> float:
        task_type = "answer" if operation == "do" else "job"
        return host.metric("flyte_connector_requests_in_flight", task_type=task_type, operation=operation)

    def failures(self, host: RunningServer, operation: str, code: str) -> float:
        task_type = "answer" if operation == "do" else "job"
        return count(host, "failure", operation, task_type, error_code=code)

    def all_failures(self, host: RunningServer, operation: str) -> float:
        return sum(self.failures(host, operation, code.name) for code in grpc.StatusCode)
