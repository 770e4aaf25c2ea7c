"""Traces of `connector-host serve`, as a collector gets them."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub, SyncAgentServiceStub
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.support.environments import try_to_run
from tests.support.hosts import HostProcess, host_process
from tests.support.json_gateway import TOKEN, call

pytest.importorskip("opentelemetry.sdk", reason="the extra otel")

from tests.support.collector import Collector, attributes, collector

SERVICE = "flyteidl.service"
TRACE_ID, CALLERS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PREFIX = "s3://bucket/a7x2kd/n0/data/0"

PLUGIN = '''
"""Traces what it does itself, on its loop and in threads."""

import asyncio
import logging
from dataclasses import dataclass

from opentelemetry import trace

from connector_core import AsyncConnectorBase, Phase, Resource, ResourceMeta, SyncConnectorBase, get_secret, hookimpl

tracer = trace.get_tracer("traced")


@dataclass
class Meta(ResourceMeta):
    job: str


def ask_the_backend():
    with tracer.start_as_current_span("ask the backend"):
        logging.getLogger("traced").info("asked the backend")


class Jobs(AsyncConnectorBase[Meta]):
    name = "Jobs"
    task_type_name = "traced"

    async def create(self):
        await asyncio.to_thread(ask_the_backend)
        return Meta("1")

    def get(self, resource_meta):
        with tracer.start_as_current_span("look"):
            return Resource(Phase.RUNNING)

    async def delete(self):
        raise KeyError(f"somewhere deep, with {get_secret('traced').get_secret_value()}")

    async def get_logs(self):
        for number in range(3):
            with tracer.start_as_current_span("read a line"):
                yield str(number)


class Answers(SyncConnectorBase):
    name = "Answers"
    task_type_name = "answer"

    async def do(self):
        with tracer.start_as_current_span("think"):
            return Resource(Phase.SUCCEEDED)


@hookimpl
def register_connectors():
    return [Jobs(), Answers()]
'''

ONLY_TRACED = ("--modules", "traced", "--allow-plugin", "traced")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traced")
    (folder / "traced.py").write_text(PLUGIN)
    return folder


def make_all_calls(host: HostProcess) -> None:
    category = agent_pb2.TaskCategory(name="traced")
    about: Any = {"task_category": category, "resource_meta": b'{"job": "1"}'}
    from_elsewhere = [("traceparent", f"00-{TRACE_ID}-{CALLERS_SPAN}-01")]
    with grpc.insecure_channel(host.address) as channel:
        jobs, answers = AsyncAgentServiceStub(channel), SyncAgentServiceStub(channel)
        request = agent_pb2.CreateTaskRequest(template=TaskTemplate(type="traced"), output_prefix=PREFIX)
        jobs.CreateTask(request, metadata=from_elsewhere)
        jobs.GetTask(agent_pb2.GetTaskRequest(**about, output_prefix=PREFIX))
        with pytest.raises(grpc.RpcError):
            jobs.DeleteTask(agent_pb2.DeleteTaskRequest(**about))
        assert list(jobs.GetTaskLogs(agent_pb2.GetTaskLogsRequest(**about)))
        header = agent_pb2.CreateRequestHeader(template=TaskTemplate(type="answer"))
        # As the engine calls it: it reads one message, and cancels.
        streamed = answers.ExecuteTaskSync(iter([agent_pb2.ExecuteTaskSyncRequest(header=header)]))
        next(streamed)
        streamed.cancel()
        with pytest.raises(grpc.RpcError):
            jobs.GetTask(agent_pb2.GetTaskRequest(task_category=agent_pb2.TaskCategory(name="unheard_of")))
        AgentMetadataServiceStub(channel).ListAgents(agent_pb2.ListAgentsRequest())
        HealthStub(channel).Check(HealthCheckRequest())


@pytest.fixture(scope="module", params=[(), ("traced",)], ids=["protected", "in place"])
def traced(folder: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Collector, str]]:
    """What a collector got of a host that was called, and what the host printed."""
    (folder / "connector-host.toml").write_text(f"in_place = {json.dumps(list(request.param))}\n")
    with collector() as collected:
        environment: Any = {"OTEL_EXPORTER_OTLP_ENDPOINT": collected.endpoint, "OTEL_RESOURCE_ATTRIBUTES": "team=data"}
        environment["_FSEC_TRACED"] = "hunter2hunter2"
        with host_process(*ONLY_TRACED, "--traces", "otlp", cwd=folder, **environment) as host:
            make_all_calls(host)
            assert host.stop() == 0
        yield collected, host.output


class TestSpans:
    def test_of_a_call_say_what_it_was_about_and_how_it_ended(self, traced: tuple[Collector, str]) -> None:
        collected, _ = traced
        gets = collected.spans(f"/{SERVICE}.AsyncAgentService/GetTask")
        found = {key: value for key, value in attributes(gets[0]).items() if key.startswith("connector_host.")}
        assert found == {
            "connector_host.plugin": "traced",
            "connector_host.connector": "Jobs",
            "connector_host.operation": "get",
            "connector_host.task_type": "traced",
            "connector_host.execution": PREFIX,
            "connector_host.status": "OK",
        }
        assert attributes(gets[0])["rpc.grpc.status_code"] == 0
        assert attributes(gets[1])["connector_host.status"] == "NOT_FOUND"
        assert attributes(gets[1])["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
        # A caller's mistake is not a failure of the host.
        assert gets[1].status.code != gets[1].status.STATUS_CODE_ERROR

    def test_of_a_call_that_the_client_cancels_say_so_too(self, traced: tuple[Collector, str]) -> None:
        """The engine reads one message of a sync call, and cancels the rest."""
        collected, _ = traced
        found = attributes(collected.only(f"/{SERVICE}.SyncAgentService/ExecuteTaskSync"))
        assert (found["connector_host.task_type"], found["connector_host.status"]) == ("answer", "OK")

    def test_go_on_with_the_trace_of_the_caller(self, traced: tuple[Collector, str]) -> None:
        collected, _ = traced
        create = collected.only(f"/{SERVICE}.AsyncAgentService/CreateTask")
        assert create.trace_id.hex() == TRACE_ID
        assert create.parent_span_id.hex() == CALLERS_SPAN

    @pytest.mark.parametrize(
        ("call", "around", "within"),
        [
            ("AsyncAgentService/CreateTask", "create Jobs", "ask the backend"),
            ("SyncAgentService/ExecuteTaskSync", "do Answers", "think"),
        ],
    )
    def test_of_a_plugins_own_lie_in_the_one_around_its_code(
        self, traced: tuple[Collector, str], call: str, around: str, within: str
    ) -> None:
        collected, _ = traced
        outer, code, inner = (collected.only(name) for name in (f"/{SERVICE}.{call}", around, within))
        assert outer.trace_id == code.trace_id == inner.trace_id
        assert code.parent_span_id == outer.span_id
        assert inner.parent_span_id == code.span_id
        assert outer.start_time_unix_nano <= code.start_time_unix_nano <= inner.start_time_unix_nano
        assert attributes(code)["connector_host.task_type"] in {"traced", "answer"}

    def test_of_blocking_code_do_too(self, traced: tuple[Collector, str]) -> None:
        collected, _ = traced
        assert collected.only("look").parent_span_id == collected.only("get Jobs").span_id

    def test_of_a_stream_are_one_for_all_its_pieces(self, traced: tuple[Collector, str]) -> None:
        collected, _ = traced
        code = collected.only("get_logs Jobs")
        assert [span.parent_span_id for span in collected.spans("read a line")] == [code.span_id] * 3

    def test_of_a_failure_have_the_error_and_no_traceback_of_the_plugin(self, traced: tuple[Collector, str]) -> None:
        collected, _ = traced
        code = collected.only("delete Jobs")
        assert code.status.code == code.status.STATUS_CODE_ERROR
        (event,) = code.events
        assert attributes(event) == {
            "exception.type": "KeyError",
            "exception.message": "KeyError: 'somewhere deep, with [hidden]'",
        }

    def test_are_not_made_of_health(self, traced: tuple[Collector, str]) -> None:
        collected, _ = traced
        assert collected.spans("/grpc.health.v1.Health/Check") == []
        assert collected.spans(f"/{SERVICE}.AgentMetadataService/ListAgents")

    def test_come_from_a_service_of_which_the_environment_says_more(self, traced: tuple[Collector, str]) -> None:
        collected, _ = traced
        resource = collected.resources[0]
        assert (resource["service.name"], resource["team"]) == ("connector-host", "data")


class TestTheLog:
    def test_names_the_trace_that_a_line_belongs_to(self, traced: tuple[Collector, str]) -> None:
        collected, output = traced
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        (asked,) = [line for line in lines if line["event"] == "asked the backend"]
        (create,) = [line for line in lines if line["event"] == "create of traced answered OK"]
        assert asked["trace_id"] == create["trace_id"] == TRACE_ID
        assert asked["span_id"] == collected.only("ask the backend").span_id.hex()

    def test_has_no_complaints(self, traced: tuple[Collector, str]) -> None:
        _, output = traced
        assert "Traceback" not in "".join(line for line in output.splitlines() if "KeyError" not in line)
        assert "Failed to detach" not in output


@pytest.fixture(scope="module")
def called(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, str]]:
    """What a collector got of a host that was called over HTTP, each call with a trace of its own, and what it printed."""
    token = tmp_path_factory.mktemp("tokens") / "token"
    token.write_text(TOKEN)
    category = agent_pb2.TaskCategory(name="traced")
    about: Any = {"task_category": category, "resource_meta": b'{"job": "1"}'}
    header = agent_pb2.CreateRequestHeader(template=TaskTemplate(type="answer"))
    calls: list[Any] = [
        agent_pb2.CreateTaskRequest(template=TaskTemplate(type="traced"), output_prefix=PREFIX),
        agent_pb2.DeleteTaskRequest(**about),
        agent_pb2.GetTaskLogsRequest(**about),
        [agent_pb2.ExecuteTaskSyncRequest(header=header)],
    ]
    given = ("--gateway", "tasks", "--gateway-token-file", str(token), "--traces", "otlp")
    with collector() as collected:
        environment: Any = {"OTEL_EXPORTER_OTLP_ENDPOINT": collected.endpoint, "_FSEC_TRACED": "hunter2hunter2"}
        with host_process(*ONLY_TRACED, *given, cwd=folder, **environment) as host:
            http_port = int(urlsplit(host.metrics_url).port or 0)
            for number, request in enumerate(calls):
                call(http_port, request, traceparent=f"00-{TRACE_ID[:-1]}{number}-{CALLERS_SPAN}-01")
            call(http_port, agent_pb2.GetTaskRequest(**about))
            call(http_port, agent_pb2.GetAgentRequest(name="Jobs"), traceparent="no trace at all")
            assert host.stop() == 0
        yield collected, host.output


class TestSpansOverHttp:
    @pytest.mark.parametrize(
        ("number", "rpc", "around", "within"),
        [
            (0, "AsyncAgentService/CreateTask", "create Jobs", "ask the backend"),
            (1, "AsyncAgentService/DeleteTask", "delete Jobs", None),
            (2, "AsyncAgentService/GetTaskLogs", "get_logs Jobs", "read a line"),
            (3, "SyncAgentService/ExecuteTaskSync", "do Answers", "think"),
        ],
    )
    def test_go_on_with_the_trace_of_the_caller(
        self, called: tuple[Collector, str], number: int, rpc: str, around: str, within: str | None
    ) -> None:
        collected, _ = called
        outer, code = collected.only(f"/{SERVICE}.{rpc}"), collected.only(around)
        assert outer.trace_id.hex() == code.trace_id.hex() == f"{TRACE_ID[:-1]}{number}"
        assert outer.parent_span_id.hex() == CALLERS_SPAN
        assert outer.kind == outer.SPAN_KIND_SERVER
        assert code.parent_span_id == outer.span_id
        assert {inner.parent_span_id for inner in collected.spans(within or "")} <= {code.span_id}
        found = attributes(outer)
        assert (found["rpc.service"], found["rpc.method"]) == tuple(f"{SERVICE}.{rpc}".split("/"))
        assert found["connector_host.status"] == ("INTERNAL" if number == 1 else "OK")
        assert (outer.status.code == outer.status.STATUS_CODE_ERROR) is (number == 1)

    def test_without_one_each_is_a_trace_of_its_own(self, called: tuple[Collector, str]) -> None:
        collected, _ = called
        for rpc in ("AsyncAgentService/GetTask", "AgentMetadataService/GetAgent"):
            outer = collected.only(f"/{SERVICE}.{rpc}")
            assert outer.parent_span_id == b""
            assert outer.trace_id.hex()[:-1] != TRACE_ID[:-1]

    def test_are_in_the_log_with_it(self, called: tuple[Collector, str]) -> None:
        _, output = called
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        (create,) = [line for line in lines if line["event"] == "create of traced answered OK"]
        assert create["trace_id"] == f"{TRACE_ID[:-1]}0"
        assert "Failed to detach" not in output


def test_without_a_collector_the_host_serves_and_ends_all_the_same(folder: Path) -> None:
    nobody: Any = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with host_process(*ONLY_TRACED, "--traces", "otlp", cwd=folder, **nobody) as host:
        make_all_calls(host)
        assert host.stop() == 0


WITHOUT_THE_EXTRA = """
import sys
sys.modules["opentelemetry"] = None
from connector_core.cli.app import run
sys.exit(run(["serve", "--port", "0", "--http-port", "0", *sys.argv[1:]]))
"""


def test_without_the_extra_asking_for_traces_is_an_error_that_says_what_to_install(tmp_path: Path) -> None:
    result = try_to_run(sys.executable, "-c", WITHOUT_THE_EXTRA, "--traces", "otlp", cwd=tmp_path)
    assert result.returncode == 2
    assert 'traces is "otlp", which needs OpenTelemetry: pip install "connector-core[otel]"' in result.stderr
    assert "Traceback" not in result.stderr


def test_without_the_extra_the_host_serves(tmp_path: Path) -> None:
    result = try_to_run(sys.executable, "-c", WITHOUT_THE_EXTRA, "--timeout", "0.1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


SERVED_UNTRACED = """
import asyncio, sys
from connector_core.testing import running_server

async def main():
    async with running_server(plugins=["connector_plugin_sleep.plugin"]) as host:
        await host.create("sleep", {"seconds": 0})
        print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "structlog"))))

asyncio.run(main())
"""


def test_nothing_of_it_is_imported_unless_it_is_asked_for(tmp_path: Path) -> None:
    result = try_to_run(sys.executable, "-c", SERVED_UNTRACED, cwd=tmp_path)
    assert result.stdout.strip() == "[]", result.stderr
