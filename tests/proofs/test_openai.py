"""flytekit's connectors for OpenAI, on a server that speaks its API, through flytekit's own server and through ours."""

import pickle

import pytest

from connector_core import Phase
from tests.proofs.backends.openai_api import OpenAI
from tests.proofs.peers import Pair
from tests.proofs.stories import Story, differences, story_of

pytestmark = pytest.mark.slow

CHAT = {"model": "gpt-test", "messages": [{"role": "user", "content": "what is it?"}]}
LINE = {"custom_id": "first", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}


def fresh(openai: OpenAI) -> str:
    """Begin anew with one file of input; return its id, which is always the same."""
    openai.reset()
    return openai.add_file(LINE, {**LINE, "custom_id": "second"})


async def run_batch(both: Pair, openai: OpenAI, address: str) -> Story:
    return await both.run(address, "batch", {"input_file_id": fresh(openai)})


async def test_chatgpt_is_asked_the_same_and_its_answer_is_the_output(both: Pair, openai: OpenAI) -> None:
    def trace() -> object:
        asked = openai.log.take()
        openai.reset()
        return asked

    story = await both.same("chat", {"message": "Wie geht's, Welt?"}, trace)
    assert story.calls == [("ExecuteTaskSync", "OK")]
    assert story.outputs == {"o0": "gpt-test was told: Wie geht's, Welt?"}


async def test_the_key_and_the_organization_reach_openai_through_ours(both: Pair, openai: OpenAI) -> None:
    await both.run(both.ours, "chat", {"message": "hello"})
    (asked,) = openai.log.take()
    assert asked.headers["authorization"].startswith("Bearer sk-of-tests")
    assert asked.headers["openai-organization"] == "org-of-tests"
    assert asked.body["model"] == "gpt-test"


async def test_a_batch_goes_through_the_same_states_to_the_same_result(both: Pair, openai: OpenAI) -> None:
    theirs = await run_batch(both, openai, both.theirs)
    asked_by_theirs = openai.log.take()
    ours = await run_batch(both, openai, both.ours)
    assert openai.log.take() == asked_by_theirs
    assert differences(theirs, ours) == []
    assert ours.resource_meta == theirs.resource_meta  # byte for byte
    assert [resource["phase"] for resource in ours.resources] == [Phase.RUNNING, Phase.SUCCEEDED]
    result = ours.outputs["result"]
    assert (result["status"], result["metadata"]) == ("completed", {"team": "red"})
    answers = openai.file(result["output_file_id"])
    assert [answer["custom_id"] for answer in answers] == ["first", "second"]
    assert answers[0]["response"]["body"]["choices"][0]["message"]["content"] == "gpt-test was told: what is it?"


async def test_a_batch_that_fails_says_why(both: Pair, openai: OpenAI) -> None:
    def trace() -> object:
        asked = openai.log.take()
        openai.reset()
        return asked

    story = await both.same("batch_of_defaults", {"input_file_id": "file-of-nobody"}, trace)
    assert story.phase is Phase.FAILED
    assert story.last["message"] == "The input file file-of-nobody cannot be found."


@pytest.mark.parametrize("to_ours", [True, False], ids=["from flytekit's to ours", "from ours to flytekit's"])
@pytest.mark.parametrize("rounds", [1, 3], ids=["after CreateTask", "while it runs"])
async def test_a_batch_in_flight_moves_with_its_pickled_handle(
    both: Pair, openai: OpenAI, to_ours: bool, rounds: int
) -> None:
    stayed = await run_batch(both, openai, both.theirs)
    file_id = fresh(openai)
    moved = await both.moved("batch", {"input_file_id": file_id}, rounds=rounds, to_ours=to_ours)
    assert differences(stayed, moved) == []
    assert moved.phase is Phase.SUCCEEDED
    assert moved.resource_meta is not None
    assert moved.resource_meta.startswith(pickle.PROTO)


async def test_an_aborted_batch_is_cancelled_by_either(both: Pair, openai: OpenAI) -> None:
    for address in (both.theirs, both.ours):
        file_id = fresh(openai)
        async with both.engine(address) as engine:
            task = engine.submit(both.template("batch"), {"input_file_id": file_id})
            await engine.step()
            await engine.step()
            engine.abort(task)
            await engine.run_until_settled()
        assert story_of(task).calls == [("CreateTask", "OK"), ("GetTask", "OK"), ("DeleteTask", "OK")]
        assert openai.status("batch_2") == "cancelling"


async def test_an_engine_of_the_2x_line_hears_the_same_of_a_batch(both: Pair, openai: OpenAI) -> None:
    theirs = await run_batch(both, openai, both.theirs)
    ours = await run_batch(both.of_2x(), openai, both.ours)
    assert ours.calls == theirs.calls
    assert ours.resource_meta == theirs.resource_meta
    assert [state["phase"] for state in ours.resources] == [state["phase"] for state in theirs.resources]
    assert ours.outputs == theirs.outputs
