"""What flytekit's own connectors let every caller do, and what becomes of their tasks until the operator allows it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import SimpleType

from connector_core import Phase
from connector_core.plugins import PluginSource, declared_risks, load_plugins
from connector_core.settings import Settings
from connector_core.testing import RunningServer, running_server

PRESENT = {Phase.RUNNING, Phase.INITIALIZING}


@asynccontextmanager
async def host_with(bridge: PluginSource, *allowed: str) -> AsyncIterator[RunningServer]:
    async with running_server(plugins=[bridge], settings={"allow_risks": allowed}) as host:
        yield host


def sensor_meta(module: str, name: str, **inputs: Any) -> bytes:
    return json.dumps({"sensor_module": module, "sensor_name": name, "sensor_config": None, "inputs": inputs}).encode()


def file_sensor() -> TaskTemplate:
    template = TaskTemplate(type="sensor")
    template.custom.update({"sensor_module": "flytekit.sensor.file_sensor", "sensor_name": "FileSensor"})
    template.interface.inputs.variables["path"].type.simple = SimpleType.STRING
    return template


def test_they_are_said(bridge: PluginSource) -> None:
    risks = " ".join(declared_risks(load_plugins([bridge]), Settings()))
    assert "plugin 'flytekit/webhook' calls any URL that a caller names, also within the network" in risks
    assert "plugin 'flytekit/sensor' imports any module that a caller names, and tells whether a file exists" in risks


async def test_a_forged_resource_meta_imports_nothing_and_tells_of_no_file(
    bridge: PluginSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_module_to_import.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    forged = [
        sensor_meta("a_module_to_import", "Anything"),
        sensor_meta("flytekit.sensor.file_sensor", "FileSensor", path=str(tmp_path)),
        sensor_meta("flytekit.sensor.file_sensor", "FileSensor", path=str(tmp_path / "absent")),
    ]
    async with host_with(bridge) as host:
        answers = [await host.get("sensor", meta) for meta in forged]
    assert all(Phase(answer.phase) in PRESENT for answer in answers)
    assert len({answer.message for answer in answers}) == 1
    assert 'allow_risks = ["flytekit/sensor"]' in answers[0].message


async def test_a_webhook_is_refused_before_anything_is_called(bridge: PluginSource) -> None:
    template = TaskTemplate(type="webhook")
    template.custom.update({"url": "http://127.0.0.1:9/", "method": "GET", "headers": {}, "timeout_sec": 2})
    async with host_with(bridge) as host:
        refused = await host.get("webhook", await host.create(template))
    assert (Phase(refused.phase), refused.agent_error.code) == (Phase.FAILED, "RiskNotAllowed")
    async with host_with(bridge, "flytekit/webhook") as host:
        called = await host.get("webhook", await host.create(template))
    assert Phase(called.phase) is Phase.FAILED
    assert "allow_risks" not in called.message


async def test_a_sensor_in_flight_survives_an_upgrade_and_the_way_back(bridge: PluginSource, tmp_path: Path) -> None:
    file = tmp_path / "awaited"
    async with host_with(bridge, "flytekit") as before:
        meta = await before.create(file_sensor(), {"path": str(file)})
        assert Phase((await before.get("sensor", meta)).phase) is Phase.RUNNING
    file.touch()
    async with host_with(bridge) as upgraded:
        assert Phase((await upgraded.get("sensor", meta)).phase) in PRESENT
        refused = await upgraded.create(file_sensor(), {"path": str(file)})
        await upgraded.delete("sensor", meta)
    async with host_with(bridge, "flytekit/sensor") as back:
        assert Phase((await back.get("sensor", meta)).phase) is Phase.SUCCEEDED
        assert Phase((await back.get("sensor", refused)).phase) is Phase.FAILED
