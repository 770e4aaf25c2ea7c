"""The fake engine of the 2.x line, and what both lines make of one host."""

from typing import Any

import pytest
from flyteidl.admin.agent_pb2 import Resource as FlyteResource
from flyteidl.admin.agent_pb2 import TaskExecutionMetadata

from connector_core import Connection, PermanentError, Phase, Resource
from connector_core.secrets import SecretStr
from connector_core.testing import FakePropeller, running_server
from connector_core.testing.propeller.phases import Verdict, read_resource
from tests.fakes import Answers, JobMeta, Jobs

V2 = (2, 0)
both_lines = pytest.mark.parametrize("engine_version", [(1, 16), V2], ids=["1.x", "2.x"])


async def test_a_task_runs_from_create_to_its_outputs() -> None:
    async with running_server(Jobs()) as host, FakePropeller([host.address], engine_version=V2) as propeller:
        task = propeller.submit("job", {"id": "seven"})
        await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED
    assert task.outputs == {"id": "seven"}
    assert [call.method for call in task.calls] == ["CreateTask", "GetTask"]


async def test_a_create_says_whose_task_it_is_as_engines_of_the_2_line_do() -> None:
    seen: list[Any] = []

    def create(task_execution_metadata: TaskExecutionMetadata, output_prefix: str) -> JobMeta:
        seen.append((task_execution_metadata.task_execution_id, output_prefix))
        return JobMeta("1")

    def get() -> Resource:
        return Resource(Phase.RETRYABLE_FAILED if len(seen) == 1 else Phase.SUCCEEDED)

    connector = Jobs(create=create, get=get)
    async with running_server(connector) as host, FakePropeller([host.address], engine_version=V2) as propeller:
        task = propeller.submit("job", path="a0")
        await propeller.run_until_settled()
    (first, first_prefix), (second, second_prefix) = seen
    assert task.phase is Phase.SUCCEEDED
    assert not first.HasField("task_id")
    assert first.node_execution_id.node_id == "a0"
    assert [first.retry_attempt, second.retry_attempt] == [0, 1]
    assert [first_prefix, second_prefix] == [f"{task.prefix}1", f"{task.prefix}2"]


async def test_a_sync_connector_is_called_as_an_async_one() -> None:
    async with running_server(Answers()) as host, FakePropeller([host.address], engine_version=V2) as propeller:
        task = propeller.submit("answer", {"x": 5})
        await propeller.run_until_settled()
    assert task.outputs == {"x": 5}
    assert [call.method for call in task.calls] == ["CreateTask", "GetTask"]


async def test_every_call_about_a_job_brings_the_connection() -> None:
    connection = Connection({"token": SecretStr("of the user")}, {"account": "sales"}, "job")
    seen: list[tuple[str, Connection]] = []

    def create(connection: Connection) -> JobMeta:
        seen.append(("create", connection))
        return JobMeta("1")

    def get(connection: Connection) -> Resource:
        seen.append(("get", connection))
        return Resource(Phase.RUNNING)

    def delete(connection: Connection) -> None:
        seen.append(("delete", connection))

    async with (
        running_server(Jobs(create=create, get=get, delete=delete)) as host,
        FakePropeller([host.address], engine_version=V2, connection=connection) as propeller,
    ):
        task = propeller.submit("job")
        await propeller.step()
        await propeller.step()
        propeller.abort(task)
        await propeller.run_until_settled()
    assert seen == [("create", connection), ("get", connection), ("delete", connection)]


async def test_all_versions_of_a_task_type_are_known() -> None:
    """Engines of the 1.x line know the last one in the list alone."""
    connector = Jobs(task_categories=["job", "job@1"])
    async with running_server(connector) as host, FakePropeller([host.address], engine_version=V2) as propeller:
        tasks = [propeller.submit("job"), propeller.submit("job@1")]
        await propeller.run_until_settled()
        assert sorted(propeller.routes.listed["job"]) == [0, 1]
    assert {task.phase for task in tasks} == {Phase.SUCCEEDED}


@both_lines
async def test_what_fails_for_good_fails_with_its_message(engine_version: tuple[int, int]) -> None:
    def create() -> JobMeta:
        raise PermanentError("no such table")

    connector = Jobs(create=create)
    async with (
        running_server(connector) as host,
        FakePropeller([host.address], engine_version=engine_version) as propeller,
    ):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert task.phase is Phase.FAILED
    assert "no such table" in task.message
    assert len(task.attempts) == 1


@pytest.mark.parametrize(
    ("engine_version", "told", "attempts"),
    [
        ((1, 15), "phase", 1),  # an unknown phase, ten times in a row, ends the workflow
        ((1, 15), "state", 2),
        ((1, 16), "phase", 2),
        ((1, 16), "state", 2),
        (V2, "phase", 2),
        (V2, "state", 2),
    ],
)
async def test_a_failure_that_may_be_tried_again_is_by_engines_that_are_told_in_their_way(
    engine_version: tuple[int, int], told: str, attempts: int
) -> None:
    created: list[str] = []

    def create(idempotency_key: str) -> JobMeta:
        created.append(idempotency_key)
        return JobMeta(str(len(created)))

    def get(resource_meta: JobMeta) -> Resource:
        return Resource(Phase.RETRYABLE_FAILED if resource_meta.job_id == "1" else Phase.SUCCEEDED, message="preempted")

    async with (
        running_server(Jobs(create=create, get=get), settings={"retryable_failures": told}) as host,
        FakePropeller([host.address], engine_version=engine_version, max_attempts=2) as propeller,
    ):
        task = propeller.submit("job")
        await propeller.run_until_settled()
    assert len(created) == len(task.attempts) == attempts
    assert task.phase is (Phase.SUCCEEDED if attempts == 2 else Phase.FAILED)


@both_lines
async def test_a_sync_task_that_may_be_tried_again_is(engine_version: tuple[int, int]) -> None:
    phases = [Phase.RETRYABLE_FAILED, Phase.SUCCEEDED]
    connector = Answers(do=lambda: Resource(phases.pop(0)))
    async with (
        running_server(connector, settings={"retryable_failures": "state"}) as host,
        FakePropeller([host.address], engine_version=engine_version) as propeller,
    ):
        task = propeller.submit("answer")
        await propeller.run_until_settled()
    assert (task.phase, len(task.attempts)) == (Phase.SUCCEEDED, 2)


def test_no_phase_means_nothing_to_an_engine_of_the_2_line() -> None:
    """Which is why none is ever sent to one."""
    assert read_resource(FlyteResource(), V2, is_sync=False).verdict is Verdict.UNREADABLE
    assert read_resource(FlyteResource(), (1, 16), is_sync=False).verdict is Verdict.RETRYABLE


async def test_engines_of_both_lines_share_a_host() -> None:
    async with (
        running_server(Jobs(), Answers()) as host,
        FakePropeller([host.address]) as first,
        FakePropeller([host.address], engine_version=V2) as second,
    ):
        tasks = [engine.submit(kind, {"id": "7"}) for engine in (first, second) for kind in ("job", "answer")]
        for engine in (first, second):
            await engine.run_until_settled()
    assert [task.outputs for task in tasks] == [{"id": "7"}] * 4
