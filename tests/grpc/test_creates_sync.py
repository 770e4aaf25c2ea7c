"""CreateTask, GetTask and DeleteTask of a sync connector, which engines call for task types that are routed statically."""

import asyncio
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from connector_core import Phase, Resource
from connector_core.errors import (
    PermanentError,
)
from connector_core.testing import running_server
from tests.fakes import Answers
from tests.support.creates import (
    AWAY,
    create,
    status,
)


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
        error = await status(server.get("job", b"{}"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "is a sync one" in str(error.details())
