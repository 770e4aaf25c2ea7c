"""flytekit's webhook connector asks the same and answers the same through its own server and through ours."""

import json
from typing import Any

import pytest

from connector_core import Phase
from tests.proofs.backends.webhooks import Webhooks
from tests.proofs.peers import Pair

pytestmark = pytest.mark.slow


async def test_a_post_carries_its_inputs_and_what_it_was_answered_is_the_output(
    both: Pair, webhooks: Webhooks, webhooks_url: str
) -> None:
    inputs: dict[str, Any] = {"url": f"{webhooks_url}/echo", "text": "hé", "team": "red", "times": 3}
    story = await both.same("post", inputs, webhooks.log.take)
    assert (story.calls, story.phase) == ([("ExecuteTaskSync", "OK")], Phase.SUCCEEDED)
    assert story.last["message"] == "Webhook was successfully invoked!"
    body = {"text": "hé", "nested": {"times": 3, "list": ["a", "hé"]}}
    answered = f"POST with {json.dumps(body, sort_keys=True)} · grüß Gott"
    assert story.outputs["info"] == {
        "status_code": 200,
        "response_data": answered,
        "input_data": body,
        "url": inputs["url"],
    }


async def test_a_get_that_is_refused_has_failed_with_what_it_was_told(
    both: Pair, webhooks: Webhooks, webhooks_url: str
) -> None:
    story = await both.same("get", {"url": f"{webhooks_url}/busy", "text": "why?"}, webhooks.log.take)
    assert story.phase is Phase.FAILED
    assert story.last["message"] == "Webhook failed with status code 503, response: come back later"


async def test_a_url_at_which_nobody_listens_is_a_failure_with_the_clients_own_words(both: Pair) -> None:
    story = await both.same("get", {"url": "http://127.0.0.1:1/", "text": ""})
    assert story.phase is Phase.FAILED
    assert "connection attempts failed" in story.last["message"]


async def test_what_is_called_is_what_the_workflow_asked_for(both: Pair, webhooks: Webhooks, webhooks_url: str) -> None:
    webhooks.log.take()
    await both.run(both.ours, "get", {"url": f"{webhooks_url}/echo", "text": "a b&c"})
    (asked,) = webhooks.log.take()
    assert (asked.method, asked.url, asked.headers["accept"]) == ("GET", "/echo?q=a+b%26c", "text/plain")


async def test_an_engine_of_the_2x_line_which_has_no_sync_calls_gets_the_same_output(
    both: Pair, webhooks: Webhooks, webhooks_url: str
) -> None:
    inputs: dict[str, Any] = {"url": f"{webhooks_url}/echo", "text": "hé", "team": "red", "times": 3}
    theirs = await both.run(both.theirs, "post", inputs)
    asked_by_theirs = webhooks.log.take()
    ours = await both.of_2x().run(both.ours, "post", inputs)
    assert webhooks.log.take() == asked_by_theirs[-1:]
    assert ours.calls == [("CreateTask", "OK"), ("GetTask", "OK")]
    assert (ours.phase, ours.last["message"]) == (theirs.phase, theirs.last["message"])
    assert ours.outputs == theirs.outputs
