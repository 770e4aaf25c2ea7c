"""Stories that differ are told apart, down to the field; those that say the same are not."""

import pickle
from dataclasses import replace

import pytest
from flyteidl.admin.agent_pb2 import Resource as ResourceMessage
from flyteidl.core.execution_pb2 import TaskExecution, TaskLog
from grpc import StatusCode

from connector_core import Phase
from connector_core.testing import FakePropeller
from connector_core.testing.propeller import Call
from tests.proofs.stories import Story, differences, story_of

TOLD = Story([("CreateTask", "OK")], b"{}", [{"phase": 2}, {"phase": 3, "message": "done"}], Phase.SUCCEEDED, {})


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (replace(TOLD, resource_meta=b"{ }"), "resource_meta: theirs b'{}', ours b'{ }'"),
        (replace(TOLD, phase=Phase.FAILED), "phase: theirs <Phase.SUCCEEDED: 3>, ours <Phase.FAILED: 5>"),
        (replace(TOLD, resources=[{"phase": 2}, {"phase": 3}]), "resource 1, message: theirs 'done', ours None"),
        (replace(TOLD, resources=[{"phase": 2}]), "number of resources: theirs 2, ours 1"),
        (replace(TOLD, calls=[]), "calls: theirs [('CreateTask', 'OK')], ours []"),
    ],
)
def test_a_difference_is_named(other: Story, found: str) -> None:
    assert differences(TOLD, TOLD) == []
    assert differences(TOLD, other) == [found]


def test_pickles_may_have_their_maps_in_another_order_and_nothing_else() -> None:
    one = replace(TOLD, resource_meta=pickle.dumps({"a": [1, 2], "b": "text"}))
    assert differences(one, replace(TOLD, resource_meta=pickle.dumps({"b": "text", "a": [1, 2]}))) == []
    assert differences(one, replace(TOLD, resource_meta=pickle.dumps({"a": [1, 3], "b": "text"}))) != []


@pytest.mark.parametrize("has_ended", [False, True])
async def test_every_field_that_is_read_is_in_the_story_and_what_is_said_again_is_not(has_ended: bool) -> None:
    """Outputs are not read before the end."""
    phase = TaskExecution.SUCCEEDED if has_ended else TaskExecution.RUNNING
    said = ResourceMessage(phase=phase, log_links=[TaskLog(uri="u", name="n")])
    said.custom_info.update({"depth": {"of": [1.5]}})
    said.outputs.literals["x"].scalar.primitive.integer = 3
    async with FakePropeller(["127.0.0.1:1"]) as engine:
        task = engine.submit("any")
    task.calls += [Call("GetTask", 0, "default", StatusCode.OK, resource=said)] * 2
    fields = {
        "phase": int(phase),
        "log_links[0].uri": "u",
        "log_links[0].name": "n",
        "custom_info.depth.of[0]": 1.5,
        **({"outputs.literals.x.scalar.primitive.integer": "3"} if has_ended else {}),
    }
    assert story_of(task).calls == [("GetTask", "OK")]
    assert story_of(task).resources == [fields]
