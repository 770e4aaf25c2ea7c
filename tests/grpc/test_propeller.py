import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.core.literals_pb2 import LiteralMap

from connector_core import Phase, Resource
from connector_core.literals import to_literal_map
from connector_core.testing import FakePropeller, running_server
from connector_core.testing.propeller import Deployment, EngineTask, Workflow
from tests.fakes import PATIENCE, Answers, JobMeta, Jobs, eventually
from tests.support.scripted import (
    LISTED,
    NEVER,
    Failure,
    Refusal,
    agent,
    attempts_asked,
    scripted,
    scripted_server,
)

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
UNDEFINED = TaskExecution.UNDEFINED
CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
MIB = 1024 * 1024


def resource(phase: Any, **more: Any) -> agent_pb2.Resource:
    return agent_pb2.Resource(phase=phase, **more)


async def step_until(propeller: FakePropeller, condition: Callable[[], object]) -> None:
    """Make rounds for as long as they are needed."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await propeller.step()


# A task's ordinary life


async def test_a_task_runs_on_a_real_host_from_create_to_its_outputs() -> None:
    async with running_server(Jobs()) as host, FakePropeller([host.address]) as propeller:
        task = propeller.submit("job", {"id": "seven"})
        await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED
    assert task.outputs == {"id": "seven"}
    assert [call.method for call in task.calls] == ["CreateTask", "GetTask"]


async def test_each_round_makes_one_call_about_a_task() -> None:
    states = [Phase.QUEUED, Phase.WAITING_FOR_RESOURCES, Phase.INITIALIZING, Phase.RUNNING, Phase.SUCCEEDED]
    async with scripted(get=states) as (server, propeller):
        task = propeller.submit("job")
        await propeller.step()
        assert task.phase is Phase.QUEUED
        assert not server.requests["GetTask"]
        for phase in states:
            await propeller.step()
            assert task.phase is phase
    assert task.phases == states


async def test_a_create_says_whose_task_it_is() -> None:
    workflow = Workflow("research", "production", "f00", "s3://data")
    async with scripted(engine={"workflow": workflow}) as (server, propeller):
        task = propeller.submit("job@0", {"n": 1}, path="n0/n3", max_attempts=2)
        await propeller.run_until_settled()
    (create,), (get,) = server.requests["CreateTask"], server.requests["GetTask"]
    execution_id = create.task_execution_metadata.task_execution_id
    assert execution_id.node_execution_id.execution_id == workflow.id
    assert execution_id.node_execution_id.node_id == "n3"
    assert execution_id.task_id == create.template.id
    assert create.task_execution_metadata.max_attempts == 2
    assert create.task_execution_metadata.namespace == "research-production"
    assert create.inputs == to_literal_map({"n": 1})
    assert create.output_prefix == get.output_prefix == "s3://data/research-production-f00/n0/n3/data/0"
    assert get.resource_meta == b"job"
    assert (get.task_type, get.task_category.name) == ("job", "job")
    assert task.prefix == "s3://data/research-production-f00/n0/n3/data/"


async def test_a_task_that_never_settles_is_described_after_so_many_rounds() -> None:
    async with scripted(get=[Phase.RUNNING]) as (_server, propeller):
        propeller.submit("job", path="n0")
        with pytest.raises(AssertionError, match=r"after 3 rounds.*\n- job at n0: RUNNING, attempt 0.*GetTask OK"):
            await propeller.run_until_settled(max_steps=3)


async def test_two_tasks_cannot_have_one_output_prefix() -> None:
    propeller = FakePropeller(["127.0.0.1:1"])
    propeller.submit("job", path="n0")
    with pytest.raises(ValueError, match="there is a task at 'n0'"):
        propeller.submit("job", path="n0")


# Fact 1 and the table: deadlines, connections, load balancing, pings


async def test_calls_to_the_default_deployment_carry_a_deadline_of_3_seconds() -> None:
    async with scripted() as (server, propeller):
        propeller.submit("job")
        await propeller.run_until_settled()
    for method in ("ListAgents", "CreateTask", "GetTask"):
        assert all(left is not None and 0 < left < 4 for left in server.deadlines[method])


async def test_calls_to_a_named_deployment_carry_no_deadline() -> None:
    async with scripted(named="gpu") as (server, propeller):
        propeller.submit("job")
        await propeller.run_until_settled()
    for method in ("ListAgents", "CreateTask", "GetTask"):
        assert set(server.deadlines[method]) == {None}


async def test_a_deadline_can_be_set_by_method() -> None:
    deadlines = {"GetTask": None}
    async with scripted(engine={"deadlines": deadlines}) as (server, propeller):
        propeller.submit("job")
        await propeller.run_until_settled()
    assert server.deadlines["GetTask"] == [None]
    assert server.deadlines["CreateTask"] != [None]


async def test_each_look_at_the_connectors_has_a_connection_of_its_own() -> None:
    async with scripted(get=[Phase.RUNNING]) as (server, propeller):
        propeller.submit("job")
        for _ in range(3):
            await propeller.step()
    assert len(set(server.peers["ListAgents"])) == 3
    assert len(set(server.peers["CreateTask"] + server.peers["GetTask"])) == 1


async def test_calls_go_round_between_replicas() -> None:
    async with (
        scripted_server(get=[Phase.RUNNING]) as one,
        scripted_server(get=[Phase.RUNNING]) as other,
        FakePropeller([one.address, other.address]) as propeller,
    ):
        propeller.submit("job")
        await step_until(propeller, lambda: one.requests["GetTask"] and other.requests["GetTask"])


async def test_a_deployment_may_move_to_other_addresses() -> None:
    async with (
        scripted_server(get=[Phase.RUNNING]) as old,
        scripted_server(get=[Phase.SUCCEEDED]) as new,
        FakePropeller([old.address]) as propeller,
    ):
        task = propeller.submit("job")
        await propeller.step()
        await propeller.step()
        await propeller.move([new.address])
        await propeller.step()
    assert task.phase is Phase.SUCCEEDED


@pytest.mark.parametrize("addresses", [["one.example:80", "two.example:80"], ["127.0.0.1:80", "[::1]:80"]])
async def test_addresses_that_cannot_be_one_deployment_are_refused(addresses: list[str]) -> None:
    async with FakePropeller(addresses) as propeller:
        with pytest.raises(ValueError, match="cannot be one deployment"):
            await propeller.step()


def test_an_engine_needs_a_server() -> None:
    with pytest.raises(ValueError, match="no server to call"):
        FakePropeller()


async def test_a_server_that_does_not_allow_the_pings_of_newer_engines_loses_the_call() -> None:
    async with scripted(create=[NEVER], named="named", engine={"ping_every": 0.01}) as (_server, propeller):
        task = propeller.submit("job", max_attempts=1)
        await propeller.step()
    assert task.calls[0].code is UNAVAILABLE
    assert "Too many pings" in task.message


# Fact 2: what CreateTask fails with makes no difference


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
async def test_a_create_that_fails_is_tried_again_as_the_next_attempt_whatever_its_status(
    code: grpc.StatusCode,
) -> None:
    async with scripted(create=[code, b"job"]) as (server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert attempts_asked(server) == [0, 1]
    assert [one.output_prefix for one in server.requests["CreateTask"]] == [f"{task.prefix}0", f"{task.prefix}1"]
    assert [call.code for call in task.calls_of("CreateTask")] == [code, grpc.StatusCode.OK]
    assert task.phase is Phase.SUCCEEDED


async def test_a_task_fails_when_its_attempts_are_used_up() -> None:
    refused = [grpc.StatusCode.INVALID_ARGUMENT]
    async with scripted(create=refused) as (server, propeller):
        task = propeller.submit("job", max_attempts=2)
        await propeller.run_until_settled()
        await propeller.step()
    assert attempts_asked(server) == [0, 1]
    assert task.phase is Phase.FAILED
    assert task.message == "INVALID_ARGUMENT as the script says"


# Fact 3: GetTask failures add up


async def test_six_failed_gets_without_a_status_fail_the_task_for_good() -> None:
    async with scripted(get=[UNAVAILABLE]) as (server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
        await propeller.step()
    assert task.phase is Phase.FAILED
    assert not task.is_stuck
    assert len(server.requests["GetTask"]) == 6
    assert attempts_asked(server) == [0]


async def test_the_sixth_failed_get_of_a_life_leaves_the_last_phase_for_ever() -> None:
    fails, runs = grpc.StatusCode.INTERNAL, Phase.RUNNING
    script = [fails, fails, runs, fails, runs, fails, fails, runs, fails, Phase.SUCCEEDED]
    async with scripted(get=script) as (server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
        await propeller.step()
    assert task.is_stuck
    assert task.is_settled
    assert task.phase is Phase.RUNNING
    assert task.attempt.failed_gets == 6
    assert len(server.requests["GetTask"]) == 9


async def test_five_failed_gets_are_survived() -> None:
    script = [*[grpc.StatusCode.CANCELLED] * 5, Phase.SUCCEEDED]
    async with scripted(get=script) as (_server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED


# Fact 4: phases


async def one_get(answer: agent_pb2.Resource | int, engine_version: tuple[int, int] = (1, 16)) -> EngineTask:
    """Start a task and look at it once."""
    answer = resource(answer) if isinstance(answer, int) else answer
    async with scripted(get=[answer], engine={"engine_version": engine_version, "max_attempts": 2}) as (
        _server,
        propeller,
    ):
        task = propeller.submit("job")
        await propeller.step()
        await propeller.step()
    return task


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.WAITING_FOR_RESOURCES, Phase.INITIALIZING, Phase.RUNNING])
async def test_a_phase_on_the_way_is_passed_on(phase: Phase) -> None:
    assert (await one_get(phase)).phase is phase


@pytest.mark.parametrize("phase", [Phase.ABORTED, Phase.FAILED])
async def test_aborted_and_failed_are_permanent(phase: Phase) -> None:
    task = await one_get(resource(phase, message="out of money"))
    assert task.phase is Phase.FAILED
    assert task.message == "out of money"
    assert task.phases == [phase]
    assert len(task.attempts) == 1


@pytest.mark.parametrize("phase", [Phase.RETRYABLE_FAILED, UNDEFINED])
async def test_a_retryable_failure_has_its_job_deleted_and_then_begins_a_new_attempt(phase: int) -> None:
    """UNDEFINED with nothing else is one."""
    async with scripted(create=[b"first", b"second"], get=[resource(phase)]) as (server, propeller):
        task = propeller.submit("job", max_attempts=2)
        await propeller.step()
        await propeller.step()
        assert task.attempt.number == 0
        await propeller.step()
        assert task.attempt.number == 1
        assert task.phase is Phase.QUEUED
        assert task.attempt.resource_meta is None
        assert [one.resource_meta for one in server.requests["DeleteTask"]] == [b"first"]


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        (agent_pb2.PENDING, Phase.INITIALIZING),
        (agent_pb2.RUNNING, Phase.RUNNING),
        (agent_pb2.SUCCEEDED, Phase.SUCCEEDED),
        (agent_pb2.PERMANENT_FAILURE, Phase.FAILED),
    ],
)
async def test_an_undefined_phase_lets_the_old_state_decide(state: agent_pb2.State, phase: Phase) -> None:
    assert (await one_get(resource(UNDEFINED, state=state))).phase is phase


@pytest.mark.parametrize(
    ("answer", "engine_version"), [(Phase.RETRYABLE_FAILED, (1, 15)), (99, (1, 16)), (resource(0, state=77), (1, 16))]
)
async def test_a_phase_that_the_engine_does_not_know_ends_the_workflow_after_ten_rounds(
    answer: agent_pb2.Resource | int, engine_version: tuple[int, int]
) -> None:
    answer = resource(answer) if isinstance(answer, int) else answer
    async with scripted(get=[answer], engine={"engine_version": engine_version}) as (server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert task.phase is Phase.FAILED
    assert "does not understand" in task.message
    assert len(server.requests["GetTask"]) == 10
    assert len(server.requests["DeleteTask"]) == 1


async def test_running_drops_the_message_and_the_phases_before_keep_it() -> None:
    assert (await one_get(resource(Phase.QUEUED, message="third in line"))).message == "third in line"
    assert (await one_get(resource(Phase.RUNNING, message="half way"))).message == ""


async def test_a_terminal_phase_ends_the_polling() -> None:
    async with scripted(get=[Phase.SUCCEEDED]) as (server, propeller):
        propeller.submit("job")
        await propeller.run_until_settled()
        await propeller.step()
    assert len(server.requests["GetTask"]) == 1


# Facts 5 and 6: the sync path, and the only use of AgentError


async def test_the_error_code_is_read_on_the_sync_path_only() -> None:
    failed = resource(Phase.FAILED, message="no", agent_error=agent_pb2.AgentError(code="E1"))
    agents = [agent("job"), agent("answer", is_sync=True)]
    async with scripted(*agents, get=[failed], execute=[failed]) as (_server, propeller):
        job, answer = propeller.submit("job"), propeller.submit("answer")
        await propeller.run_until_settled()
    assert (job.phase, job.message, job.error_code) == (Phase.FAILED, "no", "")
    assert (answer.phase, answer.message, answer.error_code) == (Phase.FAILED, "no", "E1")


async def test_a_sync_task_runs_on_a_real_host_within_one_round() -> None:
    async with running_server(Answers()) as host, FakePropeller([host.address]) as propeller:
        task = propeller.submit("answer", {"n": 3})
        await propeller.step()
    assert task.phase is Phase.SUCCEEDED
    assert task.outputs == {"n": 3}
    assert [call.method for call in task.calls] == ["ExecuteTaskSync"]


async def test_a_sync_call_sends_header_and_inputs_half_closes_reads_one_message_and_cancels() -> None:
    async with scripted(agent("answer", is_sync=True)) as (server, propeller):
        propeller.submit("answer")
        await propeller.step()
        await asyncio.wait_for(server.cancelled["ExecuteTaskSync"].wait(), PATIENCE)
    assert server.requests["ExecuteTaskSync"] == [["header", "inputs"]]


@pytest.mark.parametrize(
    "answer", [grpc.StatusCode.UNIMPLEMENTED, agent_pb2.ExecuteTaskSyncResponse(outputs=LiteralMap()), UNDEFINED]
)
async def test_a_sync_answer_that_is_none_is_tried_again(answer: object) -> None:
    answer = resource(UNDEFINED, state=agent_pb2.SUCCEEDED) if answer == UNDEFINED else answer
    script = [answer, Phase.SUCCEEDED]
    async with scripted(agent("answer", is_sync=True), execute=script) as (_server, propeller):
        task = propeller.submit("answer")
        await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED
    assert len(task.attempts) == 2


async def test_a_sync_call_that_is_refused_while_it_is_sent_is_tried_again() -> None:
    refused = [Refusal(grpc.StatusCode.PERMISSION_DENIED)]
    async with scripted(agent("answer", is_sync=True), execute=refused) as (_server, propeller):
        task = propeller.submit("answer", {"text": "x" * MIB}, max_attempts=5)
        await propeller.run_until_settled()
    assert len(task.attempts) == 5
    assert task.phase is Phase.FAILED
    # Where the refusal meets a message that is being written, gRPC for Python loses its status.
    assert {call.code for call in task.calls} <= {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INTERNAL}


async def test_a_sync_answer_that_is_not_final_is_never_asked_about() -> None:
    async with scripted(agent("answer", is_sync=True), execute=[Phase.RUNNING]) as (server, propeller):
        task = propeller.submit("answer")
        await propeller.run_until_settled()
    assert task.is_stuck
    assert task.phase is Phase.RUNNING
    assert not server.requests["GetTask"]


# Fact 7: the routing table


async def test_one_failed_look_at_the_connectors_un_routes_everything_of_that_server() -> None:
    failing = [LISTED, UNAVAILABLE, LISTED]
    async with scripted(agent("job"), agent("other"), list_agents=failing) as (_server, propeller):
        await propeller.poll_connectors()
        assert sorted(propeller.routes.listed) == ["job", "other"]
        task = propeller.submit("job")
        await propeller.step()
        assert propeller.routes.listed == {}
        assert task.calls == []
        await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED


async def test_a_look_at_the_connectors_that_takes_too_long_un_routes_everything() -> None:
    async with scripted(list_agents=[LISTED, NEVER], engine={"deadlines": {"ListAgents": 0.1}}) as (_server, propeller):
        await propeller.poll_connectors()
        # The first look may be late as well on a busy machine; the second one is for certain.
        await propeller.poll_connectors()
    assert propeller.routes.listed == {}


async def test_one_failing_server_leaves_the_routes_to_the_others() -> None:
    async with (
        scripted_server(agent("one")) as one,
        scripted_server(list_agents=[UNAVAILABLE]) as other,
        FakePropeller([one.address], named={"other": [other.address]}) as propeller,
    ):
        await propeller.poll_connectors()
    assert sorted(propeller.routes.listed) == ["one"]


async def test_a_task_type_that_nobody_serves_ends_the_workflow_after_ten_rounds() -> None:
    async with scripted() as (server, propeller):
        task = propeller.submit("nobodys")
        await propeller.run_until_settled()
    assert task.phase is Phase.FAILED
    assert "knows no connector for task type 'nobodys'" in task.message
    assert len(server.requests["ListAgents"]) >= 10
    assert not task.calls


async def test_a_running_job_that_is_un_routed_is_asked_about_at_the_default_deployment() -> None:
    async with (
        scripted_server(agent("other")) as default,
        scripted_server(list_agents=[LISTED, LISTED, UNAVAILABLE], get=[Phase.RUNNING]) as named,
        FakePropeller([default.address], named={"named": [named.address]}) as propeller,
    ):
        task = propeller.submit("job")
        for _ in range(3):
            await propeller.step()
    assert [call.deployment for call in task.calls] == ["named", "named", "default"]


async def test_a_running_job_that_is_un_routed_without_a_default_deployment_counts_as_a_failed_get() -> None:
    listing = [LISTED, LISTED, UNAVAILABLE]
    async with scripted(list_agents=listing, get=[Phase.RUNNING], named="named") as (server, propeller):
        task = propeller.submit("job")
        for _ in range(3):
            await propeller.step()
    assert len(server.requests["GetTask"]) == 1
    assert task.attempt.failed_gets == 1


async def test_the_last_version_of_a_task_type_wins() -> None:
    agents = [agent("job@2", task_types=["job"]), agent("job@5"), agent("job@1", is_sync=True)]
    async with scripted(*agents) as (_server, propeller):
        latest, older = propeller.submit("job@1"), propeller.submit("job@5")
        await propeller.run_until_settled()
    assert [call.method for call in latest.calls] == ["ExecuteTaskSync"]
    assert list(propeller.routes.listed["job"]) == [1]
    # Another version is not found in the table, and falls to the default deployment, as async.
    assert [call.method for call in older.calls] == ["CreateTask", "GetTask"]


async def test_a_server_that_lists_names_only_is_asked_for_version_0() -> None:
    async with scripted(agent(task_types=["job"])) as (_server, propeller):
        await propeller.poll_connectors()
    assert list(propeller.routes.listed["job"]) == [0]


# Fact 8: static routing


async def test_a_statically_configured_task_type_is_called_as_async_even_if_its_connector_is_sync() -> None:
    static = ["answer"]
    async with running_server(Answers()) as host, FakePropeller([host.address], static_task_types=static) as propeller:
        task = propeller.submit("answer", {"n": 3})
        await propeller.run_until_settled()
    assert [call.method for call in task.calls] == ["CreateTask", "GetTask"]
    assert task.outputs == {"n": 3}


async def test_a_statically_configured_task_type_needs_no_listing() -> None:
    async with scripted_server(list_agents=[grpc.StatusCode.UNIMPLEMENTED]) as server:
        named = {"old": Deployment([server.address], task_types=["job"])}
        async with FakePropeller(named=named) as propeller:
            task = propeller.submit("job")
            await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED


async def test_a_named_deployment_is_found_by_its_dns_name() -> None:
    async with scripted_server() as server:
        port = server.address.rpartition(":")[2]
        async with FakePropeller(named={"named": [f"localhost:{port}"]}) as propeller:
            task = propeller.submit("job")
            await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED


# Fact 9: DeleteTask


async def test_an_aborted_task_has_its_job_deleted_without_a_word_about_its_output_prefix() -> None:
    async with scripted(get=[Phase.RUNNING]) as (server, propeller):
        task = propeller.submit("job")
        await propeller.step()
        propeller.abort(task)
        await propeller.run_until_settled()
    assert task.phase is Phase.ABORTED
    (delete,) = server.requests["DeleteTask"]
    assert delete == agent_pb2.DeleteTaskRequest(
        task_type="job", task_category=agent_pb2.TaskCategory(name="job"), resource_meta=b"job"
    )


async def test_a_job_may_be_deleted_twice() -> None:
    async with scripted() as (server, propeller):
        task = propeller.submit("job")
        await propeller.step()
        propeller.abort(task, times=2)
        await propeller.run_until_settled()
    assert task.phase is Phase.ABORTED
    assert len(server.requests["DeleteTask"]) == 2


async def test_a_job_that_has_ended_may_be_deleted_before_the_engine_knows() -> None:
    async with running_server(Jobs()) as host, FakePropeller([host.address]) as propeller:
        task = propeller.submit("job")
        await propeller.step()
        assert (await propeller.get(task)).resource == resource(Phase.SUCCEEDED, outputs=to_literal_map({"id": "1"}))
        propeller.abort(task)
        await propeller.run_until_settled()
        assert (await propeller.delete(task)).code is grpc.StatusCode.OK
    assert task.phase is Phase.ABORTED


async def test_a_task_without_a_job_is_aborted_without_a_call() -> None:
    async with scripted() as (_server, propeller):
        task = propeller.submit("job")
        propeller.abort(task)
        await propeller.run_until_settled()
        with pytest.raises(ValueError, match="there is no job"):
            await propeller.delete(task)
    assert task.phase is Phase.ABORTED
    assert not task.calls


async def test_a_task_that_has_ended_is_not_aborted() -> None:
    async with scripted() as (server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
        propeller.abort(task)
        await propeller.step()
    assert task.phase is Phase.SUCCEEDED
    assert not server.requests["DeleteTask"]


async def test_a_stuck_task_can_be_aborted() -> None:
    script = [Phase.RUNNING, UNAVAILABLE]
    async with scripted(get=script) as (_server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
        assert task.is_stuck
        propeller.abort(task)
        await propeller.run_until_settled()
    assert task.phase is Phase.ABORTED
    assert not task.is_stuck


async def test_a_delete_that_fails_is_sent_again() -> None:
    done = agent_pb2.DeleteTaskResponse()
    async with scripted(delete=[UNAVAILABLE, done]) as (_server, propeller):
        task = propeller.submit("job")
        await propeller.step()
        propeller.abort(task)
        await propeller.run_until_settled()
    assert task.phase is Phase.ABORTED
    assert [call.code for call in task.calls_of("DeleteTask")] == [UNAVAILABLE, grpc.StatusCode.OK]


async def test_a_delete_that_keeps_failing_fails_the_execution_after_eleven_rounds() -> None:
    async with scripted(delete=[UNAVAILABLE]) as (server, propeller):
        task = propeller.submit("job")
        await propeller.step()
        propeller.abort(task)
        await propeller.run_until_settled()
    assert task.phase is Phase.FAILED
    assert "abort failed" in task.message
    assert len(server.requests["DeleteTask"]) == 11


async def test_a_task_that_the_engine_has_lost_is_never_called_for() -> None:
    async with scripted(get=[Phase.RUNNING]) as (_server, propeller):
        task = propeller.submit("job")
        await propeller.step()
        propeller.forget(task)
        await propeller.run_until_settled()
        await propeller.step()
    assert task.is_settled
    assert [call.method for call in task.calls] == ["CreateTask"]


# Fact 10: sizes


@pytest.mark.parametrize(
    ("size", "code"), [(3 * MIB, grpc.StatusCode.OK), (5 * MIB, grpc.StatusCode.RESOURCE_EXHAUSTED)]
)
async def test_outputs_over_4_mib_fail_in_the_client(size: int, code: grpc.StatusCode) -> None:
    large = resource(Phase.SUCCEEDED, outputs=to_literal_map({"text": "x" * size}))
    async with scripted(get=[large]) as (_server, propeller):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert task.calls_of("GetTask")[0].code is code
    assert task.phase is (Phase.SUCCEEDED if code is grpc.StatusCode.OK else Phase.FAILED)


async def test_a_sync_answer_over_4_mib_fails_in_the_client() -> None:
    large = resource(Phase.SUCCEEDED, outputs=to_literal_map({"text": "x" * 5 * MIB}))
    async with scripted(agent("answer", is_sync=True), execute=[large]) as (_server, propeller):
        task = propeller.submit("answer", max_attempts=1)
        await propeller.run_until_settled()
    assert task.calls[0].code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert task.phase is Phase.FAILED


async def test_details_of_20_kb_turn_internal_into_resource_exhausted() -> None:
    wordy = Failure(grpc.StatusCode.INTERNAL, "x" * 20_000)
    async with scripted(create=[wordy]) as (_server, propeller):
        task = propeller.submit("job", max_attempts=1)
        await propeller.run_until_settled()
    assert task.calls[0].code is grpc.StatusCode.RESOURCE_EXHAUSTED


# Fact 12: creates that are repeated


async def test_a_create_that_passes_its_deadline_is_tried_again_while_the_first_may_go_on() -> None:
    async with scripted(create=[NEVER, b"second"], engine={"deadlines": {"CreateTask": 0.1}}) as (server, propeller):
        task = propeller.submit("job", max_attempts=50)
        await step_until(propeller, lambda: task.attempt.resource_meta)
    assert task.attempt.resource_meta == b"second"
    assert task.calls[0].code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert attempts_asked(server)[:2] == [0, 1]


async def test_the_moment_of_a_deadline_can_be_chosen_by_the_test() -> None:
    async with scripted(create=[NEVER, b"second"]) as (server, propeller):
        propeller.faults.cut("CreateTask", lambda: eventually(lambda: server.requests["CreateTask"]))
        task = propeller.submit("job")
        await propeller.run_until_settled()
        await asyncio.wait_for(server.cancelled["CreateTask"].wait(), PATIENCE)
    assert [call.code.name for call in task.calls_of("CreateTask")] == ["DEADLINE_EXCEEDED", "OK"]
    assert attempts_asked(server) == [0, 1]


async def test_an_answer_that_is_there_in_time_is_not_cut() -> None:
    async with scripted() as (_server, propeller):
        propeller.faults.cut("CreateTask", asyncio.Event().wait)
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED
    assert len(task.attempts) == 1


async def test_an_engine_that_could_not_save_its_state_repeats_the_same_attempt_after_an_ok() -> None:
    create = [b"first", b"second"]
    async with scripted(create=create) as (server, propeller):
        propeller.faults.fail_to_save()
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert attempts_asked(server) == [0, 0]
    assert server.requests["CreateTask"][0] == server.requests["CreateTask"][1]
    assert server.requests["GetTask"][0].resource_meta == b"second"
    assert task.phase is Phase.SUCCEEDED


async def test_an_engine_that_could_not_save_its_state_repeats_a_sync_call_too() -> None:
    async with scripted(agent("answer", is_sync=True)) as (server, propeller):
        propeller.faults.fail_to_save(times=2)
        task = propeller.submit("answer")
        await propeller.run_until_settled()
    assert len(server.requests["ExecuteTaskSync"]) == 3
    assert len(task.attempts) == 1


async def test_a_request_can_be_lost_and_so_can_a_reply() -> None:
    async with scripted() as (server, propeller):
        task, untouched = propeller.submit("job"), propeller.submit("job")
        propeller.faults.lose_request("CreateTask", task=task)
        propeller.faults.lose_reply("CreateTask", task=task)
        await propeller.run_until_settled()
    assert [call.code for call in task.calls_of("CreateTask")] == [UNAVAILABLE, UNAVAILABLE, grpc.StatusCode.OK]
    assert sorted(attempts_asked(server)) == [0, 1, 2]
    assert len(untouched.attempts) == 1


async def test_trouble_without_an_end_lasts_until_it_is_cleared() -> None:
    async with scripted() as (_server, propeller):
        task = propeller.submit("job")
        propeller.faults.lose_request("ListAgents", times=None)
        for _ in range(3):
            await propeller.step()
        assert not task.calls
        propeller.faults.clear()
        await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED


# Fact 14: calls that nobody picks up


async def test_calls_that_a_blocked_server_dropped_look_like_any_failure() -> None:
    dropped = grpc.StatusCode.CANCELLED
    async with scripted(get=[dropped], list_agents=[LISTED, LISTED, dropped]) as (_server, propeller):
        task = propeller.submit("job")
        for _ in range(3):
            await propeller.step()
    assert task.attempt.failed_gets == 2
    assert propeller.routes.listed == {}


# Fact 16: equal ids


async def test_tasks_in_different_places_may_send_equal_ids_with_different_output_prefixes() -> None:
    async with scripted() as (server, propeller):
        for path in ("n0/n5", "n1/n5"):
            propeller.submit("job", path=path)
        await propeller.run_until_settled()
    first, second = server.requests["CreateTask"]
    assert first.task_execution_metadata == second.task_execution_metadata
    assert first.output_prefix != second.output_prefix


# Silence


async def test_an_engine_that_falls_silent_asks_and_deletes_nothing_and_goes_on_where_it_was() -> None:
    async with scripted() as (server, propeller):
        task = propeller.submit("job")
        await propeller.step()
        await propeller.go_down()
        with pytest.raises(RuntimeError, match="the engine is down"):
            await propeller.step()
        assert [method for method in server.requests if server.requests[method]] == ["ListAgents", "CreateTask"]
        propeller.come_back()
        await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED
    assert attempts_asked(server) == [0]


async def test_an_engine_that_falls_silent_in_a_create_repeats_the_same_attempt_afterwards() -> None:
    async with scripted(create=[NEVER, b"job"]) as (server, propeller):
        task = propeller.submit("job")
        propeller.faults.cut("CreateTask", asyncio.Event().wait)
        under_way = asyncio.create_task(propeller.step())
        await eventually(lambda: server.requests["CreateTask"])
        await propeller.go_down()
        await under_way
        propeller.come_back()
        await propeller.run_until_settled()
    assert attempts_asked(server) == [0, 0]
    assert task.calls[0].code is grpc.StatusCode.CANCELLED
    assert task.phase is Phase.SUCCEEDED


# Rounds


async def test_a_round_may_begin_while_a_call_of_another_is_under_way() -> None:
    async with scripted(create=[NEVER, b"job"], named="named") as (server, propeller):
        slow = propeller.submit("job")
        under_way = asyncio.create_task(propeller.step())
        await eventually(lambda: server.requests["CreateTask"])
        quick = propeller.submit("job")
        await step_until(propeller, lambda: quick.is_settled)
        assert not slow.calls
        assert not under_way.done()
        under_way.cancel()
        await asyncio.wait({under_way})
    assert quick.phase is Phase.SUCCEEDED


async def test_calls_under_way_are_waited_for_where_nothing_else_is_left() -> None:
    async with scripted(create=[NEVER], get=[Phase.SUCCEEDED], engine={"deadline": 0.2}) as (server, propeller):
        task = propeller.submit("job", max_attempts=1)
        earlier = asyncio.create_task(propeller.step())
        await eventually(lambda: server.requests["CreateTask"])
        await propeller.run_until_settled(max_steps=20)
        await earlier
    assert task.phase is Phase.FAILED


async def test_only_so_many_gets_are_made_at_once() -> None:
    running: set[str] = set()
    most = 0

    async def get(resource_meta: JobMeta) -> Resource:
        nonlocal most
        running.add(resource_meta.job_id)
        most = max(most, len(running))
        for _ in range(20):
            await asyncio.sleep(0)
        running.remove(resource_meta.job_id)
        return Resource(Phase.SUCCEEDED)

    async with running_server(Jobs(get=get)) as host, FakePropeller([host.address], workers=2) as propeller:
        for number in range(10):
            propeller.submit("job", {"id": number})
        await propeller.run_until_settled()
    assert 1 <= most <= 2


async def test_what_goes_on_between_rounds_is_the_tests_to_say() -> None:
    rounds: list[int] = []

    async def pace() -> None:
        rounds.append(len(rounds))

    async with scripted(engine={"pace": pace}) as (_server, propeller):
        propeller.submit("job")
        await propeller.run_until_settled()
    assert rounds == [0, 1]
