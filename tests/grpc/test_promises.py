"""A sync connector's `do` that takes longer than the engine waits for a create is run once, and its result is polled for."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from connector_core import PermanentError, Phase, Resource, TransientError
from connector_core.testing import FakePropeller, RunningServer
from connector_core.testing import running_server as in_the_first_generation
from tests.fakes import PATIENCE, Answers, Gate, Never, eventually, happens
from tests.support.generations import running_server
from tests.support.redis_server import running_redis
from tests.support.rpc import refusal

pytestmark = pytest.mark.usefixtures("spoken")

PREFIX = "s3://bucket/f00/n0/data/0"
DEADLINES = (0.2, 1, 5, PATIENCE)
"""A client's deadlines, in seconds, for a `do` that waits for the test: a busy machine needs a longer one to answer in time."""


class Slow:
    """A `do` that waits at a gate, then does what a test wants."""

    def __init__(self, *errors: Exception) -> None:
        self.gate = Gate()
        self.calls = 0
        self._errors = [*errors]

    def do(self, inputs: dict[str, Any]) -> Resource:
        self.calls += 1
        self.gate.block()
        if self._errors:
            raise self._errors.pop(0)
        return Resource(Phase.SUCCEEDED, outputs=inputs)

    def connector(self) -> Answers:
        return Answers(do=self.do)


async def promised(host: RunningServer, prefix: str = PREFIX) -> bytes:
    """Make a create whose client has a deadline, and return its answer; one that comes too late is asked for again."""
    for deadline in DEADLINES:
        try:
            return await host.create("answer", {"x": 5}, output_prefix=prefix, timeout=deadline)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
    raise AssertionError(f"no answer within {DEADLINES[-1]} s")


async def phase(host: RunningServer, resource_meta: bytes) -> Phase:
    return Phase((await host.get("answer", resource_meta)).phase)


async def comes_to(host: RunningServer, resource_meta: bytes) -> Any:
    """Poll until the job is over."""
    async with asyncio.timeout(PATIENCE):
        while True:
            resource = await host.get("answer", resource_meta)
            if Phase(resource.phase).is_terminal:
                return resource


@pytest.fixture(params=["process", "sqlite", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Each memory."""
    if request.param == "redis":
        with running_redis() as redis:
            yield {"memory": {"kind": "redis", "url": redis.url}}
        return
    yield {"memory": {"kind": request.param, "path": tmp_path / "memory.sqlite"}}


async def test_it_is_promised_in_time_then_polled_for(settings: dict[str, Any]) -> None:
    slow = Slow()
    async with running_server(slow.connector(), settings=settings) as host:
        meta = await promised(host)
        assert await phase(host, meta) is Phase.RUNNING
        slow.gate.open()
        resource = await comes_to(host, meta)
        assert Phase(resource.phase) is Phase.SUCCEEDED
        assert resource.outputs.literals["x"].scalar.primitive.integer == 5
        assert await host.get("answer", meta) == resource
    assert slow.calls == 1


async def test_the_same_attempt_again_joins_what_is_under_way_and_gets_its_result_once_it_is_there() -> None:
    slow = Slow()
    async with running_server(slow.connector()) as host:
        first, again = await promised(host), await promised(host)
        slow.gate.open()
        for meta in (first, again):
            assert Phase((await comes_to(host, meta)).phase) is Phase.SUCCEEDED
        assert await phase(host, await promised(host)) is Phase.SUCCEEDED
    assert slow.calls == 1


async def test_other_attempts_have_results_of_their_own() -> None:
    slow = Slow(PermanentError("no such model"))
    async with running_server(slow.connector(), settings={"workers": 1}) as host:
        first = await promised(host)
        second = await promised(host, "s3://bucket/f00/n1/data/0")
        slow.gate.open()
        assert Phase((await comes_to(host, first)).phase) is Phase.FAILED
        assert Phase((await comes_to(host, second)).phase) is Phase.SUCCEEDED


@pytest.mark.parametrize("failures", ["resource", "status"])
async def test_a_failure_for_good_is_the_jobs(failures: str) -> None:
    slow = Slow(PermanentError("no such model"))
    async with running_server(slow.connector(), settings={"permanent_create_failures": failures}) as host:
        meta = await promised(host)
        slow.gate.open()
        resource = await comes_to(host, meta)
    assert Phase(resource.phase) is Phase.FAILED
    assert resource.message == "plugin 'test-answer connector', do(): no such model"


@pytest.mark.parametrize("error", [TransientError("away"), RuntimeError("away")], ids=repr)
async def test_one_that_may_be_tried_again_says_so_and_is_logged(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Slow(error)
    async with running_server(slow.connector()) as host:
        meta = await promised(host)
        slow.gate.open()
        resource = await comes_to(host, meta)
        assert Phase(resource.phase) is Phase.RETRYABLE_FAILED
        assert resource.message.startswith("plugin 'test-answer connector', do(): ")
        assert resource.message.endswith("away")
    assert "create failed after its caller had gone: plugin test-answer connector" in caplog.text


async def test_what_is_deleted_meanwhile_is_cancelled() -> None:
    never = Never()
    async with running_server(Answers(do=never.wait)) as host:
        meta = await promised(host)
        await host.delete("answer", meta)
        await happens(never.cancelled)
        assert Phase((await comes_to(host, meta)).phase) is Phase.ABORTED
        await host.delete("answer", meta)


async def test_what_a_stopped_host_had_promised_may_be_tried_again(tmp_path: Path) -> None:
    settings = {"memory": {"kind": "sqlite", "path": tmp_path / "memory.sqlite"}}
    never = Never()
    async with running_server(Answers(do=never.wait), settings=settings) as host:
        meta = await promised(host)
        await host.server.jobs.creates.close(0)
    async with running_server(Answers(), settings=settings) as host:
        resource = await host.get("answer", meta)
    assert Phase(resource.phase) is Phase.RETRYABLE_FAILED
    assert resource.message == "the host stopped before do() had ended"


async def test_a_replica_that_shares_the_memory_knows_what_another_one_runs() -> None:
    slow = Slow()
    with running_redis() as redis:
        settings = {"memory": {"kind": "redis", "url": redis.url}}
        async with (
            running_server(slow.connector(), settings=settings) as a,
            running_server(slow.connector(), settings=settings) as b,
        ):
            meta = await promised(a)
            assert await phase(b, meta) is Phase.RUNNING
            slow.gate.open()
            assert Phase((await comes_to(b, meta)).phase) is Phase.SUCCEEDED
    assert slow.calls == 1


async def test_a_host_that_knows_nothing_of_it_waits_no_longer_than_it_could_take() -> None:
    """It may run at another replica, whose answer is polled for as well, or be lost with a host that has ended."""
    slow = Slow()
    async with running_server(slow.connector()) as host, running_server(slow.connector()) as another:
        meta = await promised(host)
        assert await phase(another, meta) is Phase.RUNNING
        another.server.jobs.creates.promises._clock = lambda: 2e10
        resource = await another.get("answer", meta)
        assert Phase(resource.phase) is Phase.RETRYABLE_FAILED
        assert "does not know of it any more" in resource.message
        slow.gate.open()
        assert Phase((await comes_to(host, meta)).phase) is Phase.SUCCEEDED


async def test_with_signing_on_promises_are_signed() -> None:
    slow = Slow()
    settings = {"signing": {"keys": ["a key of this host's operator"]}}
    async with running_server(slow.connector(), settings=settings) as host:
        meta = await promised(host)
        slow.gate.open()
        assert Phase((await comes_to(host, meta)).phase) is Phase.SUCCEEDED
        forged = await refusal(host.get("answer", meta[-60:]))
        assert forged.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_client_without_a_deadline_waits_for_the_result_itself() -> None:
    slow = Slow()
    async with running_server(slow.connector()) as host:
        call = asyncio.create_task(host.create("answer", {"x": 5}, output_prefix=PREFIX))
        await slow.gate.reached()
        slow.gate.open()
        assert await phase(host, await call) is Phase.SUCCEEDED


@pytest.mark.of_the_first_generation
@pytest.mark.parametrize("engine_version", [(1, 16), (2, 0)], ids=["1.x", "2.x"])
async def test_the_engine_gets_it_with_its_first_attempt(engine_version: tuple[int, int]) -> None:
    slow = Slow()
    async with (
        in_the_first_generation(slow.connector()) as host,
        FakePropeller(
            [host.address],
            engine_version=engine_version,
            deadlines={"CreateTask": 2},
            static_task_types=["answer"],
        ) as propeller,
    ):
        task = propeller.submit("answer", {"x": 5})
        settled = asyncio.create_task(propeller.run_until_settled())
        await eventually(lambda: "GetTask" in [call.method for call in task.calls])
        slow.gate.open()
        await settled
    assert task.phase is Phase.SUCCEEDED
    assert task.outputs == {"x": 5}
    assert [call.method for call in task.calls].count("CreateTask") == 1
    assert slow.calls == 1
