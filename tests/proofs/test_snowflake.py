"""flytekit's connector for Snowflake, against a fake with real SQL, through flytekit's own server and through ours."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from connector_core import Phase
from tests.proofs.peers import Pair
from tests.proofs.stories import Story, differences

pytestmark = pytest.mark.long


DETAIL = {
    "log_links[0].name": "Snowflake Query Details",
    "log_links[0].uri": "https://app.snowflake.com/eu1/acme/#/compute/history/queries/QUERY/detail",
}
BLOB = "outputs.literals.results.scalar.blob"


def without_id(story: Story) -> Story:
    """Return the story without the query's id, which the backend makes up."""
    return story.without(query_id(story), "QUERY")


def query_id(story: Story) -> str:
    assert story.resource_meta is not None
    query_id: str = json.loads(story.resource_meta)["query_id"]
    return query_id


def pickle_at(place: str, query_id: str) -> bytes:
    return Path(place).read_bytes().replace(query_id.encode(), b"QUERY")


async def run_on_both(clouds: Pair, name: str, inputs: Mapping[str, Any]) -> tuple[Story, Story]:
    return await clouds.run(clouds.theirs, name, inputs), await clouds.run(clouds.ours, name, inputs)


@pytest.mark.parametrize("name", ["create_table", "insert"])
async def test_a_statement_runs_the_same(clouds: Pair, name: str) -> None:
    await clouds.run(clouds.theirs, "create_table", {})
    theirs, ours = map(without_id, await run_on_both(clouds, name, {}))
    assert differences(theirs, ours) == []
    assert ours.resources == [{"phase": Phase.RUNNING, **DETAIL}, {"phase": Phase.SUCCEEDED, **DETAIL}]


async def test_a_query_has_the_same_result(clouds: Pair) -> None:
    await clouds.run(clouds.theirs, "create_table", {})
    await clouds.run(clouds.theirs, "insert", {})
    stories = await run_on_both(clouds, "query", {"customer": "bob"})
    # flytekit pickles the literal that the connector returns, and says where in its own temporary folder that is.
    places = [story.last[f"{BLOB}.uri"] for story in stories]
    theirs, ours = [without_id(story).without(place, "PLACE") for story, place in zip(stories, places, strict=True)]
    assert differences(theirs, ours) == []
    assert ours.last == {
        "phase": Phase.SUCCEEDED,
        f"{BLOB}.metadata.type.format": "PythonPickle",
        f"{BLOB}.uri": "PLACE",
        **DETAIL,
    }
    pickled = [pickle_at(place, query_id(story)) for place, story in zip(places, stories, strict=True)]
    assert pickled[0] == pickled[1]
    assert b"snowflake://sam:acme-eu1/COMPUTE/SHOP/PUBLIC/QUERY" in pickled[1]


async def test_a_query_that_fails_while_it_runs_has_failed(clouds: Pair) -> None:
    theirs, ours = map(without_id, await run_on_both(clouds, "broken", {}))
    assert differences(theirs, ours) == []
    assert ours.resources == [{"phase": Phase.RUNNING, **DETAIL}, {"phase": Phase.FAILED}]


@pytest.mark.parametrize("to_ours", [True, False], ids=["from flytekit's to ours", "from ours to flytekit's"])
@pytest.mark.parametrize("rounds", [1, 2], ids=["after CreateTask", "while it runs"])
async def test_a_query_in_flight_moves(clouds: Pair, to_ours: bool, rounds: int) -> None:
    stayed = without_id(await clouds.run(clouds.theirs, "create_table", {}))
    moved = without_id(await clouds.moved("create_table", {}, rounds=rounds, to_ours=to_ours))
    assert differences(stayed, moved) == []
    assert moved.calls == [("CreateTask", "OK"), ("GetTask", "OK"), ("GetTask", "OK")]


async def test_a_query_is_cancelled_by_either(clouds: Pair) -> None:
    for address in (clouds.theirs, clouds.ours):
        async with clouds.engine(address) as engine:
            task = engine.submit(clouds.template("create_table"))
            await engine.step()
            engine.abort(task)
            await engine.run_until_settled()
            assert [str(call) for call in task.calls] == ["CreateTask OK", "DeleteTask OK"]
