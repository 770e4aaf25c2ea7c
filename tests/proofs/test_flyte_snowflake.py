"""The connector of Flyte's SDK 2 for Snowflake, through the SDK's own server and ours, in the protocol's second generation."""

import json

import pytest

from connector_core import Phase
from tests.proofs.peers import Pair
from tests.proofs.stories import Story, differences

pytestmark = pytest.mark.long

DASHBOARD = {
    "log_links[0].name": "Snowflake Dashboard",
    "log_links[0].uri": "https://app.snowflake.com/acme/eu1/#/compute/history/queries/QUERY/detail",
    "log_links[0].link_type": 1,
    "log_links[0].ready": True,
}
RUNNING = {"phase": Phase.RUNNING, "message": "RUNNING", **DASHBOARD}
SUCCEEDED = {"phase": Phase.SUCCEEDED, "message": "SUCCESS", **DASHBOARD}


def without_id(story: Story) -> Story:
    """Return the story without the query's id, which the backend makes up."""
    assert story.resource_meta is not None
    return story.without(json.loads(story.resource_meta)["query_id"], "QUERY")


async def run_on_both(sdk: Pair, name: str, **inputs: object) -> Story:
    """Run a task on theirs and on ours, and return the story that both tell."""
    theirs, ours = [without_id(await sdk.run(address, name, inputs)) for address in (sdk.theirs, sdk.ours)]
    assert differences(theirs, ours) == []
    return ours


async def test_statements_and_a_query_answer_the_same(sdk: Pair) -> None:
    created = await run_on_both(sdk, "create_table")
    assert created.calls == [("CreateTask", "OK"), ("GetTask", "OK"), ("GetTask", "OK")]
    assert created.resources == [RUNNING, SUCCEEDED]
    inserted = await run_on_both(sdk, "insert_batch", customer=["bob", "eve"], pieces=[3, 5])
    assert inserted.resources == [RUNNING, SUCCEEDED]
    queried = await run_on_both(sdk, "query", customer="bob")
    assert {path: value for path, value in queried.last.items() if "outputs" not in path} == SUCCEEDED
    places = [value for path, value in queried.last.items() if path.endswith("structured_dataset.uri")]
    assert places == ["snowflake://sam/acme-eu1/COMPUTE/SHOP/PUBLIC/QUERY"]


async def test_a_query_that_fails_while_it_runs_says_why(sdk: Pair) -> None:
    story = await run_on_both(sdk, "broken")
    assert story.phase is Phase.FAILED
    assert "Table with name NOWHERE does not exist!" in story.last["message"]


@pytest.mark.parametrize("to_ours", [True, False], ids=["from flyte's to ours", "from ours to flyte's"])
async def test_a_query_in_flight_moves(sdk: Pair, to_ours: bool) -> None:
    stayed = without_id(await sdk.run(sdk.theirs, "create_table", {}))
    moved = without_id(await sdk.moved("create_table", {}, rounds=2, to_ours=to_ours))
    assert differences(stayed, moved) == []


async def test_a_query_is_cancelled_by_either(sdk: Pair) -> None:
    for address in (sdk.theirs, sdk.ours):
        async with sdk.engine(address) as engine:
            task = engine.submit(sdk.template("create_table"))
            await engine.step()
            engine.abort(task)
            await engine.run_until_settled()
        assert [str(call) for call in task.calls] == ["CreateTask OK", "DeleteTask OK"]
