"""What today's servers fall short of (PEERS, second table), with connectors that are written for either SDK.

Each test runs for connectors of flytekit and of Flyte's SDK 2, called in either generation of the protocol.

Not here: a field of the wrong type in a resource meta, which the SDKs' own classes take as the SDKs' servers do; plugins that
cannot be loaded or claim one task type, which are in `tests/bridges`; and what no connector has a part in: the host as
process 1, two on one port, reflection.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from flytekit.exceptions.user import FlyteUserException, FlyteValueException

from connector_core import Phase
from connector_core.literals import to_python_map
from connector_core.testing import RunningServer
from tests.fakes import PATIENCE, Gate, Never, eventually, happens
from tests.support.generations import running_server
from tests.support.rpc import assert_hides_its_inside, details_of, refusal
from tests.support.twins import FLYTE, FLYTEKIT, FlytekitSyncTwin, Sdk, asynchronous, blocking, scripted

pytestmark = pytest.mark.usefixtures("spoken")

META = b'{"job_id": "7"}'
CALLS = 50
OF_THE_CONNECTOR = {"plugin": "test-job connector", "connector": "job connector"}
OUTPUTS: Any = {"id": "7"}

both_kinds = pytest.mark.parametrize("make", [blocking, asynchronous])


@pytest.fixture(params=[FLYTEKIT, FLYTE], ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """The SDK that the test's connectors are written for."""
    chosen: Sdk = request.param
    return chosen


def task(**types: SimpleType) -> TaskTemplate:
    """Return a template that says what its inputs are: Flyte's SDK 2 reads them by that."""
    variables = {name: Variable(type=LiteralType(simple=simple)) for name, simple in types.items()}
    return TaskTemplate(type="job", interface=TypedInterface(inputs=VariableMap(variables=variables)))


def in_flight(host: RunningServer, task_type: str, operation: str) -> float:
    return host.metric("flyte_connector_requests_in_flight", task_type=task_type, operation=operation)


class TestStuckCalls:
    """Code that blocks, where it may and where it may not."""

    @both_kinds
    async def test_50_calls_that_block_hold_nobody_else_up(self, make: Any, sdk: Sdk) -> None:
        """Not those of other connectors, nor those of sync ones."""
        gate = Gate()
        connectors = sdk.served(sdk.twin("stuck", delete=make(gate.block)), sdk.twin())
        async with running_server(*connectors, *FLYTEKIT.served(FlytekitSyncTwin())) as host:
            calls = [asyncio.create_task(host.delete("stuck", META)) for _ in range(CALLS)]
            await gate.reached(1)
            await eventually(lambda: in_flight(host, "stuck", "delete") == CALLS)
            async with asyncio.timeout(PATIENCE):
                assert await host.health() == "SERVING"
                assert len(await host.list_connectors()) == 3
                assert Phase((await host.get("job", META)).phase) is Phase.SUCCEEDED
                assert to_python_map((await host.execute("answer", {"n": 1})).outputs) == {"n": 1}
            assert not any(call.done() for call in calls)
            gate.open()
            await asyncio.gather(*calls)

    async def test_64_blocking_calls_run_at_once_with_64_workers(self, sdk: Sdk) -> None:
        gate = Gate()
        twin = sdk.twin(delete=blocking(gate.block))
        async with running_server(*sdk.served(twin), settings={"workers": 64}) as host:
            calls = [asyncio.create_task(host.delete("job", META)) for _ in range(64)]
            await gate.reached(64)
            gate.open()
            await asyncio.gather(*calls)

    async def test_a_blocking_call_whose_client_has_gone_runs_on_in_its_pool_and_is_counted(self, sdk: Sdk) -> None:
        gate = Gate()

        def count(name: str) -> float:
            return host.metric(f"flyte_connector_{name}", **OF_THE_CONNECTOR)

        async with running_server(*sdk.served(sdk.twin(delete=blocking(gate.block)))) as host:
            call = asyncio.create_task(host.delete("job", META))
            await gate.reached()
            call.cancel()
            await eventually(lambda: in_flight(host, "job", "delete") == 0)
            assert count("pool_busy_threads") == 1
            # Methods of SDK 2 are coroutines to the host, which are cancelled; the thread is what runs on.
            await eventually(lambda: count("abandoned_calls") == (1 if sdk is FLYTEKIT else 0))
            gate.open()
            await eventually(lambda: count("pool_busy_threads") == count("abandoned_calls") == 0)

    async def test_an_async_call_whose_client_has_gone_is_cancelled(self, sdk: Sdk) -> None:
        never = Never()
        async with running_server(*sdk.served(sdk.twin(delete=asynchronous(never.wait)))) as host:
            call = asyncio.create_task(host.delete("job", META))
            await happens(never.begun)
            call.cancel()
            await happens(never.cancelled)

    @both_kinds
    async def test_calls_in_flight_are_answered_when_the_host_stops(self, make: Any, sdk: Sdk) -> None:
        gate = Gate()

        async def wait() -> None:
            await asyncio.to_thread(gate.block)

        method = make(gate.block) if make is blocking else make(wait)
        async with running_server(*sdk.served(sdk.twin(delete=method)), settings={"workers": 20}) as host:
            calls = [asyncio.create_task(host.delete("job", META)) for _ in range(20)]
            await gate.reached(20)
            stopping = asyncio.create_task(host.server.stop(grace=PATIENCE))
            await eventually(lambda: host.server.not_ready())
            gate.open()
            await asyncio.gather(*calls)
            await stopping

    async def test_calls_that_are_cut_by_their_deadline_are_counted(self, sdk: Sdk) -> None:
        gate = Gate()
        async with running_server(*sdk.served(sdk.twin(delete=blocking(gate.block)))) as host:
            error = await refusal(host.delete("job", META, timeout=0.2))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            labels = {"task_type": "job", "operation": "delete", "error_code": "DEADLINE_EXCEEDED"}
            await eventually(lambda: host.metric("flyte_connector_requests_failure_total", **labels) == 1)
            gate.open()


class TestFailures:
    """What is raised, and what is not an answer."""

    @both_kinds
    async def test_sys_exit_in_a_call_ends_that_call_alone(self, make: Any, sdk: Sdk) -> None:
        async with running_server(*sdk.served(sdk.twin(delete=make(sys.exit)))) as host:
            error = await refusal(host.delete("job", META))
            assert error.code() is grpc.StatusCode.INTERNAL
            assert "sys.exit" in details_of(error)
            assert Phase((await host.get("job", META)).phase) is Phase.SUCCEEDED

    @both_kinds
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (PermissionError("not yours"), grpc.StatusCode.PERMISSION_DENIED),
            (ValueError("no such size"), grpc.StatusCode.INVALID_ARGUMENT),
            (RuntimeError("out of order"), grpc.StatusCode.INTERNAL),
            (None, grpc.StatusCode.UNAVAILABLE),
        ],
        ids=["permission", "value", "runtime", "passing"],
    )
    async def test_what_create_raises_has_its_code_and_hides_its_inside(
        self, error: Exception | None, code: grpc.StatusCode, make: Any, sdk: Sdk
    ) -> None:
        raised = error or sdk.passing
        async with running_server(*sdk.served(sdk.twin(create=make(scripted([raised]))))) as host:
            refused = await refusal(host.create("job"))
        assert refused.code() is code
        assert str(raised) in details_of(refused)
        assert_hides_its_inside(refused)

    @pytest.mark.parametrize("error", [FlyteUserException("cannot be"), FlyteValueException("3", "cannot be")])
    async def test_a_users_error_of_flytekit_in_create_is_a_failed_job_which_is_what_the_engine_reads(
        self, error: Exception
    ) -> None:
        twin = FLYTEKIT.twin(create=blocking(scripted([error])))
        async with running_server(*FLYTEKIT.served(twin)) as host:
            resource = await host.get("job", await host.create("job"))
        assert Phase(resource.phase) is Phase.FAILED
        assert "cannot be" in resource.message

    @both_kinds
    @pytest.mark.parametrize(
        "error",
        [PermissionError("not now"), ValueError("odd"), RuntimeError("not now"), FlyteUserException("not now")],
        ids=lambda error: type(error).__name__,
    )
    async def test_what_get_raises_fails_no_job_that_runs(self, error: Exception, make: Any, sdk: Sdk) -> None:
        running, succeeded = (sdk.resource(phase=phase) for phase in (TaskExecution.RUNNING, TaskExecution.SUCCEEDED))
        get = make(scripted([running, error, error, succeeded]))
        async with running_server(*sdk.served(sdk.twin(get=get)), settings={"deadlines": {"get": 0.2}}) as host:
            assert Phase((await host.get("job", META)).phase) is Phase.RUNNING
            phases = {Phase((await host.get("job", META)).phase) for _ in range(4)}
        assert phases <= {Phase.RUNNING, Phase.SUCCEEDED}

    @both_kinds
    @pytest.mark.parametrize("answer", [None, {"phase": 4}], ids=["none", "dict"])
    async def test_what_is_not_a_resource_never_goes_out(self, answer: Any, make: Any, sdk: Sdk) -> None:
        async with running_server(*sdk.served(sdk.twin(get=make(lambda: answer)))) as host:
            error = await refusal(host.get("job", META))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "get()" in details_of(error)

    @both_kinds
    async def test_no_phase_of_flytekits_never_goes_out_either(self, make: Any) -> None:
        twin = FLYTEKIT.twin(get=make(lambda: FLYTEKIT.resource(phase=TaskExecution.UNDEFINED)))
        async with running_server(*FLYTEKIT.served(twin)) as host:
            error = await refusal(host.get("job", META))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "get()" in details_of(error)

    @both_kinds
    async def test_no_phase_of_sdk_2s_is_ridden_out_as_its_own_server_does(self, make: Any) -> None:
        twin = FLYTE.twin(get=make(lambda: FLYTE.resource(phase=TaskExecution.UNDEFINED, message="no state yet")))
        async with running_server(*FLYTE.served(twin)) as host:
            answer = await host.get("job", META, timeout=0.5)
        assert Phase(answer.phase) is Phase.RUNNING
        assert "UNDEFINED: no state yet" in answer.message

    @both_kinds
    @pytest.mark.parametrize("answer", [None, {"job_id": "7"}, b"7"], ids=lambda answer: type(answer).__name__)
    async def test_what_is_not_a_resource_meta_never_goes_out(self, answer: Any, make: Any, sdk: Sdk) -> None:
        async with running_server(*sdk.served(sdk.twin(create=make(lambda: answer)))) as host:
            details = details_of(await refusal(host.create("job")))
        assert "not a ResourceMeta" in details or "not a resource meta" in details

    async def test_text_is_not_a_resource_meta_of_sdk_2s(self) -> None:
        async with running_server(*FLYTE.served(FLYTE.twin(create=asynchronous(lambda: "7")))) as host:
            assert "not a resource meta" in details_of(await refusal(host.create("job")))

    @both_kinds
    async def test_what_cannot_be_converted_is_not_an_answer_and_not_ridden_out(self, make: Any, sdk: Sdk) -> None:
        resource = sdk.resource(phase=TaskExecution.SUCCEEDED, message=5)
        async with running_server(*sdk.served(sdk.twin(get=make(lambda: resource)))) as host:
            error = await refusal(host.get("job", META))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "returned a Resource that cannot be sent" in details_of(error)

    @both_kinds
    @pytest.mark.parametrize("value", [float("nan"), 2**60 + 1, object()], ids=lambda value: type(value).__name__)
    async def test_custom_info_fails_no_poll(self, value: Any, make: Any, sdk: Sdk) -> None:
        running = sdk.resource(phase=TaskExecution.RUNNING, custom_info={"x": value, "y": 1})
        async with running_server(*sdk.served(sdk.twin(get=make(lambda: running)))) as host:
            answer = await host.get("job", META)
        assert Phase(answer.phase) is Phase.RUNNING
        assert isinstance(answer.custom_info["x"], str)
        assert answer.custom_info["y"] == 1
        assert running.custom_info["y"] == 1, "the connector's own stays as it is"

    @both_kinds
    async def test_outputs_of_a_running_job_that_flytekit_cannot_convert_fail_no_poll(self, make: Any) -> None:
        running = FLYTEKIT.resource(phase=TaskExecution.RUNNING, message="at work", outputs={"a": [1]})
        async with running_server(*FLYTEKIT.served(FLYTEKIT.twin(get=make(lambda: running)))) as host:
            answer = await host.get("job", META)
        assert (Phase(answer.phase), answer.message, answer.HasField("outputs")) == (Phase.RUNNING, "at work", False)

    @both_kinds
    async def test_outputs_that_flytekit_cannot_convert_are_not_an_answer_either(self, make: Any) -> None:
        resource = FLYTEKIT.resource(phase=TaskExecution.SUCCEEDED, outputs={"a": [1]})
        async with running_server(*FLYTEKIT.served(FLYTEKIT.twin(get=make(lambda: resource)))) as host:
            error = await refusal(host.get("job", META))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "returned a Resource that cannot be sent" in details_of(error)


class TestRequests:
    """What is asked, and how."""

    @pytest.mark.parametrize("meta", [b"", b"\xff\xfe", b"[]", b"3", b'{"cluster": "main"}', b"{}"])
    async def test_a_malformed_resource_meta_is_an_invalid_argument_to_get_and_given_up_by_delete(
        self, meta: bytes, sdk: Sdk
    ) -> None:
        async with running_server(*sdk.served(sdk.twin())) as host:
            error = await refusal(host.get("job", meta))
            await host.delete("job", meta)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert f"resource meta is not a {type(sdk.meta('7')).__name__}" in details_of(error)
        assert_hides_its_inside(error)

    async def test_the_field_that_is_missing_is_named(self, sdk: Sdk) -> None:
        async with running_server(*sdk.served(sdk.twin())) as host:
            assert "'job_id'" in details_of(await refusal(host.get("job", b'{"cluster": "main"}')))

    @pytest.mark.parametrize("meta", [{"job_id": "7", "added": {"later": 1}}, {"job_id": "7"}], ids=["newer", "older"])
    async def test_older_and_newer_resource_metas_are_read(self, meta: dict[str, Any], sdk: Sdk) -> None:
        async with running_server(*sdk.served(sdk.twin())) as host:
            resource = await host.get("job", json.dumps(meta).encode())
        assert to_python_map(resource.outputs) == OUTPUTS

    @pytest.mark.parametrize("method", ["CreateTask", "GetTask", "DeleteTask", "GetTaskMetrics"])
    async def test_bytes_that_are_no_message_are_an_invalid_argument(self, method: str, spoken: str, sdk: Sdk) -> None:
        services = {"v1": "flyteidl.service.AsyncAgentService", "v2": "flyteidl2.connector.AsyncConnectorService"}
        async with running_server(*sdk.served(sdk.twin())) as host:
            call: Any = host.channel.unary_unary(f"/{services[spoken]}/{method}")
            error = await refusal(call(b"\xff\xff\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_logs_and_metrics_that_are_not_there_are_unimplemented_and_counted(self, sdk: Sdk) -> None:
        async with running_server(*sdk.served(sdk.twin())) as host:
            calls: dict[str, Awaitable[Any]] = {
                "get_logs": anext(host.get_logs("job", META)),
                "get_metrics": host.get_metrics("job", META),
            }
            for operation, call in calls.items():
                assert (await refusal(call)).code() is grpc.StatusCode.UNIMPLEMENTED
                labels = {"task_type": "job", "operation": operation, "error_code": "UNIMPLEMENTED"}
                assert host.metric("flyte_connector_requests_failure_total", **labels) == 1

    async def test_logs_are_streamed_and_metrics_arrive(self, sdk: Sdk) -> None:
        twin = sdk.logging_twin(lambda _meta: list(sdk.logs), lambda _meta: sdk.metrics)
        async with running_server(*sdk.served(twin)) as host:
            parts = [part async for part in host.get_logs("job", META)]
            assert [result.metric for result in (await host.get_metrics("job", META)).results] == ["cpu"]
            for operation in ("get_logs", "get_metrics"):
                labels = {"task_type": "job", "operation": operation}
                assert host.metric("flyte_connector_requests_success_total", **labels) == 1
        assert parts[0].header.token == "more"
        bodies = [part.body for part in parts[1:]]
        plain = [line for body in bodies for line in body.results]
        structured = [line.message for body in bodies for line in body.structured_lines]
        assert [*plain, *structured] == ["one", "two", "three"]
        assert structured[-1:] == ["three"]

    async def test_one_answer_of_flytekits_logs_is_enough(self) -> None:
        answer = FLYTEKIT.logs[1]
        twin = FLYTEKIT.logging_twin(lambda _meta: answer, lambda _meta: None)
        async with running_server(*FLYTEKIT.served(twin)) as host:
            (part,) = [part async for part in host.get_logs("job", META)]
        assert list(part.body.results) == ["one", "two"]

    async def test_a_sync_connector_is_served_to_engines_that_call_it_as_async(self) -> None:
        async with running_server(*FLYTEKIT.served(FlytekitSyncTwin())) as host:
            resource = await host.get("answer", await host.create("answer", {"n": 1}))
            refused = await refusal(host.execute("job"))
        assert to_python_map(resource.outputs) == {"n": 1}
        assert refused.code() is grpc.StatusCode.NOT_FOUND

    async def test_a_sync_call_on_an_async_connector_names_the_right_call(self, sdk: Sdk) -> None:
        async with running_server(*sdk.served(sdk.twin())) as host:
            error = await refusal(host.execute("job"))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "CreateTask" in details_of(error)

    async def test_5_mb_of_inputs_are_accepted(self, sdk: Sdk) -> None:
        template = task(text=SimpleType.STRING, id=SimpleType.STRING)
        async with running_server(*sdk.served(sdk.twin())) as host:
            created = await host.create(template, {"text": "7" * 5_000_000, "id": "5"})
        assert json.loads(created) == {"job_id": "5", "cluster": "main"}

    async def test_an_unknown_task_type_is_not_found_and_no_label(self, sdk: Sdk) -> None:
        async with running_server(*sdk.served(sdk.twin())) as host:
            error = await refusal(host.create("jbo"))
            assert error.code() is grpc.StatusCode.NOT_FOUND
            assert "near names: 'job'" in details_of(error)
            assert 'task_type="jbo"' not in await asyncio.to_thread(host.metrics_text)

    async def test_a_connector_that_does_not_exist_is_not_found(self, sdk: Sdk) -> None:
        async with running_server(*sdk.served(sdk.twin())) as host:
            error = await refusal(host.metadata_stub.GetAgent(agent_pb2.GetAgentRequest(name="nobody")))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "job connector" in details_of(error)

    async def test_a_create_that_is_repeated_for_an_attempt_runs_once(self, sdk: Sdk) -> None:
        made: list[Any] = []

        def create() -> Any:
            made.append(sdk.meta(f"job-{len(made)}"))
            return made[-1]

        async with running_server(*sdk.served(sdk.twin(create=asynchronous(create)))) as host:
            metas = [await host.create("job", output_prefix="s3://b/node/0") for _ in range(2)]
        assert metas[0] == metas[1]
        assert len(made) == 1
