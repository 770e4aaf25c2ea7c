"""`connector-host serve` and the engines of both lines: what it says of them, and what it says nothing of."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl2.connector import connector_pb2, service_pb2_grpc

from tests.support.hosts import host_process

SECRET = "hunter2-of-the-caller"
PLUGIN = """
import logging
from dataclasses import dataclass

from connector_core import AsyncConnectorBase, Phase, Resource, ResourceMeta, hookimpl

@dataclass
class Meta(ResourceMeta):
    job: str

class Leaky(AsyncConnectorBase[Meta]):
    name = "Leaky"
    task_type_name = "leaky"

    def create(self, connection):
        token = connection.secrets["pin"].get_secret_value()
        logging.getLogger("leaky").warning("connecting with %s as %s", token, connection)
        raise ValueError(f"invalid header: {token}")

    def get(self):
        return Resource(Phase.RUNNING)

    def delete(self):
        return None

@hookimpl
def register_connectors():
    return [Leaky()]
"""
ALONE = ("--modules", "leaky", "--allow-plugin", "leaky")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "leaky.py").write_text(PLUGIN)
    return tmp_path


def test_a_secret_of_a_caller_that_a_plugin_logs_and_raises_is_hidden(folder: Path) -> None:
    request = connector_pb2.CreateTaskRequest(output_prefix="s3://bucket/1")
    request.template.type = "leaky"
    request.connection.secrets["pin"] = SECRET
    with host_process(*ALONE, cwd=folder) as host:
        with grpc.insecure_channel(host.address) as channel:
            stub: Any = service_pb2_grpc.AsyncConnectorServiceStub(channel)
            with pytest.raises(grpc.RpcError):
                stub.CreateTask(request)
        assert host.stop() == 0
    assert "connecting with [hidden] as Connection(" in host.output
    assert "invalid header: [hidden]" in host.output
    assert SECRET not in host.output


@pytest.mark.parametrize(
    ("protocols", "says"),
    [
        ("auto", "Engines: those of the 1.x line (flyteidl) and of the 2.x line (flyteidl2)."),
        ("v1", "Engines: those of the 1.x line (flyteidl); not of the 2.x line: the setting protocols has v1 alone."),
    ],
)
def test_the_start_says_which_engines_are_served(folder: Path, protocols: str, says: str) -> None:
    variables: Any = {"CONNECTOR_HOST__PROTOCOLS": protocols}
    with host_process(*ALONE, cwd=folder, **variables) as host:
        assert host.stop() == 0
    assert says in host.output
