"""A DeleteTask that can never succeed is given up after a while, loudly: engines of the 2.x line repeat it for ever."""

import logging
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.admin import agent_pb2

from connector_core import PermanentError, TransientError
from connector_core.errors import InvalidRequestError, InvalidResourceMetaError
from connector_core.jobs.deletes import Deletes
from connector_core.jobs.memory_process import ProcessMemory
from connector_core.protocol.statuses import GIVEN_UP
from connector_core.testing import RunningServer
from tests.fakes import JobMeta, Jobs
from tests.support.generations import running_server
from tests.support.rpc import refusal

pytestmark = pytest.mark.usefixtures("spoken")

JOB = JobMeta("job-1").encode()
AT_ONCE = {"delete_patience": 0}


def refusing(error: BaseException) -> Jobs:
    def delete() -> None:
        raise error

    return Jobs("job", delete=delete)


async def given_up(host: RunningServer, task_type: str = "job", resource_meta: bytes = JOB) -> str:
    """Call DeleteTask, which must end OK, and return why it was given up."""
    category = agent_pb2.TaskCategory(name=task_type)
    call = host.async_stub.DeleteTask(
        agent_pb2.DeleteTaskRequest(task_category=category, task_type=task_type, resource_meta=resource_meta)
    )
    await call
    trailing = await call.trailing_metadata()
    return "".join(str(value) for key, value in trailing or () if key == GIVEN_UP)


async def test_a_failing_delete_stays_an_error_within_its_patience() -> None:
    async with running_server(refusing(TransientError("busy"))) as host:
        for _try in range(3):
            error = await refusal(host.delete("job", JOB))
            assert error.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("error", [TransientError("busy"), PermanentError("not allowed"), ValueError("no")])
async def test_after_its_patience_it_is_answered_ok_and_told_to_everybody(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_server(refusing(error), settings=AT_ONCE) as host:
        assert str(error) in await given_up(host)
        counted = host.metric(
            "flyte_connector_deletes_given_up", plugin="test-job connector", connector="job connector"
        )
    assert counted == 1
    logged = [record for record in caplog.records if "delete given up; the job may still run" in record.getMessage()]
    assert [record.levelno for record in logged] == [logging.ERROR]
    assert "connector job connector" in logged[0].getMessage()


async def test_a_task_type_that_nothing_serves_any_more_is_given_up_too() -> None:
    async with running_server(Jobs("job"), settings=AT_ONCE) as host:
        assert "no connector serves task type 'gone'" in await given_up(host, "gone")


async def test_a_resource_meta_that_cannot_be_read_describes_no_job_and_is_given_up_at_once() -> None:
    async with running_server(Jobs("job")) as host:
        assert "resource meta" in await given_up(host, resource_meta=b"not JSON")


async def test_with_signing_on_a_bad_signature_is_an_error_until_then() -> None:
    signing = {"signing": {"keys": ["a key of sixteen or more"]}}
    async with running_server(Jobs("job"), settings=signing) as host:
        assert (await refusal(host.delete("job", JOB))).code() is grpc.StatusCode.PERMISSION_DENIED
    async with running_server(Jobs("job"), settings={**signing, **AT_ONCE}) as host:
        assert "not signed" in await given_up(host)


async def test_a_deletion_that_succeeds_tells_nothing() -> None:
    async with running_server(Jobs("job"), settings=AT_ONCE) as host:
        assert await given_up(host) == ""


@pytest.mark.of_the_first_generation
async def test_the_clients_delete_returns_why() -> None:
    async with running_server(refusing(TransientError("busy")), settings=AT_ONCE) as host:
        from connector_core.task import TaskCategory

        assert "busy" in await host.client.delete(TaskCategory("job"), JOB)


class TestPatience:
    """The count of time, without a server."""

    @pytest.fixture
    def clock(self) -> list[float]:
        return [1_000_000.0]

    @pytest.fixture
    def deletes(self, clock: list[float]) -> Deletes:
        return Deletes(ProcessMemory(1_000_000), 600, clock=lambda: clock[0])

    @pytest.mark.of_the_first_generation
    async def test_it_counts_from_the_first_failure_of_that_job(self, deletes: Deletes, clock: list[float]) -> None:
        async def failed(meta: bytes = b"1", task_type: str = "job", error: Any = None) -> bool:
            return await deletes.is_given_up(task_type, meta, error or TransientError("busy"))

        assert not await failed()
        clock[0] += 599
        assert not await failed()
        assert not await failed(b"2")
        assert not await failed(task_type="other")
        clock[0] += 1
        assert await failed()
        assert not await failed(b"2")
        assert not await failed(b"3", error=InvalidRequestError("a newer host wrote it"))
        assert await failed(b"4", error=InvalidResourceMetaError("no JSON"))

    @pytest.mark.of_the_first_generation
    async def test_what_cannot_be_read_was_just_now(self, clock: list[float]) -> None:
        memory = ProcessMemory(1_000_000)
        deletes = Deletes(memory, 600, clock=lambda: clock[0])
        await deletes.is_given_up("job", b"1", TransientError("busy"))
        (key,) = memory.at_once._entries
        await memory.put(key, b"garbage", 1000)
        clock[0] += 10_000
        assert not await deletes.is_given_up("job", b"1", TransientError("busy"))
