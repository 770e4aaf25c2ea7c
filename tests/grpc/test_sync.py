"""`SyncAgentService` over the wire: header and inputs in, one answer out."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import SyncAgentServiceStub

from connector_core import Phase, Resource
from connector_core.errors import InvalidInputError, TransientError
from connector_core.literals import to_literal_map, to_python_map
from connector_core.testing import RunningServer, running_server
from tests.fakes import PATIENCE, Answers, Jobs, eventually
from tests.support.rpc import assert_hides_its_inside, collected, details_of, refusal

Message = agent_pb2.ExecuteTaskSyncRequest


def header(task_type: str = "answer", *declared: str) -> Message:
    """Return a header whose task takes the inputs that are named."""
    variables = VariableMap(variables={name: Variable() for name in declared})
    template = TaskTemplate(type=task_type, interface=TypedInterface(inputs=variables))
    return Message(header=agent_pb2.CreateRequestHeader(template=template, output_prefix="s3://b/n0/0"))


def inputs(**values: Any) -> Message:
    return Message(inputs=to_literal_map(values))


def stream(host: RunningServer, *messages: Message) -> Any:
    """Send messages and half-close."""
    return host.sync_stub.ExecuteTaskSync(iter(messages))


async def answer(call: Any) -> agent_pb2.Resource:
    """Read the one message, which has to be a header with the resource."""
    (message,) = await collected(call)
    assert message.WhichOneof("res") == "header"
    resource: agent_pb2.Resource = message.header.resource
    return resource


async def test_header_and_inputs_are_answered_with_one_message() -> None:
    async with running_server(Answers()) as host:
        resource = await answer(stream(host, header(), inputs(a=1)))
    assert resource.phase == TaskExecution.SUCCEEDED
    assert to_python_map(resource.outputs) == {"a": 1}


async def test_the_connector_is_offered_all_that_the_header_holds() -> None:
    seen: dict[str, Any] = {}

    def do(**offered: Any) -> Resource:
        seen.update(offered)
        return Resource(Phase.SUCCEEDED)

    async with running_server(Answers(do=do)) as host:
        await answer(stream(host, header(), inputs(a=1)))
    assert (seen["output_prefix"], seen["inputs"], seen["task_template"].type) == ("s3://b/n0/0", {"a": 1}, "answer")


async def test_a_header_alone_is_enough_for_a_task_without_inputs() -> None:
    async with running_server(Answers()) as host:
        assert (await answer(stream(host, header()))).phase == TaskExecution.SUCCEEDED


async def test_a_header_alone_is_refused_for_a_task_with_inputs_which_are_named() -> None:
    async with running_server(Answers()) as host:
        error = await refusal(collected(stream(host, header("answer", "b", "a"))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details_of(error) == "the stream ends after the header, but the task takes inputs: a, b"


async def test_inputs_first_are_refused_with_what_is_missing() -> None:
    async with running_server(Answers()) as host:
        error = await refusal(collected(stream(host, inputs(a=1), header())))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "does not begin with a header" in details_of(error)


async def test_an_empty_stream_is_refused_with_what_is_missing() -> None:
    async with running_server(Answers()) as host:
        error = await refusal(collected(stream(host)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "the stream is empty: send a header" in details_of(error)


@pytest.mark.parametrize(
    "first", [Message(), Message(header=agent_pb2.CreateRequestHeader())], ids=["nothing", "blank"]
)
async def test_a_header_without_content_is_refused(first: Message) -> None:
    async with running_server(Answers()) as host:
        error = await refusal(collected(stream(host, first, inputs())))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_second_header_is_refused() -> None:
    async with running_server(Answers()) as host:
        error = await refusal(collected(stream(host, header(), header())))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "second message" in details_of(error)


async def test_a_client_without_a_deadline_that_sends_no_more_than_a_header_is_not_waited_for_for_ever() -> None:
    async with running_server(Answers(), settings={"deadlines": {"do": 0.05}}) as host:
        call = host.sync_stub.ExecuteTaskSync()
        await call.write(header())
        refused = await refusal(call.read())
    assert refused.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "within 0.05 s of the header" in details_of(refused)


async def test_a_client_that_does_not_half_close_is_answered() -> None:
    stays_open = asyncio.Event()

    async def requests() -> AsyncIterator[Message]:
        yield header()
        yield inputs(a=1)
        await stays_open.wait()

    async with running_server(Answers()) as host:
        call = host.sync_stub.ExecuteTaskSync(requests())
        message = await asyncio.wait_for(call.read(), PATIENCE)
        stays_open.set()
    assert to_python_map(message.header.resource.outputs) == {"a": 1}


async def test_an_async_connector_is_unimplemented_here_and_the_right_call_is_named() -> None:
    async with running_server(Jobs()) as host:
        error = await refusal(host.execute("job"))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "AsyncAgentService.CreateTask" in details_of(error)
    assert "'job connector'" in details_of(error)


DO = {"task_type": "answer", "operation": "do"}


async def test_a_permanent_failure_is_answered_with_its_code_since_the_engine_retries_any_status() -> None:
    def do() -> Resource:
        raise InvalidInputError("no table", error_code="NO_TABLE")

    async with running_server(Answers(do=do)) as host:
        resource = await host.execute("answer")
        failures = host.metric("flyte_connector_requests_failure_total", error_code="INVALID_ARGUMENT", **DO)
    assert Phase(resource.phase) is Phase.FAILED
    assert resource.message == "plugin 'test-answer connector', do(): no table"
    assert resource.agent_error.code == "NO_TABLE"
    assert resource.agent_error.kind == agent_pb2.AgentError.NON_RECOVERABLE
    assert failures == 1


async def test_a_permanent_failure_is_a_status_where_plain_statuses_are_asked_for() -> None:
    def do() -> Resource:
        raise InvalidInputError("no table")

    async with running_server(Answers(do=do), settings={"permanent_create_failures": "status"}) as host:
        refused = await refusal(host.execute("answer"))
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "no table" in details_of(refused)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TransientError("busy"), grpc.StatusCode.UNAVAILABLE),
        (PermissionError("no"), grpc.StatusCode.PERMISSION_DENIED),
        (ValueError("no"), grpc.StatusCode.INVALID_ARGUMENT),
        (RuntimeError("no"), grpc.StatusCode.INTERNAL),
        (SystemExit(1), grpc.StatusCode.INTERNAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_what_a_connector_raises_has_its_code_and_hides_its_inside(
    error: BaseException, code: grpc.StatusCode
) -> None:
    def do() -> Resource:
        raise error

    async with running_server(Answers(do=do)) as host:
        refused = await refusal(host.execute("answer"))
    assert refused.code() is code
    assert "plugin 'test-answer connector', do(): " in details_of(refused)
    assert_hides_its_inside(refused)


@pytest.mark.parametrize(
    "result", [None, "done", Resource(TaskExecution.UNDEFINED)], ids=["None", "str", "UNDEFINED"]  # type: ignore[arg-type]
)  # fmt: skip
async def test_an_answer_that_is_none_is_internal_and_names_plugin_and_operation(result: object) -> None:
    async with running_server(Answers(do=lambda: result)) as host:
        error = await refusal(host.execute("answer"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "plugin 'test-answer connector', do(): returned" in details_of(error)


async def test_a_failure_carries_its_error_code() -> None:
    resource = Resource(Phase.FAILED, message="no such table", error_code="TABLE_MISSING")
    async with running_server(Answers(do=lambda: resource)) as host:
        answered = await host.execute("answer")
    assert answered.agent_error.code == "TABLE_MISSING"


async def test_5_mb_of_inputs_are_accepted() -> None:
    def do(inputs: dict[str, Any]) -> Resource:
        return Resource(Phase.SUCCEEDED, outputs={"size": len(inputs["text"])})

    async with running_server(Answers(do=do)) as host:
        resource = await host.execute("answer", {"text": "x" * 5_000_000})
    assert to_python_map(resource.outputs) == {"size": 5_000_000}


async def test_a_client_that_cancels_when_it_has_its_answer_counts_as_a_success() -> None:
    """The engine does that with every call."""
    calls = 100

    def execute(channel: grpc.Channel) -> None:
        call = SyncAgentServiceStub(channel).ExecuteTaskSync(iter([header(), inputs(a=1)]))
        next(call)
        call.cancel()

    def execute_all(address: str) -> None:
        with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(16) as threads:
            list(threads.map(execute, [channel] * calls))

    async with running_server(Answers()) as host:
        await asyncio.to_thread(execute_all, host.address)
        labels = {"task_type": "answer", "operation": "do"}
        await eventually(lambda: host.metric("flyte_connector_requests_in_flight", **labels) == 0)
        assert host.metric("flyte_connector_requests_success_total", **labels) == calls


async def test_a_client_that_is_refused_while_it_still_sends_learns_why() -> None:
    """gRPC's clients take a stream that ends under their hands for a failure of their own, one time in forty here."""
    async with running_server(Answers()) as host:
        for _ in range(200):
            error = await refusal(collected(stream(host, Message(), inputs())))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_client_that_is_refused_and_waits_for_the_answer_gets_it() -> None:
    async with running_server(Answers()) as host:
        call = host.sync_stub.ExecuteTaskSync()
        await call.write(Message())
        error = await refusal(call.read())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
