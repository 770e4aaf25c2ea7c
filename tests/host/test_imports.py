"""What a host imports before it serves, for its calls, and for who connects to its HTTP port: each module costs every start."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from flyteidl.admin.agent_pb2 import CreateTaskRequest, GetTaskRequest, ListAgentsRequest, TaskCategory
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub

from tests.support.hosts import HostProcess, host_process

PLUGIN = '''
"""A plugin that imports nothing but the core."""

from dataclasses import dataclass

from connector_core import AsyncConnectorBase, Phase, Resource, ResourceMeta, hookimpl


@dataclass
class Meta(ResourceMeta):
    job_id: str


class Job(AsyncConnectorBase[Meta]):
    name = task_type_name = "job"

    def create(self, inputs):
        return Meta(str(inputs))

    async def get(self, resource_meta):
        return Resource(Phase.SUCCEEDED, outputs={"x": resource_meta.job_id})

    async def delete(self):
        pass


@hookimpl
def register_connectors():
    return [Job()]
'''

FOR_HTTP = {
    "starlette",
    "uvicorn",
    "h11",
    "anyio",
    "prometheus_client",
    "http.server",
    "http.client",
    "multiprocessing",
}
FOR_THE_PAGE = {"jinja2"}
FOR_A_TERMINAL = {"rich", "pygments", "typer.rich_utils"}
FOR_EXTRAS = {"opentelemetry", "redis", "sqlite3", "watchfiles", "cookiecutter"}
FOR_OTHER_COMMANDS = {
    "connector_core.cli.running",
    "connector_core.cli.packages.change",
    "connector_core.testing",
}
OF_PLUGINS = {"pydantic", "pydantic_core", "flytekit", "flyte", "numpy", "pandas", "pyarrow", "yaml", "requests"}
FOR_REFLECTION = {"grpc_reflection.v1alpha"}
FOR_DESCRIPTORS = {"google.protobuf.descriptor_pb2", "flyteidl.service"}
FOR_A_SETTINGS_FILE = {"tomllib"}
FOR_ANSWERS_WITH_MORE = {"google.protobuf.json_format"}
FOR_NOBODY = {
    "structlog",
    "tenacity",
    "cachetools",
    "msgpack",
    "encodings.idna",
    "secrets",
    "click",
    "argparse",
    "wsgiref",
    "importlib.metadata",
    "email.message",
    "unittest",
    "xml",
}

NOT_FOR_GRPC = set.union(
    FOR_HTTP,
    FOR_THE_PAGE,
    FOR_A_TERMINAL,
    FOR_EXTRAS,
    FOR_OTHER_COMMANDS,
    OF_PLUGINS,
    FOR_REFLECTION,
    FOR_A_SETTINGS_FILE,
    FOR_ANSWERS_WITH_MORE,
    FOR_NOBODY,
)


@contextmanager
def telling_host(folder: Path, protocols: str = "auto") -> Iterator[HostProcess]:
    """A host that prints what it imports."""
    (folder / "a_plugin.py").write_text(PLUGIN)
    options = ("--modules", "a_plugin", "--allow-plugin", "a_plugin")
    with host_process(*options, cwd=folder, PYTHONPROFILEIMPORTTIME="1", CONNECTOR_HOST__PROTOCOLS=protocols) as host:
        yield host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HostProcess]:
    with telling_host(tmp_path) as host:
        yield host


def imported(host: HostProcess) -> set[str]:
    """Return all modules that the host has imported, and the packages that they are in."""
    names = re.findall(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", host.output, re.MULTILINE)
    return {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 2)}


def test_nothing_is_imported_that_serving_does_not_need(host: HostProcess) -> None:
    """Where something has to be in the list of one day, the benchmarks of the start say what it costs."""
    assert "connector_core.server" in imported(host)
    assert imported(host) & NOT_FOR_GRPC == set()


def test_the_first_generation_alone_needs_no_descriptors(tmp_path: Path) -> None:
    with telling_host(tmp_path, protocols="v1") as host:
        assert imported(host) & (NOT_FOR_GRPC | FOR_DESCRIPTORS) == set()


def test_a_call_imports_nothing_of_it_either(host: HostProcess) -> None:
    with grpc.insecure_channel(host.address) as channel:
        AgentMetadataServiceStub(channel).ListAgents(ListAgentsRequest())
        jobs = AsyncAgentServiceStub(channel)
        meta = jobs.CreateTask(CreateTaskRequest(template=TaskTemplate(type="job"))).resource_meta
        answer = jobs.GetTask(GetTaskRequest(task_category=TaskCategory(name="job"), resource_meta=meta))
    assert answer.resource.outputs.literals["x"].scalar.primitive.string_value == "{}"
    host.wait_for("create of job answered OK")
    assert imported(host) & NOT_FOR_GRPC == set()


def test_whoever_connects_to_the_http_port_is_served(host: HostProcess) -> None:
    with urlopen(host.metrics_url, timeout=60) as answer:
        assert b"flyte_connector_build_info" in answer.read()
    host.wait_for(r"import time:.* uvicorn$")
    assert imported(host) & (FOR_A_TERMINAL | FOR_THE_PAGE | OF_PLUGINS) == set()
