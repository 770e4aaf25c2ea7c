"""What flytekit's connectors find around their code, over real gRPC."""

import asyncio
import contextvars
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import flytekit
import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import Phase
from connector_core.literals import to_python_map
from connector_core.operations import Kind
from connector_core.plugins import PluginSource
from connector_core.secrets import SecretSource, use_source
from connector_core.testing import RunningServer, running_server
from connector_plugin_flytekit.context import enter_own_context

MODULE = "their_connectors"


@pytest.fixture
async def host(bridge: PluginSource, served: Path) -> AsyncIterator[RunningServer]:
    async with running_server(plugins=[MODULE, bridge]) as host:
        yield host


def outputs(resource: Any) -> dict[str, Any]:
    assert Phase(resource.phase) is Phase.SUCCEEDED, resource.message
    return to_python_map(resource.outputs)


async def test_each_method_is_declared_as_what_it_is(host: RunningServer) -> None:
    kinds = {
        category: host.server.registry.lookup(*category).operations
        for category in [("their_async", 0), ("their_blocking", 2), ("their_terse", 0), ("webhook", 0)]
    }
    assert kinds["their_async", 0] == dict.fromkeys(("create", "get", "delete"), Kind.COROUTINE)
    assert kinds["their_blocking", 2] == dict.fromkeys(("create", "get", "delete"), Kind.BLOCKING)
    assert kinds["their_terse", 0] == {"create": Kind.COROUTINE, "get": Kind.BLOCKING, "delete": Kind.COROUTINE}
    assert kinds["webhook", 0] == {"do": Kind.COROUTINE}


async def test_methods_get_what_they_take_and_no_more(host: RunningServer) -> None:
    meta = await host.create("their_terse")
    resource = await host.get("their_terse", meta, output_prefix="s3://bucket/out")
    await host.delete("their_terse", meta)
    assert resource.message == "their_terse to s3://bucket/out"


async def test_each_call_has_a_context_of_its_own(host: RunningServer) -> None:
    """Two calls push contexts at the same time; with one stack for both, each would see the other's."""
    both = [host.execute("their_contexts", output_prefix=str(number)) for number in range(2)]
    for resource in await asyncio.gather(*both):
        assert outputs(resource) == {"depth": 1, "within": 2, "decks": 1}


async def test_secrets_come_from_where_flytekit_has_them(host: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FSEC_THEIR_TOKEN", "hush\n")
    assert outputs(await host.execute("their_secrets")) == {"secret": "hush"}


async def test_secrets_come_from_where_the_settings_say(
    bridge: PluginSource, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS_THEIR_TOKEN", "from the environment")
    (tmp_path / "their_token").write_text("from a file\n")
    for secrets, expected in (
        ({"env_prefix": "OURS_"}, "from the environment"),
        ({"folder": str(tmp_path)}, "from a file"),
    ):
        async with running_server(plugins=[MODULE, bridge], settings={"secrets": secrets}) as host:
            assert outputs(await host.execute("their_secrets")) == {"secret": expected}


def test_secrets_are_known_to_the_host_which_keeps_them_out_of_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FSEC_STORE_KEY", "hush-hush\n")
    source = SecretSource()

    def call() -> Any:
        use_source(source)
        enter_own_context()
        return flytekit.current_context().secrets.get("store", "key")

    assert contextvars.copy_context().run(call) == "hush-hush"
    assert source.handed_out == {"hush-hush"}


async def test_a_sync_connector_answers_what_it_is_asked(host: RunningServer) -> None:
    template = TaskTemplate(type="their_answers")
    resource = await host.execute(template, {"n": 1, "text": "täxt"}, output_prefix="s3://bucket/out")
    assert outputs(resource) == {"n": 1, "text": "täxt"}
    assert resource.message == "their_answers to s3://bucket/out"


async def test_a_plugin_that_the_operator_vouches_for_runs_in_place(bridge: PluginSource, served: Path) -> None:
    async with running_server(plugins=[MODULE, bridge], settings={"in_place": [MODULE]}) as host:
        answers = await asyncio.gather(*(host.execute("their_answers", {"n": number}) for number in range(20)))
    assert [outputs(one) for one in answers] == [{"n": number} for number in range(20)]


async def test_what_unpickles_its_metadata_is_a_risk_unless_resource_metas_are_signed(
    bridge: PluginSource, served: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async with running_server(plugins=[MODULE, bridge]):
        (risk,) = [record.getMessage() for record in caplog.records if "unpickles" in record.getMessage()]
    assert (
        "a connector that unpickles its resource metas (with cloudpickle) runs whatever code is in a forged one" in risk
    )
    assert "'Their Blocking Jobs' of plugin 'their_connectors', 'Their Terse Jobs' of plugin 'their_connectors'" in risk
    caplog.clear()
    keys = tmp_path / "keys"
    keys.write_text("k" * 40 + "\n")
    async with running_server(plugins=[MODULE, bridge], settings={"signing": {"keys_file": str(keys)}}) as host:
        meta = await host.create("their_terse")
        assert (await host.get("their_terse", meta)).message.startswith("their_terse")
    assert "unpickles" not in caplog.text
