"""CreateTask of connectors that run in place, which may end before anybody else has a turn."""

import asyncio
from typing import Any

import grpc
import grpc.aio

from connector_core import Phase
from connector_core.errors import (
    PermanentError,
)
from connector_core.testing import running_server
from tests.fakes import Gate, JobMeta, Jobs, eventually
from tests.support.creates import (
    AWAY,
    PREFIX,
    Held,
    create,
    lose,
    meta,
    status,
    waiting,
)

IN_PLACE = {"in_place": ["test-job connector"]}


class Quick(Held):
    """A backend whose connector waits for nothing, but for the output prefixes that wait at the gate."""

    async def create_quickly(self, output_prefix: str) -> JobMeta:
        if output_prefix in self.before:
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
        await server.orphans_deleted()
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
        await server.creates_ended()
        quick.gate = Gate()
        quick.before = {f"{PREFIX}/1": quick.gate.block}
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
        await server.orphans_deleted()
        quick.gate.open()
        await status(lost)
        quick.before = {}
        error = await status(create(server))
        await eventually(lambda: quick.deleted)
    assert "a later attempt of this task has begun" in str(error.details())
    assert quick.started == ["job-3"]
    assert quick.deleted == ["job-3"]
