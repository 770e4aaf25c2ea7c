"""flytekit's file sensor watches a real file through its own server, through ours, and from one to the other."""

import asyncio
from pathlib import Path

import pytest

from connector_core import Phase
from tests.proofs.peers import Pair
from tests.proofs.stories import Story, differences, story_of

pytestmark = pytest.mark.slow

NO_FILE, FILE = {"phase": Phase.RUNNING}, {"phase": Phase.SUCCEEDED}


async def watch(both: Pair, awaited: Path, *, first: str, then: str) -> Story:
    """Watch for a file that appears after the first look, with one server until then and another afterwards."""
    await asyncio.to_thread(awaited.unlink, missing_ok=True)
    async with both.engine(first) as engine:
        task = engine.submit(both.template("wait_for_file"), {"path": str(awaited)})
        await engine.step()  # CreateTask
        await engine.step()  # there is no file
        await asyncio.to_thread(awaited.write_text, "here I am")
        await engine.move([then])
        await engine.step()
    return story_of(task)


async def test_the_task_runs_until_the_file_appears(both: Pair, tmp_path: Path) -> None:
    theirs = await watch(both, tmp_path / "awaited", first=both.theirs, then=both.theirs)
    ours = await watch(both, tmp_path / "awaited", first=both.ours, then=both.ours)
    assert differences(theirs, ours) == []
    assert ours.resources == [NO_FILE, FILE]
    assert ours.calls == [("CreateTask", "OK"), ("GetTask", "OK"), ("GetTask", "OK")]
    assert ours.resource_meta is not None
    assert b'"sensor_name": "FileSensor"' in ours.resource_meta


async def test_a_file_that_was_there_for_one_task_is_awaited_anew_by_the_next(both: Pair, tmp_path: Path) -> None:
    for address in (both.theirs, both.ours):
        monday = await watch(both, tmp_path / "awaited", first=address, then=address)
        tuesday = await watch(both, tmp_path / "awaited", first=address, then=address)
        assert monday == tuesday
        assert tuesday.resources == [NO_FILE, FILE]


@pytest.mark.parametrize("to_ours", [True, False], ids=["from flytekit's to ours", "from ours to flytekit's"])
async def test_a_task_in_flight_moves(both: Pair, tmp_path: Path, to_ours: bool) -> None:
    first, then = (both.theirs, both.ours) if to_ours else (both.ours, both.theirs)
    stayed = await watch(both, tmp_path / "awaited", first=first, then=first)
    moved = await watch(both, tmp_path / "awaited", first=first, then=then)
    assert differences(stayed, moved) == []
    assert moved.resources == [NO_FILE, FILE]


async def test_an_aborted_task_stops_watching_on_either(both: Pair, tmp_path: Path) -> None:
    for address in (both.theirs, both.ours):
        async with both.engine(address) as engine:
            task = engine.submit(both.template("wait_for_file"), {"path": str(tmp_path / "never")})
            await engine.step()
            await engine.step()
            engine.abort(task)
            await engine.run_until_settled()
        story = story_of(task)
        assert story.calls == [("CreateTask", "OK"), ("GetTask", "OK"), ("DeleteTask", "OK")]
        assert (story.resources, story.phase) == ([NO_FILE], Phase.ABORTED)
