"""`connector-host serve --reload`: what an author saves is served, on the same ports, whatever was saved before."""

import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from flyteidl.admin.agent_pb2 import CreateTaskRequest, ListAgentsRequest
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub
from grpc_health.v1 import health_pb2, health_pb2_grpc

from connector_core.cli.app import run as connector_host
from tests.support.environments import try_to_run
from tests.support.hosts import HostProcess, host_process
from tests.support.terminals import CTRL_C, terminal

pytest.importorskip("watchfiles", reason="the extra `reload` brings it")

PLUGIN = """
from connector_core import AsyncConnectorBase, Phase, Resource, ResourceMeta, hookimpl

class Job(AsyncConnectorBase[ResourceMeta]):
    name = "Job"
    task_type_name = "TASK"

    def create(self):
        BODY
        return ResourceMeta()
    def get(self): return Resource(Phase.SUCCEEDED)
    def delete(self): pass

@hookimpl
def register_connectors():
    return [Job()]
"""


def save(folder: Path, task_type: str, body: str = "pass") -> None:
    """Save the plugin as an editor does: in another file, which then takes its place."""
    draft = folder / "tea.py~"
    draft.write_text(PLUGIN.replace("TASK", task_type).replace("BODY", body))
    draft.replace(folder / "tea.py")


def task_types(host: HostProcess) -> list[str]:
    with grpc.insecure_channel(host.address) as channel:
        agents = (
            AgentMetadataServiceStub(channel).ListAgents(ListAgentsRequest(), timeout=60, wait_for_ready=True).agents
        )
    return [name for agent in agents for name in agent.supported_task_types]


ALONE = ("--reload", "--modules", "tea", "--allow-plugin", "tea")
PROGRAM = Path(sys.executable).with_name("connector-host")
SERVES = r"^gRPC serves on "


def test_each_change_is_served_on_the_same_ports_and_a_mistake_heals(tmp_path: Path) -> None:
    save(tmp_path, "tea1")
    with host_process(*ALONE, cwd=tmp_path) as host, ThreadPoolExecutor(1) as page:
        http = ("127.0.0.1", int(host.metrics_url.rsplit(":", 1)[1].split("/")[0]))
        assert task_types(host) == ["tea1"]
        save(tmp_path, "tea2")
        host.wait_for("connector-host: tea.py changed: restarting")
        # A browser that comes in between waits, and is answered by the next host.
        answer = page.submit(lambda: urlopen(host.metrics_url, timeout=60).read().decode())
        host.wait_for(SERVES, times=2)
        assert task_types(host) == ["tea2"]
        assert "flyte_connector" in answer.result(60)
        (tmp_path / "tea.py").write_text("def broken(:\n")
        host.wait_for(r"plugin tea FAILED to load: SyntaxError: .*\(tea.py, line 1\)")
        host.wait_for(SERVES, times=3)
        assert task_types(host) == []
        save(tmp_path, "tea3")
        host.wait_for(SERVES, times=4)
        assert task_types(host) == ["tea3"]
        assert len({line for line in host.lines if line.startswith("gRPC serves on ")}) == 1
        assert len({line for line in host.lines if line.startswith("Metrics are at ")}) == 1
        assert host.stop(signal.SIGINT) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(http)


def test_a_settings_file_counts_as_source_and_what_keeps_the_host_from_serving_heals(tmp_path: Path) -> None:
    save(tmp_path, "tea1")
    with host_process(*ALONE, cwd=tmp_path) as host:
        (tmp_path / "connector-host.toml").write_text("nonsense = 1\n")
        host.wait_for("connector-host: 'nonsense' in connector-host.toml: unknown setting")
        (tmp_path / "connector-host.toml").write_text('require = ["nonesuch"]\n')
        host.wait_for("connector-host: plugin 'nonesuch' is required, but not installed")
        host.wait_for("the host has ended with 3; it is started again when a source changes")
        (tmp_path / "connector-host.toml").unlink()
        host.wait_for(SERVES, times=2)
        assert task_types(host) == ["tea1"]


def test_sigterm_lets_calls_in_flight_finish(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    save(tmp_path, "tea", body=f"open({str(gate)!r}).read()")
    with host_process(*ALONE, cwd=tmp_path) as host, grpc.insecure_channel(host.address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        call = AsyncAgentServiceStub(channel).CreateTask.future(CreateTaskRequest(template=TaskTemplate(type="tea")))
        with gate.open("w"):
            host.process.send_signal(signal.SIGTERM)
            assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert call.result(60).resource_meta
        assert host.wait() == 0


def test_ctrl_c_at_a_terminal_reaches_the_host_once_and_ends_both(tmp_path: Path) -> None:
    save(tmp_path, "tea")
    command = (PROGRAM, "serve", "--port", "0", "--http-port", "0", *ALONE)
    with terminal(*command, cwd=tmp_path) as screen:
        screen.wait_for("Metrics are at ")
        screen.type(CTRL_C)
        assert screen.wait() == 0
    assert "Traceback" not in screen.text


def test_a_host_does_not_outlive_the_parent_that_watches_for_it(tmp_path: Path) -> None:
    save(tmp_path, "tea")
    with host_process(*ALONE, cwd=tmp_path) as host:
        host.process.kill()
        host.wait_for_silence()


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--timeout", "0.01"], 0), (["--require", "nonesuch", "--port", "x"], 2)]
)
def test_the_exit_code_is_that_of_serve(arguments: list[str], code: int, tmp_path: Path) -> None:
    ended = try_to_run(PROGRAM, "serve", "--reload", "--port", "0", "--http-port", "0", *arguments, cwd=tmp_path)
    assert ended.returncode == code, ended.stderr


def test_without_watchfiles_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    assert connector_host(["serve", "--reload"]) == 1
    assert '--reload needs watchfiles: pip install "connector-core[reload]"' in capsys.readouterr().err
