"""CreateTask of a connector that fails: for good, it is a failed job; else an error, and the next call begins anew."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.admin import agent_pb2

from connector_core import Phase
from connector_core.errors import (
    ConnectorError,
    InvalidInputError,
    PermanentError,
    PermissionDeniedError,
)
from connector_core.testing import running_server
from tests.fakes import Gate, JobMeta, Jobs
from tests.support.creates import (
    AWAY,
    PREFIX,
    Held,
    Warehouse,
    create,
    execution,
    meta,
    status,
    waiting,
)


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
