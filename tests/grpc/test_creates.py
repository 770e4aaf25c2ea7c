"""CreateTask starts one job for an attempt, whatever becomes of those who wait for it, and none is left over."""

import asyncio
import itertools
import logging
import textwrap
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc
import grpc.aio
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, TaskExecutionIdentifier, WorkflowExecutionIdentifier

from connector_core import Connection, Phase, Resource
from connector_core.errors import (
    BackendUnavailableError,
    ConnectorError,
    InvalidInputError,
    JobNotFoundError,
    PermanentError,
    PermissionDeniedError,
    TransientError,
)
from connector_core.invocation import Invoker
from connector_core.jobs.creates import Created, CreateOptions, Creates
from connector_core.jobs.memory import Memory
from connector_core.jobs.memory_process import ProcessMemory
from connector_core.jobs.memory_sqlite import SqliteMemory
from connector_core.metrics import Metrics
from connector_core.registry import inspect_connector
from connector_core.task import Attempt
from connector_core.testing import RunningServer, running_server
from tests.fakes import PATIENCE, Answers, Gate, JobMeta, Jobs, eventually, happens
from tests.support.gate import PLUGIN
from tests.support.gate import Gate as RemoteGate
from tests.support.hosts import host_process
from tests.support.redis_server import RedisServer, running_redis

T = TypeVar("T")

AWAY = BackendUnavailableError("the warehouse is away")
PREFIX = "s3://bucket/f00/n0/data"


class Warehouse:
    """A backend that starts a job at every call, and the methods of a connector for it."""

    def __init__(self, *, before: Mapping[str, Callable[[], None]] | None = None) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._before = before or {}
        self.calls: list[str] = []
        self.started: list[str] = []
        self.deleted: list[str] = []
        self.trouble: dict[str, list[BaseException]] = {}
        self.change = threading.Event()

    def create(self, output_prefix: str) -> JobMeta:
        """Start a job; what a test gave for this attempt happens before that."""
        with self._lock:
            job_id = f"job-{next(self._numbers)}"
            self.calls.append(output_prefix)
        self._before.get(output_prefix, lambda: None)()
        self._fail("create")
        with self._lock:
            self.started.append(job_id)
        return JobMeta(job_id)

    def delete(self, resource_meta: JobMeta) -> None:
        self._fail("delete")
        with self._lock:
            self.deleted.append(resource_meta.job_id)

    def _fail(self, operation: str) -> None:
        if trouble := self.trouble.get(operation):
            raise trouble.pop(0)

    def connector(self, task_type: str = "job", **methods: Any) -> Jobs:
        return Jobs(task_type, **{"create": self.create, "delete": self.delete, **methods})


class Held(Warehouse):
    """A backend whose creates for these output prefixes wait at a gate."""

    def __init__(self, *prefixes: str) -> None:
        self.gate = Gate()
        super().__init__(before=dict.fromkeys(prefixes or [f"{PREFIX}/0"], self.gate.block))


def execution(attempt: int = 0, node: str = "n0") -> agent_pb2.TaskExecutionMetadata:
    workflow = WorkflowExecutionIdentifier(project="sales", domain="prod", name="f00")
    node_id = NodeExecutionIdentifier(node_id=node, execution_id=workflow)
    return agent_pb2.TaskExecutionMetadata(
        task_execution_id=TaskExecutionIdentifier(node_execution_id=node_id, retry_attempt=attempt)
    )


def create(
    server: RunningServer,
    attempt: int = 0,
    *,
    path: str = PREFIX,
    prefix: str | None = None,
    node: str = "n0",
    task_type: str = "job",
    timeout: float | None = None,
) -> "asyncio.Task[bytes]":
    """Call CreateTask as the engine does for an attempt."""
    call = server.create(
        task_type,
        output_prefix=f"{path}/{attempt}" if prefix is None else prefix,
        task_execution_metadata=execution(attempt, node),
        timeout=timeout,
    )
    return asyncio.create_task(call)


async def status(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def waiting(server: RunningServer, count: int, operation: str = "create", task_type: str = "job") -> None:
    """Wait until so many calls are being worked on."""
    labels = {"task_type": task_type, "operation": operation}
    await eventually(lambda: server.metric("flyte_connector_requests_in_flight", **labels) == count)


async def lose(server: RunningServer, held: Held, attempt: int = 0) -> None:
    """Make a create whose caller goes before it is over."""
    call = create(server, attempt)
    await held.gate.reached()
    call.cancel()
    await waiting(server, 0)


async def ended(server: RunningServer) -> None:
    """Wait until no create goes on."""
    await eventually(lambda: not server.server._jobs._creates._running)


def meta(job_id: str) -> bytes:
    return JobMeta(job_id).encode()


@contextmanager
def memories(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Give the settings of a memory."""
    if kind == "redis":
        with running_redis() as redis:
            yield {"memory": {"kind": "redis", "url": redis.url}}
        return
    yield {"memory": {"kind": kind, "path": folder / "memory.sqlite"}}


@pytest.fixture(params=["process", "sqlite", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    with memories(request.param, tmp_path) as settings:
        yield settings


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


# --- The same attempt ----------------------------------------------------------------------------------------------


async def test_the_same_attempt_at_the_same_time_starts_one_job(settings: dict[str, Any]) -> None:
    held = Held()
    async with running_server(held.connector(), settings=settings) as server:
        calls = [create(server) for _ in range(10)]
        await waiting(server, 10)
        await held.gate.reached()
        held.gate.open()
        assert await asyncio.gather(*calls) == [meta("job-1")] * 10
    assert held.started == ["job-1"]
    assert held.deleted == []


async def test_the_same_attempt_after_an_ok_answer_gets_the_same_meta(settings: dict[str, Any]) -> None:
    warehouse = Warehouse()
    async with running_server(warehouse.connector(), settings=settings) as server:
        assert [await create(server) for _ in range(3)] == [meta("job-1")] * 3
    assert warehouse.started == ["job-1"]


@pytest.mark.parametrize(
    "other",
    [{"attempt": 1}, {"path": f"{PREFIX}/other"}, {"node": "n1"}, {"prefix": f"{PREFIX}/7"}, {"task_type": "another"}],
    ids=lambda other: next(iter(other)),
)
async def test_another_attempt_task_or_prefix_is_another_job(other: dict[str, Any]) -> None:
    warehouse = Warehouse()
    async with running_server(warehouse.connector(), warehouse.connector("another")) as server:
        assert await create(server) == meta("job-1")
        assert await create(server, **other) == meta("job-2")
    assert warehouse.deleted == []


async def test_creates_that_say_neither_execution_nor_prefix_are_each_a_job_of_their_own() -> None:
    warehouse = Warehouse()
    async with running_server(warehouse.connector()) as server:
        metas = [await server.create("job", output_prefix="") for _ in range(2)]
    assert metas == [meta("job-1"), meta("job-2")]


async def test_a_create_that_says_no_more_than_its_prefix_is_known_by_it() -> None:
    warehouse = Warehouse()
    async with running_server(warehouse.connector()) as server:
        metas = [await server.create("job", output_prefix=f"{PREFIX}/{number}") for number in (0, 0, 1)]
    assert metas == [meta("job-1"), meta("job-1"), meta("job-2")]


@pytest.mark.parametrize("ends_first", [True, False])
async def test_a_create_goes_on_after_its_callers_deadline_and_the_same_attempt_gets_its_result(
    settings: dict[str, Any], ends_first: bool
) -> None:
    held = Held()
    async with running_server(held.connector(), settings=settings) as server:
        error = await status(create(server, timeout=0.2))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await held.gate.reached()
        if ends_first:
            held.gate.open()
            await ended(server)
        again = create(server)
        if not ends_first:
            await waiting(server, 1)
            held.gate.open()
        assert await again == meta("job-1")
    assert held.started == ["job-1"]
    assert held.deleted == []


async def test_async_code_goes_on_after_its_caller_too() -> None:
    begun, gate = threading.Event(), Gate()

    async def slow() -> JobMeta:
        begun.set()
        await asyncio.to_thread(gate.block)
        return JobMeta("slow")

    async with running_server(Jobs("job", create=slow)) as server:
        call = create(server)
        await happens(begun)
        call.cancel()
        await waiting(server, 0)
        gate.open()
        assert await create(server) == meta("slow")


async def test_a_create_that_fails_after_its_caller_has_gone_is_logged_and_begun_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Held()
    held.trouble["create"] = [AWAY]
    async with running_server(held.connector()) as server:
        await lose(server, held)
        held.gate.open()
        await ended(server)
        assert await create(server) == meta("job-2")
    assert "the warehouse is away" in caplog.text


# --- Orphans -------------------------------------------------------------------------------------------------------


async def test_a_later_attempt_deletes_what_nobody_got_an_answer_about(settings: dict[str, Any]) -> None:
    held = Held()
    async with running_server(held.connector(), settings=settings) as server:
        await lose(server, held)
        held.gate.open()
        await ended(server)
        assert held.deleted == []
        assert await create(server, 1) == meta("job-2")
        await eventually(lambda: held.deleted)
        assert await create(server, 1) == meta("job-2")
    assert held.deleted == ["job-1"]


async def test_an_earlier_attempt_that_is_still_under_way_is_deleted_as_soon_as_it_ends(
    settings: dict[str, Any],
) -> None:
    held = Held()
    async with running_server(held.connector(), settings=settings) as server:
        await lose(server, held)
        assert await create(server, 1) == meta("job-2")
        await eventually(lambda: not server.server._jobs._creates._orphans.under_way)
        assert held.deleted == []
        held.gate.open()
        await eventually(lambda: held.deleted)
    assert held.deleted == ["job-1"]


async def test_all_earlier_attempts_are_deleted() -> None:
    held = Held(f"{PREFIX}/0", f"{PREFIX}/1", f"{PREFIX}/2")
    async with running_server(held.connector()) as server:
        for attempt in range(3):
            await lose(server, held, attempt)
        held.gate.open()
        await ended(server)
        await create(server, 3)
        await eventually(lambda: len(held.deleted) == 3)
    assert sorted(held.deleted) == ["job-1", "job-2", "job-3"]


async def test_one_who_still_waits_for_an_attempt_that_is_over_is_told_so() -> None:
    held = Held()
    async with running_server(held.connector()) as server:
        waits = create(server)
        await held.gate.reached()
        await create(server, 1)
        await eventually(lambda: not server.server._jobs._creates._orphans.under_way)
        held.gate.open()
        error = await status(waits)
        await eventually(lambda: held.deleted)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "a later attempt of this task has begun" in str(error.details())
    assert held.deleted == ["job-1"]


async def test_a_create_that_was_answered_is_not_deleted_by_a_later_attempt(settings: dict[str, Any]) -> None:
    warehouse = Warehouse()
    async with running_server(warehouse.connector(), settings=settings) as server:
        for attempt in range(3):
            await create(server, attempt)
    assert warehouse.started == ["job-1", "job-2", "job-3"]
    assert warehouse.deleted == []


async def test_a_create_that_was_answered_at_the_second_call_is_not_deleted_either(settings: dict[str, Any]) -> None:
    held = Held()
    async with running_server(held.connector(), settings=settings) as server:
        await lose(server, held)
        held.gate.open()
        assert await create(server) == meta("job-1")
        await create(server, 1)
    assert held.deleted == []


@pytest.mark.parametrize(
    ("first", "second"),
    [(f"{PREFIX}/a", f"{PREFIX}/b"), (PREFIX, PREFIX), (f"{PREFIX}/5", f"{PREFIX}/6"), (f"{PREFIX}/0", "s3://other/1")],
)
async def test_where_the_prefix_does_not_tell_the_earlier_attempt_nothing_is_deleted(first: str, second: str) -> None:
    held = Held(first)
    async with running_server(held.connector()) as server:
        call = create(server, 0, prefix=first)
        await held.gate.reached()
        call.cancel()
        await waiting(server, 0)
        held.gate.open()
        await ended(server)
        await create(server, 1, prefix=second)
    assert held.deleted == []


async def test_another_tasks_orphan_is_left_alone() -> None:
    held = Held()
    async with running_server(held.connector()) as server:
        await lose(server, held)
        held.gate.open()
        await ended(server)
        await create(server, 1, node="n1")
        await create(server, 1, path=f"{PREFIX}/other")
    assert held.deleted == []


async def test_a_later_attempt_that_is_given_the_same_job_keeps_it(settings: dict[str, Any]) -> None:
    """A backend that names jobs by the task alone answers both attempts with one job."""
    held = Held()

    def one_for_all(output_prefix: str) -> JobMeta:
        held.create(output_prefix)
        return JobMeta("the task's")

    async with running_server(held.connector(create=one_for_all), settings=settings) as server:
        await lose(server, held)
        held.gate.open()
        await ended(server)
        assert await create(server, 1) == meta("the task's")
        assert await create(server, 2) == meta("the task's")
    assert held.deleted == []


async def test_an_earlier_attempt_that_ends_late_with_the_same_job_leaves_it_to_the_later_one() -> None:
    held = Held()

    def one_for_all(output_prefix: str) -> JobMeta:
        held.create(output_prefix)
        return JobMeta("the task's")

    async with running_server(held.connector(create=one_for_all)) as server:
        await lose(server, held)
        assert await create(server, 1) == meta("the task's")
        await eventually(lambda: not server.server._jobs._creates._orphans.under_way)
        held.gate.open()
        await ended(server)
    assert held.deleted == []


@pytest.mark.parametrize("outcome", [AWAY, PermanentError("no")])
async def test_a_later_attempt_that_fails_deletes_the_orphan_too(outcome: ConnectorError) -> None:
    held = Held()
    async with running_server(held.connector()) as server:
        await lose(server, held)
        held.gate.open()
        await ended(server)
        held.trouble["create"] = [outcome]
        await asyncio.gather(create(server, 1), return_exceptions=True)
        await eventually(lambda: held.deleted)
    assert held.deleted == ["job-1"]


async def test_deleting_an_orphan_is_tried_again(settings: dict[str, Any]) -> None:
    held = Held()
    held.trouble["delete"] = [AWAY, ValueError("no")]
    async with running_server(held.connector(), settings=settings) as server:
        await lose(server, held)
        held.gate.open()
        await ended(server)
        await create(server, 1)
        await eventually(lambda: held.deleted)
    assert held.deleted == ["job-1"]


@pytest.mark.parametrize(
    ("trouble", "is_logged"), [(PermissionDeniedError("not yours"), True), (JobNotFoundError("gone"), False)]
)
async def test_an_orphan_that_cannot_be_deleted_is_named(
    trouble: ConnectorError, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    held.trouble["delete"] = [trouble]
    async with running_server(held.connector()) as server:
        await lose(server, held)
        held.gate.open()
        await ended(server)
        await create(server, 1)
        await eventually(lambda: not held.trouble["delete"])
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == (1 if is_logged else 0)
    if is_logged:
        assert "plugin test-job connector" in errors[0]
        assert "not yours" in errors[0]
        assert "job-1" not in errors[0]  # handles are connectors' own, and may carry what is secret


async def test_an_orphan_of_a_certain_age_is_deleted_where_the_operator_says_so() -> None:
    held = Held()
    async with running_server(held.connector(), settings={"orphan_seconds": 0.05}) as server:
        await lose(server, held)
        held.gate.open()
        await eventually(lambda: held.deleted)
        assert await create(server) == meta("job-2")
    assert held.deleted == ["job-1"]


async def test_what_was_answered_has_no_age() -> None:
    warehouse = Warehouse()
    async with running_server(warehouse.connector(), settings={"orphan_seconds": 0.01}) as server:
        await asyncio.gather(*(create(server, path=f"{PREFIX}/{number}") for number in range(20)))
        assert server.server._jobs._creates._orphans._ageing == {}
        await eventually(lambda: not server.server._jobs._creates._orphans.under_way)
    assert warehouse.deleted == []


async def test_what_another_host_has_answered_has_no_age_either() -> None:
    held, memory = Held(), Shared()
    first = Direct(held.connector(), memory, orphan_seconds=1)
    second = Direct(held.connector(), memory, owner="b")
    lost = asyncio.create_task(first.create())
    await held.gate.reached()
    lost.cancel()
    held.gate.open()
    await no_more(first)
    await second.create()
    assert first.creates._orphans._ageing
    await eventually(lambda: not first.creates._orphans._ageing)
    await first.close()
    await second.close()
    assert held.deleted == []


async def test_orphans_that_are_not_old_enough_delay_no_exit() -> None:
    held = Held()
    async with asyncio.timeout(4), running_server(held.connector(), settings={"orphan_seconds": 3600}) as server:
        await create(server, path=f"{PREFIX}/other")
        await lose(server, held)
        held.gate.open()
        await ended(server)
    assert held.deleted == []


# --- Code in place, which may be over before anybody else has a turn -----------------------------------------------


IN_PLACE = {"in_place": ["test-job connector"]}


class Quick(Held):
    """A backend whose connector waits for nothing, but for the output prefixes that wait at the gate."""

    async def create_quickly(self, output_prefix: str) -> JobMeta:
        if output_prefix in self._before:
            return await asyncio.to_thread(self.create, output_prefix)
        return self.create(output_prefix)

    def connector(self, task_type: str = "job", **methods: Any) -> Jobs:
        return super().connector(task_type, **{"create": self.create_quickly, **methods})


async def test_in_place_the_same_attempt_starts_one_job_too(settings: dict[str, Any]) -> None:
    quick = Quick("none")
    async with running_server(quick.connector(), settings={**settings, **IN_PLACE}) as server:
        answers = await asyncio.gather(*(create(server) for _ in range(10)))
        assert {*answers, await create(server)} == {meta("job-1")}
    assert quick.started == ["job-1"]


async def test_in_place_a_create_that_was_answered_is_not_deleted_by_a_later_attempt(settings: dict[str, Any]) -> None:
    quick = Quick("none")
    async with running_server(quick.connector(), settings={**settings, **IN_PLACE}) as server:
        for attempt in range(3):
            await create(server, attempt)
        await eventually(lambda: not server.server._jobs._creates._orphans.under_way)
    assert quick.started == ["job-1", "job-2", "job-3"]
    assert quick.deleted == []


async def test_in_place_a_failure_is_begun_anew_unless_it_is_for_good(settings: dict[str, Any]) -> None:
    quick = Quick("none")
    quick.trouble["create"] = [AWAY, SystemExit(1), PermanentError("no such table")]
    async with running_server(quick.connector(), settings={**settings, **IN_PLACE}) as server:
        for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL):
            assert (await status(create(server))).code() is code
        failed = await create(server)
        assert await create(server) == failed
        assert Phase((await server.get("job", failed)).phase) is Phase.FAILED
    assert len(quick.calls) == 3


async def test_in_place_a_create_that_waits_goes_on_without_its_caller(settings: dict[str, Any]) -> None:
    quick = Quick()
    async with running_server(quick.connector(), settings={**settings, **IN_PLACE}) as server:
        await lose(server, quick)
        again = create(server)
        await waiting(server, 1)
        quick.gate.open()
        assert await again == meta("job-1")
    assert quick.started == ["job-1"]
    assert quick.deleted == []


async def test_in_place_a_quick_attempt_has_the_earlier_ones_deleted(settings: dict[str, Any]) -> None:
    """The first has ended before that, and the second is still under way."""
    quick = Quick(f"{PREFIX}/0", f"{PREFIX}/1")
    async with running_server(quick.connector(), settings={**settings, **IN_PLACE}) as server:
        await lose(server, quick, 0)
        quick.gate.open()
        await ended(server)
        quick.gate = Gate()
        quick._before = {f"{PREFIX}/1": quick.gate.block}
        await lose(server, quick, 1)
        assert await create(server, 2) == meta("job-3")
        await eventually(lambda: quick.deleted == ["job-1"])
        quick.gate.open()
        await eventually(lambda: len(quick.deleted) == 2)
    assert quick.deleted == ["job-1", "job-2"]


async def test_in_place_an_attempt_that_a_later_one_has_ended_is_not_begun_anew_for_good(
    settings: dict[str, Any],
) -> None:
    quick = Quick()
    quick.trouble["create"] = [AWAY]
    async with running_server(quick.connector(), settings={**settings, **IN_PLACE}) as server:
        lost = create(server)
        await quick.gate.reached()
        quick.trouble["create"].insert(0, LookupError("the later one fails, too"))
        await status(create(server, 1))
        await eventually(lambda: not server.server._jobs._creates._orphans.under_way)
        quick.gate.open()
        await status(lost)
        quick._before = {}
        error = await status(create(server))
        await eventually(lambda: quick.deleted)
    assert "a later attempt of this task has begun" in str(error.details())
    assert quick.started == ["job-3"]
    assert quick.deleted == ["job-3"]


# --- Failures ------------------------------------------------------------------------------------------------------


def reading(task_type: str = "job", **methods: Any) -> Jobs:
    """A connector that also has logs and metrics."""

    def nothing(**_offered: Any) -> Any:
        raise AssertionError("the plugin must not be asked about a job that never ran")

    return Jobs(
        task_type, **{"get": nothing, "delete": nothing, "get_logs": nothing, "get_metrics": nothing, **methods}
    )


@pytest.mark.parametrize(
    ("error", "code", "grpc_code"),
    [
        (PermanentError("no such table", error_code="NoTable"), "NoTable", "FAILED_PRECONDITION"),
        (InvalidInputError("no such table"), "InvalidInput", "INVALID_ARGUMENT"),
        (PermissionDeniedError("no such table"), "PermissionDenied", "PERMISSION_DENIED"),
    ],
)
async def test_a_create_that_failed_for_good_is_a_failed_job(
    error: ConnectorError, code: str, grpc_code: str, settings: dict[str, Any]
) -> None:
    def fail() -> JobMeta:
        raise error

    labels = {"task_type": "job", "operation": "create"}
    async with running_server(reading(create=fail), settings=settings) as server:
        failed = await create(server)
        failures = server.metric("flyte_connector_requests_failure_total", error_code=grpc_code, **labels)
        successes = server.metric("flyte_connector_requests_success_total", **labels)
        assert await create(server) == failed
        resource = await server.get("job", failed)
        await server.delete("job", failed)
        await server.delete("job", failed)
        logs = [message async for message in server.get_logs("job", failed)]
        metrics = await server.get_metrics("job", failed)
    assert Phase(resource.phase) is Phase.FAILED
    assert resource.message == "plugin 'test-job connector', create(): no such table"
    assert resource.agent_error.code == code
    assert (logs, list(metrics.results)) == ([], [])
    assert (failures, successes) == (1, 0)


async def test_inputs_that_the_host_cannot_read_are_a_failed_job_too() -> None:
    def take(inputs: dict[str, Any]) -> JobMeta:
        raise AssertionError("there are no inputs to take")

    request = agent_pb2.CreateTaskRequest(output_prefix=f"{PREFIX}/0", task_execution_metadata=execution())
    request.template.type = "job"
    request.inputs.literals["x"].offloaded_metadata.uri = "s3://bucket/inputs"
    async with running_server(Jobs("job", create=take)) as server:
        answer = await server.async_stub.CreateTask(request)
        resource = await server.get("job", answer.resource_meta)
    assert Phase(resource.phase) is Phase.FAILED
    assert "s3://bucket/inputs" in resource.message


async def test_all_who_wait_for_a_create_that_fails_for_good_are_answered_alike() -> None:
    gate = Gate()

    def fail() -> JobMeta:
        gate.block()
        raise PermanentError("no")

    async with running_server(reading(create=fail)) as server:
        calls = [create(server) for _ in range(5)]
        await waiting(server, 5)
        gate.open()
        assert len(set(await asyncio.gather(*calls))) == 1


async def test_for_clients_that_read_them_permanent_failures_are_statuses() -> None:
    warehouse = Warehouse()
    warehouse.trouble["create"] = [PermanentError("no such table")]
    async with running_server(warehouse.connector(), settings={"permanent_create_failures": "status"}) as server:
        error = await status(create(server))
        assert await create(server) == meta("job-2")
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "no such table" in str(error.details())


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (AWAY, grpc.StatusCode.UNAVAILABLE),
        (ValueError("no"), grpc.StatusCode.INVALID_ARGUMENT),
        (KeyError("no"), grpc.StatusCode.INTERNAL),
        (SystemExit(1), grpc.StatusCode.INTERNAL),
        (asyncio.CancelledError(), grpc.StatusCode.INTERNAL),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_not_permanent_is_an_error_and_begun_anew(
    trouble: BaseException, code: grpc.StatusCode, settings: dict[str, Any]
) -> None:
    warehouse = Warehouse()
    warehouse.trouble["create"] = [trouble]
    async with running_server(warehouse.connector(), settings=settings) as server:
        error = await status(create(server))
        assert await create(server) == meta("job-2")
    assert error.code() is code
    assert warehouse.started == ["job-2"]


async def test_a_create_that_is_never_over_ends_at_the_operations_own_deadline() -> None:
    held = Held()
    async with running_server(held.connector(), settings={"deadlines": {"create": 0.1}}) as server:
        error = await status(create(server))
        await waiting(server, 0)
        held.gate.open()
        assert await create(server) == meta("job-2")
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "create()" in str(error.details())


# --- Sync connectors -----------------------------------------------------------------------------------------------


async def test_a_sync_connector_is_served_through_create_get_and_delete(settings: dict[str, Any]) -> None:
    calls: list[int] = []

    def do(inputs: dict[str, Any]) -> Resource:
        calls.append(1)
        return Resource(Phase.SUCCEEDED, outputs={"doubled": 42}, message="done")

    async with running_server(Answers("job", do=do), settings=settings) as server:
        result, again = await asyncio.gather(create(server), create(server))
        resources = [await server.get("job", result) for _ in range(2)]
        await server.delete("job", result)
        assert await create(server) == again == result
        await create(server, 1)
    assert [Phase(resource.phase) for resource in resources] == [Phase.SUCCEEDED] * 2
    assert resources[0].outputs.literals["doubled"].scalar.primitive.integer == 42
    assert resources[0].message == "done"
    assert len(calls) == 2


async def test_a_sync_result_too_large_for_a_meta_fails_and_names_the_ways_out() -> None:
    def do() -> Resource:
        return Resource(Phase.SUCCEEDED, outputs={"x": "x" * 1000})

    async with running_server(Answers("job", do=do), settings={"max_result_bytes": 1000}) as server:
        resource = await server.get("job", await create(server))
    assert Phase(resource.phase) is Phase.FAILED
    assert "max_result_bytes" in resource.message
    assert "connectorForTaskTypes" in resource.message
    assert "ListAgents" in resource.message
    assert resource.agent_error.code == "ResultTooLarge"


async def test_a_sync_connector_that_fails_for_good_is_a_failed_job() -> None:
    def do() -> Resource:
        raise PermanentError("no such table")

    async with running_server(Answers("job", do=do)) as server:
        resource = await server.get("job", await create(server))
    assert Phase(resource.phase) is Phase.FAILED
    assert resource.message == "plugin 'test-job connector', do(): no such table"


@pytest.mark.parametrize(
    ("answer", "code"), [(AWAY, "UNAVAILABLE"), (None, "INTERNAL"), (Resource(Phase.RUNNING), "INTERNAL")]
)
async def test_a_sync_connector_that_gives_no_last_word_is_an_error(answer: Any, code: str) -> None:
    def do() -> Resource:
        if isinstance(answer, Exception):
            raise answer
        return cast("Resource", answer)

    async with running_server(Answers("job", do=do)) as server:
        error = await status(create(server))
    assert error.code().name == code


async def test_a_sync_connector_asked_for_a_job_that_it_never_had_says_so() -> None:
    async with running_server(Answers("job")) as server:
        errors = [await status(server.get("job", b"{}")), await status(server.delete("job", b"{}"))]
    assert {error.code() for error in errors} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert all("is a sync one" in str(error.details()) for error in errors)


# --- Signing -------------------------------------------------------------------------------------------------------


async def test_with_signing_on_plugin_code_sees_nothing_that_was_not_signed() -> None:
    warehouse = Warehouse()
    signing = {"signing": {"keys": ["a key of sixteen characters"]}}
    async with running_server(warehouse.connector(), settings=signing) as server:
        signed = await create(server)
        assert await create(server) == signed != meta("job-1")
        assert Phase((await server.get("job", signed)).phase) is Phase.SUCCEEDED
        await server.delete("job", signed)
        for wrong in (meta("job-1"), signed[:-1] + b"x", b""):
            for call in (server.get("job", wrong), server.delete("job", wrong)):
                assert (await status(call)).code() is grpc.StatusCode.PERMISSION_DENIED
    async with running_server(warehouse.connector()) as server:
        await server.delete("job", signed)
    assert warehouse.deleted == ["job-1", "job-1"]


async def test_with_signing_on_a_failed_create_is_signed_too() -> None:
    def fail() -> JobMeta:
        raise PermanentError("no")

    signing = {"signing": {"keys": ["a key of sixteen characters"]}}
    async with running_server(Jobs("job", create=fail), settings=signing) as server:
        failed = await create(server)
        assert Phase((await server.get("job", failed)).phase) is Phase.FAILED


# --- Restarts, replicas and memories that go -----------------------------------------------------------------------


async def test_after_a_restart_the_same_attempt_gets_the_same_meta(tmp_path: Path) -> None:
    warehouse = Warehouse()
    settings = {"memory": {"kind": "sqlite", "path": tmp_path / "memory.sqlite"}}
    for _ in range(2):
        async with running_server(warehouse.connector(), settings=settings) as server:
            assert await create(server) == meta("job-1")
    assert warehouse.started == ["job-1"]


async def test_after_a_restart_orphans_are_still_known(tmp_path: Path) -> None:
    held = Held()
    settings = {"memory": {"kind": "sqlite", "path": tmp_path / "memory.sqlite"}}
    async with running_server(held.connector(), settings=settings) as server:
        await lose(server, held)
        held.gate.open()
        await ended(server)
    async with running_server(held.connector(), settings=settings) as server:
        await create(server, 1)
        await eventually(lambda: held.deleted)
    assert held.deleted == ["job-1"]


async def test_two_hosts_that_share_redis_start_one_job(redis: RedisServer) -> None:
    held = Held()
    settings = {"memory": {"kind": "redis", "url": redis.url}}
    async with (
        running_server(held.connector(), settings=settings) as a,
        running_server(held.connector(), settings=settings) as b,
    ):
        calls = [create(host) for host in (a, b) for _ in range(5)]
        await waiting(a, 5)
        await waiting(b, 5)
        await held.gate.reached()
        held.gate.open()
        assert await asyncio.gather(*calls) == [meta("job-1")] * 10
    assert held.started == ["job-1"]


async def test_a_later_attempt_at_another_host_deletes_the_orphan(redis: RedisServer) -> None:
    held = Held()
    settings = {"memory": {"kind": "redis", "url": redis.url}}
    async with (
        running_server(held.connector(), settings=settings) as a,
        running_server(held.connector(), settings=settings) as b,
    ):
        await lose(a, held)
        await create(b, 1)
        await eventually(lambda: not b.server._jobs._creates._orphans.under_way)
        held.gate.open()
        await eventually(lambda: held.deleted)
    assert held.deleted == ["job-1"]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_a_host_that_dies_in_the_middle_of_a_create_does_not_keep_others_from_it(
    kind: str, tmp_path: Path
) -> None:
    """Where the memory is shared, another host has to wait until the claim of the dead one lapses."""
    (tmp_path / "at_the_gate.py").write_text(textwrap.dedent(PLUGIN))
    warehouse = Warehouse()
    connector = warehouse.connector("blocking")
    connector.name = "blocking"
    with memories(kind, tmp_path) as settings, RemoteGate() as gate:
        environment = {f"CONNECTOR_HOST__MEMORY__{name.upper()}": str(it) for name, it in settings["memory"].items()}
        environment |= {"GATE": str(gate.port), "CONNECTOR_HOST__DEADLINES__CREATE": "0.6"}
        with host_process("--modules", "at_the_gate", cwd=tmp_path, program=None, before=(), **environment) as dying:
            async with grpc.aio.insecure_channel(dying.address) as channel:
                lost = create(RunningServer(cast("Any", None), channel), task_type="blocking")
                await asyncio.to_thread(gate.wait_for, 1)
                dying.process.kill()
                await status(lost)
                await asyncio.to_thread(dying.wait)
        async with running_server(connector, settings=settings) as server:
            assert await create(server, task_type="blocking") == meta("job-1")
    assert warehouse.started == ["job-1"]


async def test_without_redis_nothing_is_started(redis: RedisServer) -> None:
    warehouse = Warehouse()
    settings = {"memory": {"kind": "redis", "url": redis.url}}
    async with running_server(warehouse.connector(), settings=settings) as server:
        redis.stop()
        error = await status(create(server))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "Redis, which keeps what is known of jobs" in str(error.details())
    assert warehouse.calls == []


async def test_a_memory_that_goes_in_the_middle_of_a_create_costs_neither_the_job_nor_its_answer(
    redis: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, memory in enumerate(({"kind": "redis", "url": redis.url}, {"kind": "sqlite", "path": tmp_path / "m"})):
        held = Held()
        async with running_server(held.connector(), settings={"memory": memory}) as server:
            call = create(server)
            await held.gate.reached()
            kept = server.server.memory
            if isinstance(kept, SqliteMemory):
                await kept._run(lambda kept=kept: kept._database.execute("PRAGMA query_only = ON"))  # type: ignore[misc]
            else:
                redis.stop()
            held.gate.open()
            assert await call == meta("job-1")
        assert caplog.text.count("will not be known again") == number + 1


async def test_what_fails_for_another_reason_says_so_where_the_memory_has_gone_too(redis: RedisServer) -> None:
    held = Held()
    held.trouble["create"] = [AWAY]
    async with running_server(held.connector(), settings={"memory": {"kind": "redis", "url": redis.url}}) as server:
        call = create(server)
        await held.gate.reached()
        redis.stop()
        held.gate.open()
        assert "the warehouse is away" in str((await status(call)).details())


class Direct:
    """Creates without a server around them, of which several may share a memory."""

    def __init__(
        self, connector: Jobs, memory: Memory, *, create_seconds: float = 60, owner: str = "a", **options: Any
    ) -> None:
        self.invoker = Invoker(Metrics())
        chosen = CreateOptions(**options)
        self.creates = Creates(
            self.invoker, memory, chosen, owner=owner, limit_of=lambda _connector, _name: create_seconds
        )
        self.connector = inspect_connector(connector)

    async def create(self, attempt: int = 0, timeout: float | None = PATIENCE) -> Created:
        execution_id = execution(attempt).task_execution_id
        prefix = f"{PREFIX}/{attempt}"
        arguments = {"output_prefix": prefix, "connection": Connection()}
        return await self.creates.create(self.connector, arguments, Attempt.of(execution_id, prefix), timeout)

    async def close(self, timeout: float = 5) -> None:
        await self.creates.close(timeout)
        await asyncio.to_thread(self.invoker.close, 5)


async def no_more(host: Direct) -> None:
    """Wait until no create goes on."""
    await eventually(lambda: not host.creates._running)


class Shared(ProcessMemory):
    """A memory that several hosts share, and that can be made to lose what it has."""

    is_shared = True

    def __init__(self) -> None:
        super().__init__(1_000_000)
        self.keys: set[str] = set()

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        self.keys.add(key)
        return await super().add(key, value, seconds)

    async def lose(self) -> None:
        for key in self.keys:
            await self.remove(key)


async def test_a_claim_is_renewed_for_as_long_as_its_create_takes() -> None:
    """An operator, or an author, may allow one connector more time than `deadlines.create` says."""
    held, memory = Held(), Shared()
    first = Direct(held.connector(), memory, create_seconds=0.1)
    second = Direct(held.connector(), memory, create_seconds=0.1, owner="b")
    creating = asyncio.create_task(first.create())
    await held.gate.reached()
    with pytest.raises(ConnectorError, match="not over at the caller's deadline"):
        await second.create(timeout=1.5)  # several times as long as the claim lasts
    held.gate.open()
    assert (await creating).resource_meta == (await second.create()).resource_meta == meta("job-1")
    assert held.started == ["job-1"]
    for host in (first, second):
        await host.close()


async def test_a_claim_whose_answer_was_lost_on_the_way_is_this_hosts_all_the_same() -> None:
    warehouse, memory = Warehouse(), Shared()
    lost = Direct(Held(f"{PREFIX}/0").connector(), memory)
    call = asyncio.create_task(lost.create())
    await eventually(lambda: memory.keys)
    again = Direct(warehouse.connector(), memory)  # the same owner
    assert (await again.create()).resource_meta == meta("job-1")
    call.cancel()
    await lost.close(0)
    await again.close()


async def test_a_create_that_another_host_has_done_meanwhile_gives_way_to_it() -> None:
    """Only a memory that loses what it has lets it come to that."""
    held, memory = Held(), Shared()
    first = Direct(held.connector(), memory)
    second = Direct(held.connector(), memory, owner="b")
    creating = asyncio.create_task(first.create())
    await held.gate.reached()
    await memory.lose()
    held._before = {}
    assert (await second.create()).resource_meta == meta("job-2")
    held.gate.open()
    assert (await creating).resource_meta == meta("job-2")
    await first.close()
    await second.close()
    assert held.started == ["job-2", "job-1"]
    assert held.deleted == ["job-1"]


async def test_two_hosts_whose_backend_gave_both_the_same_job_keep_it() -> None:
    held, memory = Held(), Shared()

    def idempotent(output_prefix: str) -> JobMeta:
        held.create(output_prefix)
        return JobMeta(output_prefix)

    first = Direct(held.connector(create=idempotent), memory)
    second = Direct(held.connector(create=idempotent), memory, owner="b")
    creating = asyncio.create_task(first.create())
    await held.gate.reached()
    await memory.lose()
    held._before = {}
    answers = {(await second.create()).resource_meta}
    held.gate.open()
    answers.add((await creating).resource_meta)
    await first.close()
    await second.close()
    assert answers == {meta(f"{PREFIX}/0")}
    assert held.deleted == []


async def test_while_another_host_is_at_work_on_the_attempt_as_well_its_answer_is_the_one_that_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whether it will be given the same job is not known yet, so nothing is deleted."""
    held, memory = Held(), Shared()
    first = Direct(held.connector(), memory)
    second = Direct(held.connector(), memory, owner="b")
    creating = asyncio.create_task(first.create())
    await held.gate.reached()
    await memory.lose()
    later_gate = Gate()
    held._before = {f"{PREFIX}/0": later_gate.block}
    also = asyncio.create_task(second.create())
    await later_gate.reached()
    held.gate.open()
    with pytest.raises(TransientError, match="another host has begun this attempt"):
        await creating
    later_gate.open()
    assert (await also).resource_meta == (await first.create()).resource_meta == meta("job-2")
    await first.close()
    await second.close()
    assert held.deleted == []
    assert '{"job_id": "job-1"' in caplog.text


async def test_a_memory_that_forgets_a_create_under_way_costs_nothing() -> None:
    held, memory = Held(), Shared()
    host = Direct(held.connector(), memory)
    creating = asyncio.create_task(host.create())
    await held.gate.reached()
    await memory.lose()
    held.gate.open()
    assert (await creating).resource_meta == (await host.create()).resource_meta == meta("job-1")
    await host.close()
    assert held.started == ["job-1"]


async def test_who_waits_for_a_dead_hosts_claim_gives_up_when_a_later_attempt_has_begun() -> None:
    held, warehouse, memory = Held(), Warehouse(), Shared()
    dead = Direct(held.connector(), memory)
    lost = asyncio.create_task(dead.create())
    await held.gate.reached()
    living = Direct(warehouse.connector(), memory, owner="b")
    waits = asyncio.create_task(living.create())
    assert (await living.create(1)).resource_meta == meta("job-1")
    with pytest.raises(TransientError, match="a later attempt of this task has begun"):
        await waits
    await living.close()
    assert warehouse.started == ["job-1"]
    lost.cancel()
    await dead.close(0)


async def test_an_answer_and_a_deletion_at_the_same_time_never_both_happen() -> None:
    """Answering the second call for an attempt races with the next attempt, which deletes what nobody was answered about."""
    outcomes = set()
    for delay in range(60):
        held, memory = Held(), Slow(delay)
        host, other = Direct(held.connector(), memory), Direct(held.connector(), memory, owner="b")
        lost = asyncio.create_task(host.create(timeout=0.01))
        await held.gate.reached()
        await asyncio.gather(lost, return_exceptions=True)
        held.gate.open()
        await no_more(host)
        answer, _later = await asyncio.gather(other.create(), host.create(1), return_exceptions=True)
        for one in (host, other):
            await one.close()
        was_answered = isinstance(answer, Created) and answer.resource_meta == meta("job-1")
        assert was_answered == (held.deleted == [])
        outcomes.add(was_answered)
    assert outcomes == {True, False}


class Slow:
    """A shared memory whose calls wait for ever another number of turns."""

    guarantees = ""
    is_shared = True
    at_once = None

    def __init__(self, seed: int) -> None:
        self._memory = ProcessMemory(1_000_000)
        self._turns = itertools.cycle([seed % 3, seed % 4, seed % 5, seed % 7])

    async def get(self, key: str) -> bytes | None:
        return await self._later(self._memory.get(key))

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        return await self._later(self._memory.put(key, value, seconds))

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        return await self._later(self._memory.add(key, value, seconds))

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        return await self._later(self._memory.replace(key, old, new, seconds))

    async def remove(self, key: str) -> None:
        return await self._later(self._memory.remove(key))

    async def close(self) -> None:
        await self._memory.close()

    async def _later(self, call: Awaitable[T]) -> T:
        for _ in range(next(self._turns)):
            await asyncio.sleep(0)
        return await call


async def test_a_caller_that_goes_at_the_very_moment_of_the_answer_has_not_got_it() -> None:
    held = Held()
    host = Direct(held.connector(), ProcessMemory(1_000_000))
    call = asyncio.create_task(host.create())
    await held.gate.reached()
    [running] = host.creates._running.values()
    running.add_done_callback(lambda _done: call.cancel())
    held.gate.open()
    with pytest.raises(asyncio.CancelledError):
        await call
    await host.create(1)
    await host.close()
    assert held.deleted == ["job-1"]


async def test_an_attempt_that_is_cut_by_the_hosts_end_is_an_error_that_says_so() -> None:
    held = Held()
    host = Direct(held.connector(), ProcessMemory(1_000_000))
    call = asyncio.create_task(host.create())
    await held.gate.reached()
    await host.creates.close(0)
    with pytest.raises(TransientError, match="the host is stopping"):
        await call
    held.gate.open()
    await host.close()


# --- The end -------------------------------------------------------------------------------------------------------


async def test_at_the_end_creates_are_let_finish_and_orphans_deleted() -> None:
    held = Held()
    host = Direct(held.connector(), ProcessMemory(1_000_000))
    with pytest.raises(ConnectorError):
        await host.create(timeout=0.01)
    await held.gate.reached()
    await host.create(1)
    closing = asyncio.create_task(host.close(PATIENCE))
    await asyncio.sleep(0)
    held.gate.open()
    await closing
    assert held.deleted == ["job-1"]


async def test_at_the_end_nothing_is_waited_for_longer_than_told_and_nothing_left_behind() -> None:
    held = Held()
    held.trouble["delete"] = [AWAY] * 100
    host = Direct(held.connector(), ProcessMemory(1_000_000))
    with pytest.raises(ConnectorError):
        await host.create(timeout=0.01)
    await host.create(1)
    await host.close(0)
    assert host.creates._running == {}
    assert host.creates._orphans.under_way == set()
    held.gate.open()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_nothing_is_left_behind_by_creates_that_end_in_any_way() -> None:
    warehouse = Warehouse()
    warehouse.trouble["create"] = [AWAY, PermanentError("no"), ValueError("no"), asyncio.CancelledError()] * 10
    host = Direct(warehouse.connector(), ProcessMemory(1_000_000))
    calls = [asyncio.create_task(host.create(number % 30)) for number in range(200)]
    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await host.close()
    assert host.creates._running == {}
    assert host.creates._orphans.under_way == set()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
