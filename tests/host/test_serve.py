"""`connector-host serve` in a process of its own: how it starts, drains and ends."""

import asyncio
import concurrent.futures
import contextlib
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import grpc
import psutil
import pytest
from flyteidl.admin.agent_pb2 import CreateRequestHeader, CreateTaskRequest, ExecuteTaskSyncRequest, ListAgentsRequest
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub, SyncAgentServiceStub
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.support.bytes_server import end_aio
from tests.support.environments import try_to_run
from tests.support.gate import PLUGIN, Gate
from tests.support.hosts import HostProcess, host_process

CONNECTOR_HOST = Path(sys.executable).with_name("connector-host")

SLOW = """
from pathlib import Path
from threading import Event

from connector_core import Phase, Resource, SyncConnectorBase, hookimpl


class Slow(SyncConnectorBase):
    name = task_type_name = "slow"

    def start(self):
        Path("started").touch()
        Event().wait()

    def do(self):
        return Resource(Phase.SUCCEEDED)


@hookimpl
def register_connectors():
    return [Slow()]
"""


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with the plugin that waits at a gate."""
    (tmp_path / "at_the_gate.py").write_text(textwrap.dedent(PLUGIN))
    return tmp_path


def create(channel: grpc.Channel, task_type: str) -> Any:
    request = CreateTaskRequest(template=TaskTemplate(type=task_type))
    return AsyncAgentServiceStub(channel).CreateTask.future(request)


def wait_until_not_serving(channel: grpc.Channel) -> None:
    """Return when health, which is watched, says that the host drains."""
    for answer in HealthStub(channel).Watch(HealthCheckRequest()):
        if answer.status != HealthCheckResponse.SERVING:
            return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_20_calls_in_flight_finish_and_ends_with_0(folder: Path, gate: Gate, number: int) -> None:
    with (
        host_process("--modules", "at_the_gate", cwd=folder, GATE=str(gate.port)) as host,
        grpc.insecure_channel(host.address) as channel,
        concurrent.futures.ThreadPoolExecutor(1) as threads,
    ):
        drains = threads.submit(wait_until_not_serving, channel)
        calls = [create(channel, task_type) for task_type in ["blocking", "asynchronous"] * 10]
        gate.wait_for(20)
        host.process.send_signal(number)
        drains.result(30)
        assert not any(call.done() for call in calls)
        gate.open()
        assert [call.result(30).resource_meta for call in calls] == [b"{}"] * 20
        assert host.wait() == 0


def test_a_second_signal_ends_the_grace(folder: Path, gate: Gate) -> None:
    with (
        host_process("--modules", "at_the_gate", "--grace", "600", cwd=folder, GATE=str(gate.port)) as host,
        grpc.insecure_channel(host.address) as channel,
        concurrent.futures.ThreadPoolExecutor(1) as threads,
    ):
        drains = threads.submit(wait_until_not_serving, channel)
        calls = [create(channel, "blocking"), create(channel, "asynchronous")]
        gate.wait_for(2)
        host.process.send_signal(signal.SIGTERM)
        drains.result(30)
        assert host.stop() == 0
        assert {call.code() for call in calls} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_calls_that_never_end_do_not_keep_the_exit_beyond_the_grace(folder: Path, gate: Gate) -> None:
    with (
        host_process("--modules", "at_the_gate", "--grace", "0.2", cwd=folder, GATE=str(gate.port)) as host,
        grpc.insecure_channel(host.address) as channel,
    ):
        calls = [create(channel, "blocking"), create(channel, "asynchronous")]
        gate.wait_for(2)
        assert host.stop() == 0
        assert all(call.code() is not grpc.StatusCode.OK for call in calls)


@pytest.fixture
def host_as_pid_1(folder: Path, gate: Gate) -> Iterator[HostProcess]:
    """A host that is process 1 of a PID namespace, as in a container."""
    unshare = ("unshare", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to make a PID namespace (run as root)")
    with host_process("--modules", "at_the_gate", cwd=folder, before=unshare, GATE=str(gate.port)) as host:
        yield host


def test_as_process_1_a_sigterm_drains_and_ends_with_0(host_as_pid_1: HostProcess, gate: Gate) -> None:
    with grpc.insecure_channel(host_as_pid_1.address) as channel:
        call = create(channel, "blocking")
        gate.wait_for(1)
        (first,) = psutil.Process(host_as_pid_1.process.pid).children()
        first.send_signal(signal.SIGTERM)
        gate.open()
        assert call.result(30).resource_meta == b"{}"
        assert host_as_pid_1.wait() == 0


def test_as_process_1_it_reaps_orphans(host_as_pid_1: HostProcess) -> None:
    (first,) = psutil.Process(host_as_pid_1.process.pid).children()
    namespace = ["nsenter", "--target", str(first.pid), "--pid", "--mount"]
    # The shell ends before its child, which then belongs to process 1.
    script = "sh -c 'sleep 0.2 & echo $!'"
    orphan = subprocess.run([*namespace, "sh", "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    waiting = f"while [ -e /proc/{orphan} ]; do sleep 0.05; done"
    subprocess.run([*namespace, "sh", "-c", waiting], check=True, timeout=30)


def test_a_second_host_on_the_same_port_says_so_and_fails() -> None:
    with host_process() as host:
        second = try_to_run(CONNECTOR_HOST, "serve", "--port", str(host.grpc_port), "--http-port", "0")
        assert second.returncode == 1
        assert f"the gRPC port 127.0.0.1:{host.grpc_port} is taken by another process" in second.stderr
        assert len(second.stderr.splitlines()) == 1, "neither a traceback nor a line of gRPC's own"


def test_a_taken_port_is_reported_while_a_connector_would_still_start(tmp_path: Path) -> None:
    """Its `start()` would go on until somebody opens the gate, which nobody does."""
    (tmp_path / "slow.py").write_text(SLOW)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        serve = ("serve", "--modules", "slow", "--port", number, "--http-port", "0", "--start-timeout", "600")
        result = try_to_run(CONNECTOR_HOST, *serve, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"connector-host: the gRPC port 127.0.0.1:{number} is taken")
    assert "add_port" not in result.stderr, "a line of gRPC's own"
    assert not (tmp_path / "started").exists()


def test_a_host_whose_grpc_has_ended_ends_with_1() -> None:
    with host_process(CONNECTOR_HOST__TRANSPORT="aio") as host, asyncio.run(end_aio(host.grpc_port)):
        assert host.wait() == 1
        assert "connector-host: gRPC is no longer served, although nobody stopped it" in host.output
        assert '"level": "critical"' in host.output


def test_idle_connections_do_not_shut_others_out_where_descriptors_are_few() -> None:
    few = ("prlimit", "--nofile=256:256")
    with contextlib.ExitStack() as idle, host_process(before=few) as host:
        http = urlsplit(host.metrics_url).port
        assert http is not None
        for port in (host.grpc_port, http):
            for _ in range(200):
                idle.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        with urlopen(f"http://127.0.0.1:{http}/healthz", timeout=30) as answer:
            assert answer.status == 200
        with grpc.insecure_channel(host.address) as channel:
            AgentMetadataServiceStub(channel).ListAgents(ListAgentsRequest(), timeout=60, wait_for_ready=True)


FORKING = """
import os
import time

from connector_core import Phase, Resource, SyncConnectorBase, hookimpl


class Forking(SyncConnectorBase):
    name = task_type_name = "forking"

    def do(self):
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(theirs, b"1")  # what runs after a fork is over
            time.sleep(3600)
        os.read(ours, 1)
        return Resource(Phase.SUCCEEDED, message=str(child))


@hookimpl
def register_connectors():
    return [Forking()]
"""


def test_a_child_that_a_plugin_forks_keeps_no_port_and_no_connection(tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(FORKING)
    with host_process("--modules", "forking", cwd=tmp_path) as host, grpc.insecure_channel(host.address) as channel:
        http = urlsplit(host.metrics_url).port
        assert http is not None
        header = CreateRequestHeader(template=TaskTemplate(type="forking"))
        (answer,) = SyncAgentServiceStub(channel).ExecuteTaskSync(iter([ExecuteTaskSyncRequest(header=header)]))
        child = psutil.Process(int(answer.header.resource.message))
        try:
            ports = {host.grpc_port, http}
            assert not ports & {one.laddr.port for one in child.net_connections()}
            host.process.terminate()
            assert host.process.wait(60) == 0
            for port in ports:
                socket.create_server(("127.0.0.1", port)).close()
        finally:
            child.kill()


COMING_BACK = """
import asyncio
import os

from connector_core import Phase, Resource, SyncConnectorBase, hookimpl


class Blocking(SyncConnectorBase):
    name = task_type_name = "blocking"

    def do(self):
        return Resource(Phase.SUCCEEDED, message=str(os.fork()))


class Asynchronous(SyncConnectorBase):
    name = task_type_name = "asynchronous"

    async def do(self):
        child = os.fork()
        await asyncio.sleep(0.01)
        return Resource(Phase.SUCCEEDED, message=str(child))


@hookimpl
def register_connectors():
    return [Blocking(), Asynchronous()]
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("in_place", ["", "coming_back"])
def test_a_forked_child_that_comes_back_from_plugin_code_is_ended(tmp_path: Path, loop: str, in_place: str) -> None:
    """It would be a second host, on the same loop's descriptors."""
    (tmp_path / "coming_back.py").write_text(COMING_BACK)
    options = ("--modules", "coming_back", "--allow-plugin", "coming_back", "--loop", loop)
    with (
        host_process(*options, cwd=tmp_path, CONNECTOR_HOST__IN_PLACE=in_place) as host,
        grpc.insecure_channel(host.address) as channel,
    ):
        for task_type in ("blocking", "asynchronous") * 3:
            header = CreateRequestHeader(template=TaskTemplate(type=task_type))
            call = SyncAgentServiceStub(channel).ExecuteTaskSync(
                iter([ExecuteTaskSyncRequest(header=header)]), timeout=30
            )
            (answer,) = call
            assert int(answer.header.resource.message) > 0, "the child has answered"
        host.wait_for("a child that plugin code forked came back", times=6)
        assert {child.status() for child in psutil.Process(host.process.pid).children()} <= {psutil.STATUS_ZOMBIE}
        assert host.stop() == 0


BROKEN_OPEN = """
import builtins
from connector_core import hookimpl


def broken(*_arguments, **_options):
    raise RuntimeError("this plugin knows better how files are opened")


builtins.open = broken


@hookimpl
def register_connectors():
    return []
"""


def test_a_plugin_that_replaces_open_does_not_keep_http_from_being_served(tmp_path: Path) -> None:
    (tmp_path / "opener.py").write_text(BROKEN_OPEN)
    with host_process("--modules", "opener", cwd=tmp_path) as host:
        for path in ("/healthz", "/metrics"):
            with urlopen(host.metrics_url.replace("/metrics", path), timeout=30) as answer:
                assert answer.status == 200


def test_ipv6_may_have_its_brackets_and_what_is_announced_has_them() -> None:
    with host_process("--host", "[::1]") as host:
        assert f"gRPC serves on [::1]:{host.grpc_port}: open to this machine alone" in host.output
        assert host.metrics_url.startswith("http://[::1]:")


@pytest.mark.parametrize("host", ["unix:/run/host.sock", "127.0.0.1:8000", ""])
def test_a_host_that_is_not_an_address_is_refused_in_one_sentence(host: str) -> None:
    result = try_to_run(CONNECTOR_HOST, "serve", "--host", host)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "host" in result.stderr
    assert "such as 127.0.0.1" in result.stderr


def test_a_taken_http_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = try_to_run(CONNECTOR_HOST, "serve", "--port", "0", "--http-port", str(port))
    assert result.returncode == 1
    assert f"the HTTP port 127.0.0.1:{port} is taken by another process" in result.stderr


def test_the_variables_that_kubernetes_injects_for_a_service_change_nothing() -> None:
    injected: Any = {
        "CONNECTOR_HOST_PORT": "tcp://10.0.0.7:8000",
        "CONNECTOR_HOST_SERVICE_HOST": "10.0.0.7",
        "CONNECTOR_HOST_SERVICE_PORT": "8000",
        "CONNECTOR_HOST_PORT_8000_TCP": "tcp://10.0.0.7:8000",
        "CONNECTOR_HOST_PORT_8000_TCP_ADDR": "10.0.0.7",
    }
    with host_process(**injected) as host, grpc.insecure_channel(host.address) as channel:
        agents = AgentMetadataServiceStub(channel).ListAgents(ListAgentsRequest()).agents
        assert "sleep" in [task_type for agent in agents for task_type in agent.supported_task_types]
        assert host.stop() == 0


def test_it_says_what_is_open_to_whom() -> None:
    with host_process() as local:
        assert "open to this machine alone" in local.output
    with host_process("--host", "0.0.0.0") as open_host:
        assert "open to everyone who reaches this address, without authentication" in open_host.output


def test_todays_command_line_is_understood() -> None:
    with host_process("--prometheus_port", "0", "--worker", "3", "--timeout", "0.01") as host:
        assert host.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--port", "many"], {}, "--port: must be a whole number"),
        (["--port", "70000"], {}, "--port: must be at most 65535"),
        (["--nonsense"], {}, "No such option"),
        (
            [],
            {"CONNECTOR_HOST__PORT": "x"},
            "the environment variable CONNECTOR_HOST__PORT: must be a whole number",
        ),
        ([], {"CONNECTOR_HOST__PROT": "1"}, "CONNECTOR_HOST__PROT: unknown setting; did you mean 'port'?"),
        (["--config", "nowhere.toml"], {}, "the settings file nowhere.toml cannot be read"),
        (["--prefer", "spark"], {}, "write CATEGORY=PLUGIN"),
    ],
)
def test_bad_usage_is_explained_in_a_line_and_ends_with_2(
    arguments: list[str], environment: dict[str, str], message: str, tmp_path: Path
) -> None:
    result = try_to_run(CONNECTOR_HOST, "serve", *arguments, cwd=tmp_path, **environment)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_module_that_is_no_plugin_is_reported_and_the_rest_served(tmp_path: Path) -> None:
    (tmp_path / "no_plugin.py").write_text("class Something: pass\n")
    with host_process("--modules", "no_plugin", cwd=tmp_path) as host:
        assert host.stop() == 0
    assert "plugin no_plugin FAILED to load: 'no_plugin' has no function marked with @hookimpl" in host.output
    assert "sleep" in host.output


@pytest.mark.parametrize(
    "shell",
    [
        *('exec "$@" <&-', 'exec "$@" >&-', 'exec "$@" 2>&-', 'exec "$@" <&- >&- 2>&-'),
        *('exec "$@" >/dev/full', 'set -o pipefail; "$@" | true', 'exec "$@" >/dev/full 2>/dev/full'),
    ],
)
def test_streams_that_are_closed_or_full_cost_no_host(tmp_path: Path, shell: str) -> None:
    """Until its time is over, the host has served; it has no port that is called for standard output."""
    options = ("--port", "0", "--http-port", "0", "--allow-plugin", "sleep", "--timeout", "0.2")
    done = try_to_run("bash", "-c", shell, "bash", CONNECTOR_HOST, "serve", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_table_that_cannot_be_printed_is_said_in_the_log(tmp_path: Path) -> None:
    options = ("--port", "0", "--http-port", "0", "--allow-plugin", "sleep", "--timeout", "0.2")
    done = try_to_run("sh", "-c", 'exec "$@" >/dev/full', "sh", CONNECTOR_HOST, "serve", *options, cwd=tmp_path)
    assert "the table of plugins cannot be printed on stdout (No space left on device); serving goes on" in done.stderr


def test_the_table_is_short_and_bridges_are_not_said_to_bring_nothing(tmp_path: Path) -> None:
    variables: Any = {"CONNECTOR_HOST__BLOCK_PLUGIN": "duckdb"}
    with host_process("--allow-plugin", "sleep", "--allow-plugin", "process", cwd=tmp_path, **variables) as host:
        host.wait_for("Metrics are at")
    lines = host.output.splitlines()
    assert "without a connector: process (connector-host list says what they need)" in lines
    assert len([line for line in lines if line.startswith("skipped: ") and "not among --allow-plugin" in line]) == 1
    assert "skipped: duckdb: blocked by --block-plugin" in lines
