"""A connector from the registry, flyteplugins-slurm, at work: its own server and ours, with jobs on a small cluster."""

import asyncio
import json
import os
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flyte.connectors import ConnectorRegistry
from flyteidl2.connector import connector_pb2
from flyteidl2.core.execution_pb2 import TaskExecution
from flyteidl2.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl2.core.types_pb2 import SimpleType
from flyteidl2.task.common_pb2 import Inputs, NamedLiteral

from connector_core.inspection import InspectedConnector
from connector_core.plugins import installed_plugins, load_plugins
from connector_core.testing import running_server
from connector_plugin_flyte.connector import BridgedConnector
from tests.support.environments import run, uv
from tests.support.flyte_sdk import async_stub, create_request, sdk_server
from tests.support.slurm import Cluster, slurm_cluster

pytestmark = pytest.mark.slow

SCRIPT = connector_pb2.TaskCategory(name="slurm_script")


@pytest.fixture(scope="module")
def connectors(tmp_path_factory: pytest.TempPathFactory) -> list[BridgedConnector]:
    """What the bridge brings of the package, which is outside of this environment, as all its hosts would import it."""
    folder = tmp_path_factory.mktemp("slurm")
    run(uv(), "pip", "install", "--quiet", "--no-deps", "--target", folder, "flyteplugins-slurm")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.syspath_prepend(str(folder))
        result = load_plugins(source for source in installed_plugins() if source.identity.name == "flyte")
    entries = [entry for plugin in result.loaded for entry in plugin.connectors]
    brought = [entry.connector for entry in entries if isinstance(entry, InspectedConnector)]
    return [connector for connector in brought if isinstance(connector, BridgedConnector)]


@dataclass(frozen=True)
class Asked:
    """One of the servers, and the cluster."""

    stub: Any
    cluster: Cluster

    async def create(self, script: str, **outputs: str) -> bytes:
        custom = {
            "connection": self.cluster.connection,
            "working_dir": str(self.cluster.folder / "work"),
            "script": script,
            "outputs": outputs,
        }
        word = NamedLiteral(name="word", value=Literal(scalar=Scalar(primitive=Primitive(string_value="hello"))))
        request = create_request("slurm_script", Inputs(literals=[word]), custom, word=SimpleType.STRING)
        request.output_prefix = str(self.cluster.folder / "results")
        request.connection.secrets["ssh_private_key"] = self.cluster.private_key
        meta: bytes = (await self.stub.CreateTask(request)).resource_meta
        return meta

    async def get(self, meta: bytes) -> connector_pb2.Resource:
        request = connector_pb2.GetTaskRequest(task_category=SCRIPT, resource_meta=meta)
        request.connection.secrets["ssh_private_key"] = self.cluster.private_key
        resource: connector_pb2.Resource = (await self.stub.GetTask(request)).resource
        return resource

    async def end(self, meta: bytes) -> connector_pb2.Resource:
        """Poll until the job is over; the cluster takes its time for each answer."""
        while (resource := await self.get(meta)).phase == TaskExecution.RUNNING:
            pass
        return resource

    async def delete(self, meta: bytes) -> None:
        request = connector_pb2.DeleteTaskRequest(task_category=SCRIPT, resource_meta=meta)
        request.connection.secrets["ssh_private_key"] = self.cluster.private_key
        await self.stub.DeleteTask(request)


@pytest.fixture
async def servers(
    connectors: list[BridgedConnector], sdk_registry: None, tmp_path: Path
) -> AsyncIterator[tuple[Asked, Asked]]:
    """flyte's server and ours, each with connectors of its own: their SSH connections belong to one event loop."""
    for connector in connectors:
        ConnectorRegistry.register(type(connector.theirs)(), override=True)
    ours = [BridgedConnector(type(connector.theirs)(), connector.name) for connector in connectors]
    async with (
        sdk_server() as channel,
        running_server(*ours) as host,
        slurm_cluster(tmp_path) as cluster,  # leaves first, and so ends the connections, which the SDK cannot
    ):
        yield Asked(async_stub(channel), cluster), Asked(async_stub(host.channel), cluster)


async def test_a_job_on_a_cluster_is_told_the_same_by_both_servers_whoever_created_it(
    servers: tuple[Asked, Asked], tmp_path: Path
) -> None:
    theirs, ours = servers
    (tmp_path / "results").mkdir()
    script = '#!/bin/bash\ncat {}\necho "$FLYTE_INPUT_WORD" | tee "$FLYTE_OUTPUT_REPORT"\n'
    gates = [tmp_path / "theirs", tmp_path / "ours"]
    for gate in gates:
        os.mkfifo(gate)
    metas = [await asked.create(script.format(gate), report="file") for asked, gate in zip(servers, gates, strict=True)]
    assert comparable(metas[0]) == comparable(metas[1])
    for meta in metas:
        assert await ours.get(meta) == await theirs.get(meta)
        assert (await ours.get(meta)).phase == TaskExecution.RUNNING
    for meta, gate in zip(metas, gates, strict=True):
        await asyncio.to_thread(gate.write_text, "go")
        by_ours, by_theirs = await ours.end(meta), await theirs.end(meta)
        assert by_ours == by_theirs
        assert by_ours.phase == TaskExecution.SUCCEEDED
        (report,) = by_ours.outputs.literals
        assert await asyncio.to_thread(Path(report.value.scalar.blob.uri).read_text) == "hello\n"


async def test_a_job_that_fails_or_is_deleted_ends_the_same_on_both_servers(servers: tuple[Asked, Asked]) -> None:
    theirs, ours = servers
    failing = await ours.create("echo broken >&2; exit 3")
    by_ours, by_theirs = await ours.end(failing), await theirs.end(failing)
    assert by_ours == by_theirs
    assert by_ours.phase == TaskExecution.FAILED
    assert "broken" in by_ours.message
    endless = await theirs.create("sleep 1000")
    await ours.delete(endless)
    await ours.delete(endless)
    assert await ours.get(endless) == await theirs.get(endless)
    assert (await ours.get(endless)).phase == TaskExecution.ABORTED


def comparable(meta: bytes) -> dict[str, Any]:
    """Return what a resource meta says, without what differs from job to job."""
    fields = json.loads(meta)
    name = fields.pop("job_name")
    assert fields.pop("job_id").isdigit()
    return json.loads(json.dumps(fields).replace(name, "NAME"))  # type: ignore[no-any-return]
