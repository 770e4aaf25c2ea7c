"""A clock that is set forward or back by two days forgets nothing, and creates nothing twice."""

import time
from pathlib import Path

import pytest

from connector_core import BackendUnavailableError, Phase, Resource
from connector_core.jobs.steady_clock import SteadyClock
from connector_core.testing import running_server
from tests.support.creates import PREFIX, Warehouse, create, memories, meta

IMPATIENT = {"deadlines": {"get": 0.3}}
TWO_DAYS = 2 * 86_400.0


@pytest.mark.parametrize("jump", [TWO_DAYS, -TWO_DAYS], ids=["forward", "back"])
@pytest.mark.parametrize("kind", ["process", "sqlite", "redis"])
async def test_what_is_remembered_stays(
    kind: str, jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, real = Warehouse(), time.time
    answers = [BackendUnavailableError("away")] * 20 + [Resource(Phase.RUNNING)]

    def get() -> Resource:
        answer = answers.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer

    with memories(kind, tmp_path) as settings:
        async with running_server(warehouse.connector(get=get), settings={**settings, **IMPATIENT}) as host:
            assert await create(host) == meta("job-1")
            first = await host.get("job", meta("job-1"), output_prefix=f"{PREFIX}/0")
            assert Phase(first.phase) is Phase.RUNNING
            await host.get("job", meta("job-1"), output_prefix=f"{PREFIX}/0")
            monkeypatch.setattr(time, "time", lambda: real() + jump)
            assert await create(host) == meta("job-1")
            ridden_out = await host.get("job", meta("job-1"), output_prefix=f"{PREFIX}/0")
            assert Phase(ridden_out.phase) is Phase.RUNNING
            monkeypatch.undo()
    assert warehouse.started == ["job-1"]


def test_a_steady_clock_goes_on_evenly_from_the_wall_clock() -> None:
    wall, monotonic = [1_000.0], [5.0]
    clock = SteadyClock(lambda: wall[0], lambda: monotonic[0])
    assert clock() == 1_000.0
    wall[0], monotonic[0] = 1e9, 7.5
    assert clock() == 1_002.5
