"""The fake engine does what was seen of the real one: FlytePropeller 1.16.8, and the executor of the 2.x line."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.struct_pb2 import Struct

from connector_core import LogLink, Phase, Resource
from connector_core.literals import to_literal_map
from connector_core.testing import FakePropeller, RunningServer, running_server
from connector_core.testing.propeller import EngineTask
from tests.fakes import JobMeta, Jobs, eventually
from tests.support.creates import PREFIX, Held
from tests.support.scripted import LISTED, agent, attempts_asked, scripted

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
V1, V2 = (1, 16), (2, 0)
MIB = 1024 * 1024

both_lines = pytest.mark.parametrize("engine_version", [V1, V2], ids=["1.x", "2.x"])


def methods(task: EngineTask) -> list[str]:
    return [call.method for call in task.calls]


@asynccontextmanager
async def engine_of(
    connector: Jobs, *, settings: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[RunningServer, FakePropeller]]:
    """A host with one connector, and an engine that calls it."""
    async with (
        running_server(connector, settings=settings) as host,
        FakePropeller([host.address], **options) as propeller,
    ):
        yield host, propeller


# E1: a sync answer that is not final


async def test_a_sync_answer_that_is_not_final_kills_a_worker_with_each_round_until_no_job_is_polled() -> None:
    agents = [agent("job"), agent("answer", is_sync=True)]
    async with scripted(*agents, execute=[Phase.RUNNING], get=[Phase.RUNNING], engine={"workers": 2}) as (
        server,
        propeller,
    ):
        job = propeller.submit("job")
        await propeller.step()
        propeller.submit("answer")
        for _ in range(5):
            await propeller.step()
        polled = len(server.requests["GetTask"])
        for _ in range(5):
            await propeller.step()
    assert polled == len(server.requests["GetTask"]) == 2
    assert not job.is_settled


# E2: the fall to the default plugin


async def test_a_type_that_was_listed_late_falls_to_the_container_plugin_when_a_poll_fails() -> None:
    listing = [UNAVAILABLE, LISTED, LISTED, UNAVAILABLE]
    async with scripted(list_agents=listing, get=[Phase.RUNNING]) as (server, propeller):
        await propeller.poll_connectors()  # the engine starts
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert task.phase is Phase.FAILED
    assert "container plugin" in task.message
    assert methods(task) == ["CreateTask", "GetTask"]
    assert not server.requests["DeleteTask"]


async def test_a_type_that_fell_to_the_container_plugin_is_not_deleted_when_its_task_is_aborted() -> None:
    listing = [UNAVAILABLE, LISTED, UNAVAILABLE]
    async with scripted(list_agents=listing, get=[Phase.RUNNING]) as (server, propeller):
        await propeller.poll_connectors()
        task = propeller.submit("job")
        await propeller.step()
        propeller.abort(task)
        await propeller.run_until_settled()
    assert task.phase is Phase.ABORTED
    assert not server.requests["DeleteTask"]


@pytest.mark.parametrize(
    ("listing", "supported"),
    [([UNAVAILABLE, LISTED, UNAVAILABLE, LISTED], ["job"]), ([LISTED, LISTED, UNAVAILABLE, LISTED], None)],
)
async def test_types_that_the_configuration_names_or_that_were_listed_at_the_start_survive_failed_polls(
    listing: list[Any], supported: list[str] | None
) -> None:
    engine = {"supported_task_types": supported}
    async with scripted(list_agents=listing, get=[Phase.RUNNING, Phase.SUCCEEDED], engine=engine) as (
        _server,
        propeller,
    ):
        await propeller.poll_connectors()
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED
    assert methods(task) == ["CreateTask", "GetTask", "GetTask"]


# E3 and E15: events


def running(number: int) -> Resource:
    return Resource(Phase.RUNNING, message=f"step {number}", log_links=[LogLink("log", f"https://{number}")])


@pytest.mark.parametrize(
    ("engine_version", "shown"),
    [(V1, [("", "https://1")]), (V2, [("step 1", "https://1"), ("step 2", "https://2")])],
    ids=["1.x", "2.x"],
)
async def test_links_count_in_the_first_answer_of_a_phase_alone_and_the_message_of_running_never_in_1_x(
    engine_version: tuple[int, int], shown: list[tuple[str, str]]
) -> None:
    answers = [running(1), running(2), Resource(Phase.SUCCEEDED)]
    async with engine_of(Jobs(get=lambda: answers.pop(0)), engine_version=engine_version) as (_host, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    *going, last = task.events
    assert [(event.message, event.log_links[0].uri) for event in going] == shown
    assert last.phase is Phase.SUCCEEDED


async def test_a_phase_that_is_returned_to_is_never_shown_again() -> None:
    phases = [Phase.RUNNING, Phase.INITIALIZING, Phase.RUNNING]
    link = TaskLog(uri="https://x")
    script = [*(agent_pb2.Resource(phase=phase.value, log_links=[link]) for phase in phases), Phase.SUCCEEDED]
    async with scripted(get=script) as (_server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert [event.phase for event in task.events] == [Phase.RUNNING, Phase.INITIALIZING, Phase.SUCCEEDED]
    assert task.phases == [*phases, Phase.SUCCEEDED]


async def test_a_connectors_queued_is_dropped_only_while_the_engines_own_is_the_current_one() -> None:
    async with scripted(get=[Phase.QUEUED, Phase.RUNNING, Phase.QUEUED, Phase.SUCCEEDED]) as (_server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert [event.phase for event in task.events] == [Phase.RUNNING, Phase.QUEUED, Phase.SUCCEEDED]


async def test_each_attempt_has_events_of_its_own() -> None:
    script = [Phase.RUNNING, Phase.RETRYABLE_FAILED, Phase.RUNNING, Phase.SUCCEEDED]
    async with scripted(get=script) as (_server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert [(event.attempt, event.phase) for event in task.events if event.phase is Phase.RUNNING] == [
        (0, Phase.RUNNING),
        (1, Phase.RUNNING),
    ]


# E4: the service config


async def test_a_service_config_lets_larger_answers_pass() -> None:
    config = {"methodConfig": [{"name": [{}], "maxResponseMessageBytes": 16 * MIB}]}
    large = agent_pb2.Resource(phase=TaskExecution.SUCCEEDED, outputs=to_literal_map({"text": "x" * 5 * MIB}))
    async with scripted(get=[large], engine={"service_config": config}) as (_server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED
    assert len(task.outputs["text"]) == 5 * MIB


async def test_a_service_config_repeats_a_create_within_one_attempt() -> None:
    retries = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = {"methodConfig": [{"name": [{}], "retryPolicy": retries}]}
    create = [UNAVAILABLE, UNAVAILABLE, b"job"]
    async with scripted(create=create, engine={"service_config": config}) as (server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert attempts_asked(server) == [0, 0, 0]
    assert len(task.calls_of("CreateTask")) == len(task.attempts) == 1


# E5: whatever status a sync call ends with is tried again


async def test_a_sync_task_burns_its_attempts_whatever_its_status() -> None:
    async with scripted(agent("answer", is_sync=True), execute=[grpc.StatusCode.INVALID_ARGUMENT]) as (
        _server,
        propeller,
    ):
        task = propeller.submit("answer", max_attempts=3)
        await propeller.run_until_settled()
    assert task.phase is Phase.FAILED
    assert methods(task) == ["ExecuteTaskSync"] * 3


# E6: DeleteTask before a further attempt, and after a final timeout


@both_lines
async def test_the_job_of_an_attempt_that_may_be_tried_again_is_deleted_first_and_that_of_the_last_is_not(
    engine_version: tuple[int, int],
) -> None:
    created: list[str] = []
    deleted: list[str] = []

    def create() -> JobMeta:
        created.append(f"job-{len(created)}")
        return JobMeta(created[-1])

    connector = Jobs(
        create=create,
        get=lambda: Resource(Phase.RETRYABLE_FAILED),
        delete=lambda resource_meta: deleted.append(resource_meta.job_id),
    )
    async with engine_of(connector, engine_version=engine_version, max_attempts=3) as (_host, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert task.phase is Phase.FAILED
    assert methods(task) == [*["CreateTask", "GetTask", "DeleteTask"] * 2, "CreateTask", "GetTask"]
    assert deleted == created[:2] == ["job-0", "job-1"]


async def test_a_create_that_failed_has_nothing_to_delete_before_the_next_attempt() -> None:
    async with scripted(create=[UNAVAILABLE, b"job"]) as (server, propeller):
        propeller.submit("job")
        await propeller.run_until_settled()
    assert not server.requests["DeleteTask"]


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.ABORTED, Phase.SUCCEEDED])
async def test_a_job_that_has_ended_for_good_is_not_deleted(phase: Phase) -> None:
    async with scripted(get=[phase]) as (server, propeller):
        propeller.submit("job")
        await propeller.run_until_settled()
    assert not server.requests["DeleteTask"]


@pytest.mark.parametrize(
    ("engine_version", "deleted_before_the_next"), [(V1, ["DeleteTask"]), (V2, [])], ids=["1.x", "2.x"]
)
async def test_a_timeout_has_the_job_deleted_before_the_next_attempt_in_1_x_and_after_the_last_in_both(
    engine_version: tuple[int, int], deleted_before_the_next: list[str]
) -> None:
    connector = Jobs(get=lambda: Resource(Phase.RUNNING))
    async with engine_of(connector, engine_version=engine_version, max_attempts=2) as (_host, propeller):
        task = propeller.submit("job")
        await propeller.step()
        propeller.time_out(task)
        while task.attempt.number == 0 or task.attempt.resource_meta is None:
            await propeller.step()
        propeller.time_out(task)
        await propeller.run_until_settled()
    assert methods(task) == ["CreateTask", *deleted_before_the_next, "CreateTask", "DeleteTask"]
    assert task.phase is Phase.FAILED
    assert "timeout" in task.message


# E6 and E11: outputs that are declared, and missing


def declaring_outputs() -> TaskTemplate:
    outputs = VariableMap(variables={"rows": Variable()})
    return TaskTemplate(type="job", interface=TypedInterface(outputs=outputs), custom=Struct())


async def test_declared_outputs_that_are_missing_are_a_retryable_failure_in_1_x() -> None:
    resources = [Resource(Phase.SUCCEEDED), Resource(Phase.SUCCEEDED, outputs={"rows": 1})]
    async with engine_of(Jobs(get=lambda: resources.pop(0))) as (_host, propeller):
        task = propeller.submit(declaring_outputs())
        await propeller.run_until_settled()
    assert methods(task) == ["CreateTask", "GetTask", "DeleteTask", "CreateTask", "GetTask"]
    assert task.outputs == {"rows": 1}


async def test_declared_outputs_that_are_missing_end_a_task_of_2_x_after_four_answers() -> None:
    async with engine_of(Jobs(get=lambda: Resource(Phase.SUCCEEDED)), engine_version=V2) as (_host, propeller):
        task = propeller.submit(declaring_outputs())
        await propeller.run_until_settled()
    assert task.phase is Phase.FAILED
    assert "MaxSystemFailuresExceeded" in task.message
    assert methods(task) == ["CreateTask", *["GetTask"] * 4]


# E7: what the configuration's reader makes of task types


async def test_a_statically_routed_type_with_a_capital_never_matches() -> None:
    async with scripted(agent("Job", is_sync=True), engine={"static_task_types": ["Job"]}) as (_server, propeller):
        task = propeller.submit("Job")
        await propeller.run_until_settled()
    assert methods(task) == ["ExecuteTaskSync"]  # as it is listed, not as async


# E8: a delete that never succeeds


@pytest.mark.parametrize("ends", ["aborted", "tried again"])
async def test_a_delete_that_never_succeeds_is_repeated_for_ever_in_2_x(ends: str) -> None:
    def refuse() -> None:
        raise PermissionError("not yours")

    connector = Jobs(get=lambda: Resource(Phase.RETRYABLE_FAILED), delete=refuse)
    async with engine_of(connector, engine_version=V2) as (_host, propeller):
        task = propeller.submit("job")
        await propeller.step()
        if ends == "aborted":
            propeller.abort(task)
        with pytest.raises(AssertionError, match="not settled"):
            await propeller.run_until_settled(max_steps=30)
    assert len(task.calls_of("DeleteTask")) >= 29
    assert len(task.attempts) == 1


# E9, E10, E12: the 2.x line's own ways


async def test_engines_of_2_x_route_by_their_configuration_and_not_by_what_is_listed() -> None:
    async with engine_of(Jobs(), engine_version=V2, supported_task_types=["other"]) as (_host, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert task.phase is Phase.FAILED
    assert "knows no connector" in task.message
    assert not task.calls
    async with engine_of(Jobs(), engine_version=V2, supported_task_types=["job"]) as (_host, propeller):
        propeller.faults.lose_request("ListAgents", times=None)
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED


async def test_a_template_without_custom_fails_before_any_call_in_2_x() -> None:
    async with engine_of(Jobs(), engine_version=V2) as (_host, propeller):
        task = propeller.submit(TaskTemplate(type="job"))
        await propeller.run_until_settled()
    assert task.phase is Phase.FAILED
    assert "custom" in task.message
    assert not task.calls


class Deadlines(grpc.GenericRpcHandler):
    """Answers every call with an empty message, and keeps how many seconds it had."""

    def __init__(self) -> None:
        self.left: list[float] = []

    def service(self, handler_call_details: Any) -> Any:
        async def answer(_request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            self.left.append(context.time_remaining() or 0)
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


async def test_calls_carry_a_deadline_of_10_seconds_in_2_x() -> None:
    deadlines = Deadlines()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([deadlines])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with FakePropeller([f"127.0.0.1:{port}"], engine_version=V2, supported_task_types=["job"]) as propeller:
        propeller.submit("job")
        await propeller.step()
    await server.stop(0)
    assert len(deadlines.left) == 2
    assert all(3 < left < 11 for left in deadlines.left)


# E13: a create that is always slower than the deadline


async def test_a_create_that_is_always_slower_than_the_deadline_leaves_the_last_attempts_job_behind() -> None:
    held = Held(*(f"{PREFIX}/{attempt}" for attempt in range(2)))
    never = {"promise_creates": "never"}
    async with engine_of(held.connector(), settings=never, deadlines={"CreateTask": 0.2}, max_attempts=2) as (
        host,
        propeller,
    ):
        task = propeller.submit("job")
        held.before = {attempt.output_prefix: held.gate.block for attempt in task.attempts} | {
            f"{task.prefix}1": held.gate.block
        }
        await propeller.run_until_settled()
        held.gate.open()
        await host.creates_ended()
        await host.orphans_deleted()
    assert task.phase is Phase.FAILED
    assert len(held.started) == 2
    assert len(held.deleted) == 1


# Map tasks


async def test_subtasks_send_one_execution_id_and_prefixes_that_end_in_their_index_and_attempt() -> None:
    async with scripted(create=[b"a", b"b", UNAVAILABLE, b"c"]) as (server, propeller):
        tasks = propeller.submit_map("job", [{"n": number} for number in range(3)], path="n0")
        await propeller.run_until_settled()
    requests = server.requests["CreateTask"]
    firsts = [request for request in requests if request.output_prefix.endswith("/0")]
    assert len({request.task_execution_metadata.SerializeToString() for request in firsts}) == 1
    folder = tasks[0].prefix.removesuffix("0/")
    assert sorted(request.output_prefix for request in firsts) == [f"{folder}{index}/0" for index in range(3)]
    (retry,) = (request for request in requests if request not in firsts)
    assert retry.output_prefix in {f"{folder}{index}/1" for index in range(3)}
    assert {task.phase for task in tasks} == {Phase.SUCCEEDED}


async def test_the_retry_of_one_subtask_deletes_its_own_predecessor_alone() -> None:
    held = Held()
    async with engine_of(held.connector(get=lambda: Resource(Phase.RUNNING))) as (host, propeller):
        tasks = propeller.submit_map("job", [{}] * 3, path="n0")
        retried = tasks[1]
        held.before = {retried.attempt.output_prefix: held.gate.block}
        propeller.faults.cut("CreateTask", held.gate.reached, task=retried)
        await propeller.step()
        held.gate.open()
        await host.creates_ended()
        orphan = held.started[-1]
        await propeller.step()
        await eventually(lambda: held.deleted == [orphan])
        await propeller.step()
    assert held.deleted == [orphan]
    assert len(held.started) == 4
    assert {task.phase for task in tasks} == {Phase.RUNNING}
