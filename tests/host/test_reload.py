"""`connector-host serve --reload`: what an author saves is served, on the same ports, whatever was saved before."""

import contextlib
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
CHANGED = "connector-host: tea.py changed: restarting"


def test_each_change_is_served_on_the_same_ports_and_a_mistake_heals(tmp_path: Path) -> None:
    save(tmp_path, "tea1")
    with host_process(*ALONE, cwd=tmp_path) as host, ThreadPoolExecutor(1) as page:
        http = ("127.0.0.1", int(host.metrics_url.rsplit(":", 1)[1].split("/")[0]))
        assert task_types(host) == ["tea1"]
        save(tmp_path, "tea2")
        host.wait_for(CHANGED)
        # A browser that comes in between waits, and is answered by the next host.
        answer = page.submit(lambda: urlopen(host.metrics_url, timeout=60).read().decode())
        assert task_types(host) == ["tea2"]
        assert "flyte_connector" in answer.result(60)
        (tmp_path / "tea.py").write_text("def broken(:\n")
        host.wait_for(r"plugin tea FAILED to load: SyntaxError: .*\(tea.py, line 1\)")
        assert task_types(host) == []
        save(tmp_path, "tea3")
        host.wait_for(CHANGED, times=3)
        assert task_types(host) == ["tea3"]
        assert host.stop(signal.SIGINT) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(http)
        # The table is printed once; then a line for each change, and what is wrong.
        (end,) = (number for number, line in enumerate(host.lines) if line.startswith("Metrics are at "))
        rest = [line.rstrip("\n") for line in host.lines[end + 1 :] if not line.startswith("{")]  # but for the log
        assert [line for line in rest if line == CHANGED] == [CHANGED] * 3
        assert [line.split(":")[0] for line in rest if line != CHANGED] == [
            "plugin tea FAILED to load",
            "    for the traceback",
        ]


def test_who_connects_to_grpc_between_two_hosts_waits(tmp_path: Path) -> None:
    """No connection is refused, and none reaches the host that is about to end."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    save(tmp_path, "tea1")
    with host_process(*ALONE, cwd=tmp_path) as host:
        assert task_types(host) == ["tea1"]
        text = PLUGIN.replace("TASK", "tea2").replace("BODY", "pass")
        (tmp_path / "tea.py").write_text(f"open({str(gate)!r}).read()\n{text}")
        host.wait_for(CHANGED)
        with ThreadPoolExecutor(8) as callers, grpc.insecure_channel(host.address) as channel:
            stub = AgentMetadataServiceStub(channel)
            asked = [callers.submit(stub.ListAgents, ListAgentsRequest(), timeout=60) for _ in range(8)]
            with gate.open("w"):
                assert not any(one.done() for one in asked)
            answers = [one.result() for one in asked]
        assert {name for answer in answers for agent in answer.agents for name in agent.supported_task_types} == {
            "tea2"
        }


def test_only_files_that_are_imported_count(tmp_path: Path) -> None:
    save(tmp_path, "tea", body="import late")
    for name in ("late", "other"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    with host_process(*ALONE, cwd=tmp_path) as host:
        assert task_types(host) == ["tea"]
        (tmp_path / "other.py").write_text("x = 2\n")
        with grpc.insecure_channel(host.address) as channel:
            create = AsyncAgentServiceStub(channel).CreateTask
            create(CreateTaskRequest(template=TaskTemplate(type="tea")), timeout=60)
        (tmp_path / "late.py").write_text("x = 3\n")
        host.wait_for("connector-host: late.py changed: restarting")
        assert task_types(host) == ["tea"]
        save(tmp_path, "more")
        host.wait_for(CHANGED)
        assert task_types(host) == ["more"]
        assert len([line for line in host.lines if "changed: restarting" in line]) == 2


def test_a_settings_file_counts_as_source_and_what_keeps_the_host_from_serving_heals(tmp_path: Path) -> None:
    save(tmp_path, "tea1")
    with host_process(*ALONE, cwd=tmp_path) as host:
        (tmp_path / "connector-host.toml").write_text("nonsense = 1\n")
        host.wait_for("connector-host: 'nonsense' in connector-host.toml: unknown setting")
        (tmp_path / "connector-host.toml").write_text('require = ["nonesuch"]\n')
        host.wait_for("connector-host: plugin 'nonesuch' is required, but not installed")
        host.wait_for("the host has ended with 3; it is started again when a source changes")
        (tmp_path / "connector-host.toml").unlink()
        host.wait_for("connector-host: connector-host.toml changed: restarting", times=2)
        assert task_types(host) == ["tea1"]


@pytest.mark.parametrize("when", ["while plugins load", "while it serves", "while it starts again", "twice"])
def test_ctrl_c_is_quiet_at_any_moment(tmp_path: Path, when: str) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    text = PLUGIN.replace("TASK", "tea").replace("BODY", "pass")
    waiting = f"open({str(gate)!r}).read()\n{text}"
    (tmp_path / "tea.py").write_text(waiting if when == "while plugins load" else text)
    command = (PROGRAM, "serve", "--port", "0", "--http-port", "0", *ALONE)
    with contextlib.ExitStack() as stack, terminal(*command, cwd=tmp_path) as screen:
        if when != "while plugins load":
            screen.wait_for("Metrics are at ")
        if when == "while it starts again":
            (tmp_path / "tea.py").write_text(waiting)
            screen.wait_for("changed: restarting")
        if "load" in when or "again" in when:
            stack.enter_context(gate.open("w"))  # until the module is being imported
        screen.type(CTRL_C * (2 if when == "twice" else 1))
        assert screen.wait() == 0
        assert "Traceback" not in screen.text


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
