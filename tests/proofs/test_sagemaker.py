"""flytekit's connectors for AWS, against moto's server, through flytekit's own server and through ours."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from connector_core import Phase
from tests.proofs.peers import Pair
from tests.proofs.stories import Story, differences, story_of

pytestmark = pytest.mark.long

Forget = Callable[[], None]


async def deploy(clouds: Pair, address: str) -> list[Story]:
    """Deploy a model on one server: the model, what its endpoint shall be like, and the endpoint."""
    model = await clouds.run(address, "model", {"name": "model"})
    named: dict[str, Any] = {"name": "config", "model": f"model-{model.outputs['idempotence_token']}"}
    config = await clouds.run(address, "endpoint_config", named)
    endpoint = await clouds.run(address, "endpoint", {"name": "endpoint", "config": "config"})
    return [model, config, endpoint]


async def test_a_model_is_deployed_the_same(clouds: Pair, forget_aws: Forget) -> None:
    forget_aws()
    theirs = await deploy(clouds, clouds.theirs)
    forget_aws()
    ours = await deploy(clouds, clouds.ours)
    assert [differences(one, other) for one, other in zip(theirs, ours, strict=True)] == [[], [], []]
    model, config, endpoint = ours
    assert [story.calls[0] for story in ours] == [
        ("ExecuteTaskSync", "OK"),
        ("ExecuteTaskSync", "OK"),
        ("CreateTask", "OK"),
    ]
    arn = "arn:aws:sagemaker:us-east-2:123456789012"
    assert model.outputs["result"] == {"ModelArn": f"{arn}:model/model-{model.outputs['idempotence_token']}"}
    assert config.outputs["result"] == {"EndpointConfigArn": f"{arn}:endpoint-config/config"}
    assert endpoint.phase is Phase.SUCCEEDED
    assert endpoint.outputs["result"] == {"EndpointArn": f"{arn}:endpoint/endpoint"}


@pytest.mark.parametrize("to_ours", [True, False], ids=["from flytekit's to ours", "from ours to flytekit's"])
async def test_an_endpoint_in_flight_moves_with_its_pickled_handle(
    clouds: Pair, forget_aws: Forget, to_ours: bool
) -> None:
    forget_aws()
    *_, stayed = await deploy(clouds, clouds.theirs)
    forget_aws()
    model = await clouds.run(clouds.theirs, "model", {"name": "model"})
    await clouds.run(
        clouds.theirs, "endpoint_config", {"name": "config", "model": f"model-{model.outputs['idempotence_token']}"}
    )
    moved = await clouds.moved("endpoint", {"name": "endpoint", "config": "config"}, rounds=1, to_ours=to_ours)
    assert differences(stayed, moved) == []
    assert moved.resource_meta is not None
    assert moved.resource_meta.startswith(pickle.PROTO)


async def test_an_endpoint_is_deleted_by_either(clouds: Pair, forget_aws: Forget) -> None:
    for address in (clouds.theirs, clouds.ours):
        forget_aws()
        await deploy(clouds, address)
        async with clouds.engine(address) as engine:
            task = engine.submit(clouds.template("endpoint"), {"name": "other", "config": "config"})
            await engine.step()
            engine.abort(task)
            await engine.run_until_settled()
        assert story_of(task).calls == [("CreateTask", "OK"), ("DeleteTask", "OK")]
        again = await clouds.run(address, "endpoint", {"name": "other", "config": "config"})
        assert again.phase is Phase.SUCCEEDED  # its name is free
