"""The smallest package installs, is served, and keeps the contract of every connector."""

import importlib
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin.agent_pb2 import CreateTaskRequest, GetTaskRequest, TaskCategory
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AsyncAgentServiceStub

from connector_core import Phase
from connector_core.literals import to_literal_map
from connector_core.testing import ConnectorContract
from tests.support.environments import ROOT, build_wheel, make_venv
from tests.support.hosts import host_process
from tests.support.markdown import Reader

FOLDER = ROOT / "examples" / "minimal"
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def wait_until(channel: grpc.Channel, moment: datetime) -> Phase:
    stub = AsyncAgentServiceStub(channel)
    inputs = to_literal_map({"moment": moment})
    handle = stub.CreateTask(CreateTaskRequest(template=TaskTemplate(type="wait_until"), inputs=inputs)).resource_meta
    question = GetTaskRequest(task_category=TaskCategory(name="wait_until"), resource_meta=handle)
    return Phase(stub.GetTask(question).resource.phase)


@pytest.mark.slow
def test_installed_from_its_wheel_it_is_served_and_called(core_wheel: Path, tmp_path: Path) -> None:
    venv = make_venv(tmp_path / "venv", core_wheel, build_wheel(FOLDER, tmp_path))
    with (
        host_process(program=venv.script("connector-host"), cwd=tmp_path) as host,
        grpc.insecure_channel(host.address) as channel,
    ):
        assert wait_until(channel, LONG_AGO) is Phase.SUCCEEDED
        assert wait_until(channel, datetime.now(UTC) + timedelta(days=1)) is Phase.RUNNING
        assert host.stop() == 0


@pytest.mark.slow
def test_following_its_readme_serves_it(newcomer: Reader) -> None:
    shutil.copytree(FOLDER, newcomer.folder / "examples" / "minimal")
    newcomer.follow(FOLDER / "README.md")


def test_the_module_has_25_lines() -> None:
    lines = (FOLDER / "wait_until.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 25


class TestContract(ConnectorContract):
    inputs = {"moment": LONG_AGO}
    module: Any = importlib.import_module("examples.minimal.wait_until")

    def make_connector(self) -> Any:
        return self.module.WaitUntil()

    def unknown_job(self) -> Any:
        return self.module.Wait(LONG_AGO)
