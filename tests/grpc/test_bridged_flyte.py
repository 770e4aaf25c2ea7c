"""What today's servers fall short of (PEERS, second table), with connectors that are written for Flyte's SDK 2.

They are called as engines of the 2.x line do, which run their tasks.

Not here: sync calls of sync connectors, which the SDK does not have; a field of the wrong type in a resource meta, which
its own class takes as the SDK's server does; plugins that cannot be loaded or claim one task type, which are in
`tests/bridges`; and what no connector has a part in: the host as process 1, two on one port, reflection.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable
from functools import partial
from typing import Any, NoReturn

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from flyteidl2.connector.connector_pb2 import (
    GetTaskLogsResponse,
    GetTaskLogsResponseBody,
    GetTaskLogsResponseHeader,
    GetTaskMetricsResponse,
)
from flyteidl2.core.execution_pb2 import TaskExecution
from flyteidl2.core.metrics_pb2 import ExecutionMetricResult
from flyteidl2.logs.dataplane.payload_pb2 import LogLine

from connector_core import Phase
from connector_core.literals import to_python_map
from connector_core.testing import RunningServer
from connector_core.testing import running_server as running_server_in
from tests.fakes import PATIENCE, Gate, Never, eventually, happens
from tests.support.flyte_twins import LoggingTwin, Resource, Twin, TwinMeta, served
from tests.support.flytekit_twins import asynchronous, blocking
from tests.support.rpc import assert_hides_its_inside, details_of, refusal

running_server = partial(running_server_in, generation="v2")

META = TwinMeta("7").encode()
CALLS = 50
OF_THE_CONNECTOR = {"plugin": "test-job connector", "connector": "job connector"}
OUTPUTS: Any = {"id": "7"}

both_kinds = pytest.mark.parametrize("make", [blocking, asynchronous])


def raises(error: BaseException) -> Any:
    async def method(**_arguments: Any) -> NoReturn:
        raise error

    return method


def task(**types: SimpleType) -> TaskTemplate:
    """Return a template that says what its inputs are: the SDK reads them by that."""
    variables = {name: Variable(type=LiteralType(simple=simple)) for name, simple in types.items()}
    return TaskTemplate(type="job", interface=TypedInterface(inputs=VariableMap(variables=variables)))


def in_flight(host: RunningServer, task_type: str, operation: str) -> float:
    return host.metric("flyte_connector_requests_in_flight", task_type=task_type, operation=operation)


class TestStuckCalls:
    """Code that blocks, where it may and where it may not."""

    @both_kinds
    async def test_50_calls_that_block_hold_nobody_else_up(self, make: Any) -> None:
        """Not those of other connectors."""
        gate = Gate()
        async with running_server(*served(Twin("stuck", delete=make(gate.block)), Twin())) as host:
            calls = [asyncio.create_task(host.delete("stuck", META)) for _ in range(CALLS)]
            await gate.reached(1)
            await eventually(lambda: in_flight(host, "stuck", "delete") == CALLS)
            async with asyncio.timeout(PATIENCE):
                assert await host.health() == "SERVING"
                assert len(await host.list_connectors()) == 2
                assert Phase((await host.get("job", META)).phase) is Phase.SUCCEEDED
            assert not any(call.done() for call in calls)
            gate.open()
            await asyncio.gather(*calls)

    async def test_64_blocking_calls_run_at_once_with_64_workers(self) -> None:
        gate = Gate()
        async with running_server(*served(Twin(delete=blocking(gate.block))), settings={"workers": 64}) as host:
            calls = [asyncio.create_task(host.delete("job", META)) for _ in range(64)]
            await gate.reached(64)
            gate.open()
            await asyncio.gather(*calls)

    async def test_a_blocking_call_whose_client_has_gone_runs_on_in_its_pool_and_is_counted(self) -> None:
        gate = Gate()
        async with running_server(*served(Twin(delete=blocking(gate.block)))) as host:
            call = asyncio.create_task(host.delete("job", META))
            await gate.reached()
            call.cancel()
            await eventually(lambda: in_flight(host, "job", "delete") == 0)
            assert host.metric("flyte_connector_pool_busy_threads", **OF_THE_CONNECTOR) == 1
            gate.open()
            await eventually(lambda: host.metric("flyte_connector_pool_busy_threads", **OF_THE_CONNECTOR) == 0)

    async def test_an_async_call_whose_client_has_gone_is_cancelled(self) -> None:
        never = Never()
        async with running_server(*served(Twin(delete=asynchronous(never.wait)))) as host:
            call = asyncio.create_task(host.delete("job", META))
            await happens(never.begun)
            call.cancel()
            await happens(never.cancelled)

    @both_kinds
    async def test_calls_in_flight_are_answered_when_the_host_stops(self, make: Any) -> None:
        gate = Gate()

        async def wait() -> None:
            await asyncio.to_thread(gate.block)

        method = make(gate.block) if make is blocking else make(wait)
        async with running_server(*served(Twin(delete=method)), settings={"workers": 20}) as host:
            calls = [asyncio.create_task(host.delete("job", META)) for _ in range(20)]
            await gate.reached(20)
            stopping = asyncio.create_task(host.server.stop(grace=PATIENCE))
            await eventually(lambda: host.server.not_ready())
            gate.open()
            await asyncio.gather(*calls)
            await stopping

    async def test_calls_that_are_cut_by_their_deadline_are_counted(self) -> None:
        gate = Gate()
        async with running_server(*served(Twin(delete=blocking(gate.block)))) as host:
            error = await refusal(host.delete("job", META, timeout=0.2))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            labels = {"task_type": "job", "operation": "delete", "error_code": "DEADLINE_EXCEEDED"}
            await eventually(lambda: host.metric("flyte_connector_requests_failure_total", **labels) == 1)
            gate.open()


class TestFailures:
    """What is raised, and what is no answer."""

    @both_kinds
    async def test_sys_exit_in_a_call_ends_that_call_alone(self, make: Any) -> None:
        async with running_server(*served(Twin(delete=make(sys.exit)))) as host:
            error = await refusal(host.delete("job", META))
            assert error.code() is grpc.StatusCode.INTERNAL
            assert "sys.exit" in details_of(error)
            assert Phase((await host.get("job", META)).phase) is Phase.SUCCEEDED

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (PermissionError("not yours"), grpc.StatusCode.PERMISSION_DENIED),
            (ValueError("no such size"), grpc.StatusCode.INVALID_ARGUMENT),
            (RuntimeError("out of order"), grpc.StatusCode.INTERNAL),
            (ConnectionError("away"), grpc.StatusCode.UNAVAILABLE),
        ],
    )
    async def test_what_create_raises_has_its_code_and_hides_its_inside(
        self, error: Exception, code: grpc.StatusCode
    ) -> None:
        async with running_server(*served(Twin(create=raises(error)))) as host:
            refused = await refusal(host.create("job"))
        assert refused.code() is code
        assert str(error) in details_of(refused)
        assert_hides_its_inside(refused)

    @pytest.mark.parametrize("error", [PermissionError("not now"), ValueError("odd"), RuntimeError("not now")])
    async def test_what_get_raises_fails_no_job_that_runs(self, error: Exception) -> None:
        answers = [Resource(phase=TaskExecution.RUNNING), error, error, Resource(phase=TaskExecution.SUCCEEDED)]

        async def get(**_arguments: Any) -> Any:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        async with running_server(*served(Twin(get=get))) as host:
            assert Phase((await host.get("job", META, timeout=0.5)).phase) is Phase.RUNNING
            phases = {(await host.get("job", META, timeout=0.5)).phase for _ in range(4)}
        assert {Phase(phase) for phase in phases} <= {Phase.RUNNING, Phase.SUCCEEDED}

    @both_kinds
    @pytest.mark.parametrize("answer", [None, {"phase": 4}])
    async def test_what_is_no_resource_never_goes_out(self, answer: Any, make: Any) -> None:
        async with running_server(*served(Twin(get=make(lambda: answer)))) as host:
            error = await refusal(host.get("job", META))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "get()" in details_of(error)

    async def test_no_phase_never_goes_out_either(self) -> None:
        resource = Resource(phase=TaskExecution.UNDEFINED, message="no state yet")
        async with running_server(*served(Twin(get=asynchronous(lambda: resource)))) as host:
            answer = await host.get("job", META, timeout=0.5)
        assert Phase(answer.phase) is Phase.RUNNING
        assert "UNDEFINED: no state yet" in answer.message

    @pytest.mark.parametrize("answer", [None, {"job_id": "7"}, "7"])
    async def test_what_is_no_resource_meta_never_goes_out(self, answer: Any) -> None:
        async with running_server(*served(Twin(create=asynchronous(lambda: answer)))) as host:
            assert "not a resource meta" in details_of(await refusal(host.create("job")))

    @both_kinds
    async def test_what_the_sdk_cannot_convert_is_no_answer_and_not_ridden_out(self, make: Any) -> None:
        resource = Resource(phase=TaskExecution.SUCCEEDED, custom_info={"a": object()})
        async with running_server(*served(Twin(get=make(lambda: resource)))) as host:
            error = await refusal(host.get("job", META))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "returned a Resource that cannot be sent" in details_of(error)


class TestRequests:
    """What is asked, and how."""

    @pytest.mark.parametrize("meta", [b"", b"\xff\xfe", b"[]", b"3", b'{"cluster": "main"}', b"{}"])
    async def test_a_malformed_resource_meta_is_an_invalid_argument(self, meta: bytes) -> None:
        async with running_server(*served(Twin())) as host:
            for call in (host.get("job", meta), host.delete("job", meta)):
                error = await refusal(call)
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert "resource meta is no TwinMeta" in details_of(error)
                assert_hides_its_inside(error)

    async def test_the_field_that_is_missing_is_named(self) -> None:
        async with running_server(*served(Twin())) as host:
            assert "'job_id'" in details_of(await refusal(host.get("job", b'{"cluster": "main"}')))

    @pytest.mark.parametrize("meta", [{"job_id": "7", "added": {"later": 1}}, {"job_id": "7"}])
    async def test_older_and_newer_resource_metas_are_read(self, meta: dict[str, Any]) -> None:
        async with running_server(*served(Twin())) as host:
            resource = await host.get("job", json.dumps(meta).encode())
        assert to_python_map(resource.outputs) == OUTPUTS

    @pytest.mark.parametrize("method", ["CreateTask", "GetTask", "DeleteTask", "GetTaskMetrics"])
    async def test_bytes_that_are_no_message_are_an_invalid_argument(self, method: str) -> None:
        async with running_server(*served(Twin())) as host:
            call: Any = host.channel.unary_unary(f"/flyteidl2.connector.AsyncConnectorService/{method}")
            error = await refusal(call(b"\xff\xff\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_logs_and_metrics_that_are_not_there_are_unimplemented_and_counted(self) -> None:
        async with running_server(*served(Twin())) as host:
            calls: dict[str, Awaitable[Any]] = {
                "get_logs": anext(host.get_logs("job", META)),
                "get_metrics": host.get_metrics("job", META),
            }
            for operation, call in calls.items():
                assert (await refusal(call)).code() is grpc.StatusCode.UNIMPLEMENTED
                labels = {"task_type": "job", "operation": operation, "error_code": "UNIMPLEMENTED"}
                assert host.metric("flyte_connector_requests_failure_total", **labels) == 1

    async def test_logs_are_streamed_and_metrics_arrive(self) -> None:
        logs = [
            GetTaskLogsResponse(header=GetTaskLogsResponseHeader(token="more")),
            GetTaskLogsResponse(body=GetTaskLogsResponseBody(results=["one", "two"])),
            GetTaskLogsResponse(body=GetTaskLogsResponseBody(lines=[LogLine(message="three")])),
        ]
        metrics = GetTaskMetricsResponse(results=[ExecutionMetricResult(metric="cpu")])
        async with running_server(*served(LoggingTwin(lambda _meta: logs, lambda _meta: metrics))) as host:
            parts = [part async for part in host.get_logs("job", META)]
            assert [result.metric for result in (await host.get_metrics("job", META)).results] == ["cpu"]
            for operation in ("get_logs", "get_metrics"):
                labels = {"task_type": "job", "operation": operation}
                assert host.metric("flyte_connector_requests_success_total", **labels) == 1
        assert parts[0].header.token == "more"
        assert list(parts[1].body.results) == ["one", "two"]
        assert [line.message for line in parts[2].body.structured_lines] == ["three"]

    async def test_a_sync_call_on_an_async_connector_names_the_right_call(self) -> None:
        async with running_server(*served(Twin())) as host:
            error = await refusal(host.execute("job"))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "CreateTask" in details_of(error)

    async def test_5_mb_of_inputs_are_accepted(self) -> None:
        template = task(text=SimpleType.STRING, id=SimpleType.STRING)
        async with running_server(*served(Twin())) as host:
            created = await host.create(template, {"text": "7" * 5_000_000, "id": "5"})
        assert created == TwinMeta("5").encode()

    async def test_an_unknown_task_type_is_not_found_and_no_label(self) -> None:
        async with running_server(*served(Twin())) as host:
            error = await refusal(host.create("jbo"))
            assert error.code() is grpc.StatusCode.NOT_FOUND
            assert "near names: 'job'" in details_of(error)
            assert 'task_type="jbo"' not in await asyncio.to_thread(host.metrics_text)

    async def test_a_connector_that_does_not_exist_is_not_found(self) -> None:
        async with running_server(*served(Twin())) as host:
            error = await refusal(host.metadata_stub.GetAgent(agent_pb2.GetAgentRequest(name="nobody")))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "job connector" in details_of(error)

    async def test_a_create_that_is_repeated_for_an_attempt_runs_once(self) -> None:
        made: list[TwinMeta] = []

        async def create(**_arguments: Any) -> TwinMeta:
            made.append(TwinMeta(f"job-{len(made)}"))
            return made[-1]

        async with running_server(*served(Twin(create=create))) as host:
            metas = [await host.create("job", output_prefix="s3://b/node/0") for _ in range(2)]
        assert metas[0] == metas[1]
        assert len(made) == 1
