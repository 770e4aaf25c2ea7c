"""The log of `connector-host serve`: one stream for all, each line about something, and no secrets in it."""

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin.agent_pb2 import (
    CreateRequestHeader,
    CreateTaskRequest,
    DeleteTaskRequest,
    ExecuteTaskSyncRequest,
    GetTaskRequest,
    ListAgentsRequest,
    TaskCategory,
    TaskExecutionMetadata,
)
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, TaskExecutionIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub, SyncAgentServiceStub

from connector_core.literals import to_literal_map
from tests.support.bytes_server import Frames
from tests.support.hosts import HostProcess, host_process
from tests.support.terminals import Terminal, terminal

CONNECTOR_HOST = Path(sys.executable).with_name("connector-host")
EXECUTION = "flytesnacks/development/a7x2kd/n0/0"
PREFIX = "s3://bucket/a7x2kd/n0/data/0"
LOG_LINE = re.compile(r"\{.*\}")

PLUGIN = '''
"""Logs in every way there is, and does to logging what libraries do."""

import asyncio
import logging
import logging.config
import os
import sys
import threading
import warnings
from dataclasses import dataclass

import structlog

from connector_core import AsyncConnectorBase, InvalidInputError, Phase, Resource, ResourceMeta, get_secret, hookimpl

log = logging.getLogger("talkative.client")
printing = logging.getLogger("a_library_that_prints")
printing.propagate = False
printing.addHandler(logging.StreamHandler(sys.stderr))
noisy = logging.getLogger("noisy.library")


@dataclass
class Meta(ResourceMeta):
    job: str
    session_token: str = "s3ss10n"


class Talkative(AsyncConnectorBase[Meta]):
    name = "Talkative"
    task_type_name = "talk"

    def start(self):
        log.info("started")

    async def create(self, inputs):
        if inputs.get("wrong"):
            raise KeyError("somewhere deep")
        if inputs.get("bad"):
            raise InvalidInputError("no table of that name")
        if inputs.get("secrets"):
            return self._secrets()
        log.info("said %s", "on the loop", extra={"rows": 3})
        await asyncio.to_thread(log.info, "said in a thread")
        await asyncio.get_running_loop().run_in_executor(None, log.info, "said in an executor")
        printing.warning("said by a library")
        noisy.info("never to be seen")
        noisy.warning("to be seen")
        structlog.get_logger("talkative.structured").info("said by structlog", rows=5, token="t0k3n")
        warnings.warn("this is an old way", stacklevel=1)
        log.error("two\\nlines \\u00fc")
        log.warning("%d things", "many")
        return Meta("1")

    def _secrets(self):
        password = get_secret("password", "warehouse").get_secret_value()
        log.info("connecting as %s", f"me, {password}")
        log.info("headers %s", {"Authorization": "Bearer h1dden", "Accept": "json", "nested": {"api_key": "h1dden"}})
        log.info("with extra", extra={"db_password": "h1dden", "options": [{"client_secret": "h1dden"}], "tokens": 7})
        log.info("GET https://me:h1dden@warehouse/jobs?token=h1dden&limit=5")
        log.info("job %s of %r", Meta("1"), [Meta("2")])
        log.info("resource_meta=%s", Meta("1").encode())
        try:
            raise ValueError(f"login failed for password='h1dden', or was it {password}")
        except ValueError:
            log.exception("failed")
        return Meta("1")

    def get(self, resource_meta):
        log.info("said while blocking")
        thread = threading.Thread(target=lambda: {}["nothing"], name="of the plugin")
        thread.start()
        thread.join()
        if (child := os.fork()) == 0:
            log.info("said by a child process")
            os._exit(0)
        os.waitpid(child, 0)
        return Resource(Phase.SUCCEEDED)

    def delete(self):
        log.info("gone")


@hookimpl
def register_connectors():
    log.warning("loading")
    logging.basicConfig(level=logging.ERROR, force=True)
    logging.getLogger().addHandler(logging.StreamHandler())
    logging.config.dictConfig({"version": 1})
    return [Talkative()]
'''


class Lines(list[dict[str, Any]]):
    """The log, read as JSON."""

    def of(self, **fields: object) -> list[dict[str, Any]]:
        """Return the lines that have these values; events by what they begin with."""
        event = fields.pop("event", "")
        return [
            line
            for line in self
            if line["event"].startswith(event) and fields.items() <= {**dict.fromkeys(fields), **line}.items()
        ]


def metadata() -> TaskExecutionMetadata:
    execution = WorkflowExecutionIdentifier(project="flytesnacks", domain="development", name="a7x2kd")
    node = NodeExecutionIdentifier(node_id="n0", execution_id=execution)
    return TaskExecutionMetadata(task_execution_id=TaskExecutionIdentifier(node_execution_id=node))


def create(channel: grpc.Channel, **inputs: bool) -> Any:
    request = CreateTaskRequest(
        template=TaskTemplate(type="talk"),
        inputs=to_literal_map(inputs),
        task_execution_metadata=metadata(),
        output_prefix=f"s3://bucket/{sorted(inputs)}/0",
    )
    return AsyncAgentServiceStub(channel).CreateTask(request)


def get(channel: grpc.Channel, task_type: str = "talk") -> Any:
    category = TaskCategory(name=task_type)
    request = GetTaskRequest(task_category=category, resource_meta=b'{"job": "1"}', output_prefix=PREFIX)
    return AsyncAgentServiceStub(channel).GetTask(request)


def delete(channel: grpc.Channel) -> Any:
    request = DeleteTaskRequest(task_category=TaskCategory(name="talk"), resource_meta=b'{"job": "1"}')
    return AsyncAgentServiceStub(channel).DeleteTask(request)


def make_all_calls(host: HostProcess) -> None:
    with grpc.insecure_channel(host.address) as channel:
        create(channel)
        create(channel, secrets=True)
        create(channel, bad=True)
        with pytest.raises(grpc.RpcError):
            create(channel, wrong=True)
        get(channel)
        with pytest.raises(grpc.RpcError):
            get(channel, "tolk")
        delete(channel)
        AgentMetadataServiceStub(channel).ListAgents(ListAgentsRequest())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talkative")
    (folder / "talkative.py").write_text(PLUGIN)
    return folder


ONLY_TALKATIVE = ("--modules", "talkative", "--allow-plugin", "talkative")


@pytest.fixture(scope="module")
def output(folder: Path) -> str:
    """All that a host prints which is called in every way there is, with its log into a pipe."""
    levels = ("--log-level", "connector_core.calls=debug", "--log-level", "noisy=warning")
    secret: Any = {"_FSEC_WAREHOUSE_PASSWORD": "correct horse"}
    with host_process(*ONLY_TALKATIVE, *levels, cwd=folder, **secret) as host:
        make_all_calls(host)
        assert host.stop() == 0
    return host.output


@pytest.fixture(scope="module")
def lines(output: str) -> Lines:
    return Lines(json.loads(line) for line in output.splitlines() if LOG_LINE.fullmatch(line))


class TestCalls:
    def test_each_has_one_line_that_says_what_it_was_about(self, lines: Lines) -> None:
        (line,) = lines.of(logger="connector_core.calls", operation="get", status="OK")
        assert line["milliseconds"] > 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
        del line["milliseconds"], line["timestamp"]
        assert line == {
            "level": "debug",
            "logger": "connector_core.calls",
            "event": "get of talk answered OK",
            "plugin": "talkative",
            "connector": "Talkative",
            "operation": "get",
            "task_type": "talk",
            "execution": PREFIX,
            "status": "OK",
        }

    def test_all_are_there_once_in_their_order(self, lines: Lines) -> None:
        calls = [(line["operation"], line["status"], line["level"]) for line in lines.of(logger="connector_core.calls")]
        assert calls == [
            ("create", "OK", "info"),
            ("create", "OK", "info"),
            ("create", "INVALID_ARGUMENT", "info"),
            ("create", "INTERNAL", "warning"),
            ("get", "OK", "debug"),
            ("get", "NOT_FOUND", "info"),
            ("delete", "OK", "info"),
            ("list_agents", "OK", "debug"),
        ]

    def test_a_create_has_the_execution_of_its_request_or_its_prefix_where_another_task_has_that(
        self, lines: Lines
    ) -> None:
        assert {line["execution"] for line in lines.of(logger="connector_core.calls", operation="create")} == {
            EXECUTION,
            "s3://bucket/['bad']/0",
            "s3://bucket/['secrets']/0",
        }

    def test_a_failure_has_its_reference_and_the_plugins_traceback_as_one_field(self, lines: Lines) -> None:
        (line,) = lines.of(status="INTERNAL")
        assert line["event"] == (
            f"create of talk answered INTERNAL [{line['reference']}]: "
            "plugin 'talkative', create(): KeyError: 'somewhere deep'"
        )
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert 'raise KeyError("somewhere deep")' in line["exception"]

    def test_a_failure_that_the_author_meant_needs_no_traceback(self, lines: Lines) -> None:
        (line,) = lines.of(status="INVALID_ARGUMENT")
        assert "as a FAILED job" in line["event"]
        assert "exception" not in line


LIST_AGENTS = b"/flyteidl.service.AgentMetadataService/ListAgents"


@pytest.mark.parametrize("transport", ["core", "aio"])
@pytest.mark.parametrize("level", ["info", "debug"])
async def test_metadata_that_is_not_utf8_costs_a_debug_line(folder: Path, transport: str, level: str) -> None:
    chosen: Any = {"CONNECTOR_HOST__TRANSPORT": transport}
    with host_process(*ONLY_TALKATIVE, "--log-level", f"grpc={level}", cwd=folder, **chosen) as host:
        async with Frames(int(host.address.rpartition(":")[2])) as client:
            stream = client.call(LIST_AGENTS, b"", metadata={b"x-trace": b"s3cret\xff\xfe"})
            assert b"grpc-status\x010" in await client.status(stream)
        assert host.stop() == 0
    found = [line for line in host.output.splitlines() if "not UTF-8" in line]
    assert len(found) == (level == "debug")
    assert "Traceback" not in host.output
    assert "s3cret" not in host.output


class TestWhatPluginsLog:
    @pytest.mark.parametrize(
        "event",
        [
            "said on the loop",
            "said in a thread",
            "said in an executor",
            "said by a library",
            "said by structlog",
            "to be seen",
        ],
    )
    def test_says_which_call_it_belongs_to(self, event: str, lines: Lines) -> None:
        (line,) = lines.of(event=event)
        about = [line[name] for name in ("plugin", "connector", "operation", "task_type", "execution")]
        assert about == ["talkative", "Talkative", "create", "talk", EXECUTION]

    @pytest.mark.parametrize("event", ["said while blocking", "said by a child process"])
    def test_of_blocking_code_and_child_processes_does_too(self, event: str, lines: Lines) -> None:
        (line,) = lines.of(event=event)
        assert (line["plugin"], line["operation"], line["execution"]) == ("talkative", "get", PREFIX)

    def test_outside_of_calls_has_the_plugins_name(self, lines: Lines) -> None:
        (started,) = lines.of(event="started")
        assert (started["plugin"], started["operation"]) == ("talkative", "start")
        assert "execution" not in started
        (loading,) = lines.of(event="loading")
        assert loading["plugin"] == "talkative"

    def test_keeps_its_fields_and_its_logger(self, lines: Lines) -> None:
        (line,) = lines.of(event="said on the loop")
        assert (line["logger"], line["rows"], line["level"]) == ("talkative.client", 3, "info")
        (structured,) = lines.of(event="said by structlog")
        assert (structured["logger"], structured["rows"]) == ("talkative.structured", 5)

    def test_is_one_line_each_whatever_it_holds(self, lines: Lines) -> None:
        assert len(lines.of(event="two\nlines ü")) == 1
        (line,) = lines.of(event="%d things")
        assert "its arguments cannot be put in: TypeError" in line["event"]

    def test_is_in_the_stream_once_whatever_handlers_plugins_add(self, output: str) -> None:
        for event in ("said on the loop", "said by a library", "create of talk answered OK"):
            printed = [line for line in output.splitlines() if event in line]
            assert all(LOG_LINE.fullmatch(line) for line in printed), printed

    def test_has_the_level_that_the_operator_chose(self, lines: Lines) -> None:
        assert lines.of(event="never to be seen") == []
        assert len(lines.of(logger="noisy.library")) == 1

    def test_includes_warnings_and_errors_that_end_a_thread(self, lines: Lines) -> None:
        (warning,) = lines.of(logger="py.warnings")
        assert "UserWarning: this is an old way" in warning["event"]
        (error,) = lines.of(event="thread of the plugin ended with an error")
        assert "KeyError: 'nothing'" in error["exception"]


class TestSecrets:
    def test_are_nowhere(self, output: str) -> None:
        found = [line for line in output.splitlines() if re.search("h1dden|correct horse|s3ss10n|t0k3n", line)]
        assert found == []

    def test_leave_the_rest_of_their_lines(self, lines: Lines) -> None:
        assert lines.of(event="connecting as me, [hidden]")
        assert lines.of(
            event="headers {'Authorization': '[hidden]', 'Accept': 'json', 'nested': {'api_key': '[hidden]'}}"
        )
        assert lines.of(event="GET https://me:[hidden]@warehouse/jobs?token=[hidden]&limit=5")
        assert lines.of(event="job [hidden] of ['[hidden]']")
        (line,) = lines.of(event="with extra")
        assert (line["db_password"], line["options"], line["tokens"]) == (
            "[hidden]",
            [{"client_secret": "[hidden]"}],
            7,
        )
        (failed,) = lines.of(event="failed")
        assert "login failed for password='[hidden]', or was it [hidden]" in failed["exception"]


@pytest.fixture
def on_a_terminal(folder: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """A host on a terminal, with the options and variables that the test names."""
    options, variables = request.param
    ports = ("--port", "0", "--http-port", "0")
    with terminal(CONNECTOR_HOST, "serve", *ports, *ONLY_TALKATIVE, *options, cwd=folder, **variables) as opened:
        opened.wait_for(r"Metrics are at")
        found = re.search(r"gRPC serves on (\S+):", opened.text)
        assert found is not None
        with grpc.insecure_channel(found[1]) as channel:
            create(channel)
            get(channel)
            with pytest.raises(grpc.RpcError):
                create(channel, wrong=True)
        opened.wait_for("answered INTERNAL")
        yield opened


class TestOnATerminal:
    @pytest.mark.parametrize("on_a_terminal", [((), {})], indirect=True)
    def test_lines_are_for_people(self, on_a_terminal: Terminal) -> None:
        on_a_terminal.wait_for(
            r"(?m)^\d\d:\d\d:\d\d info +talkative +create of talk answered OK took=[\d.]+ ms execution=fly"
        )
        on_a_terminal.wait_for(r"(?m)^\d\d:\d\d:\d\d error +talkative +two operation=create.*\n?.*\n    lines ü$")
        on_a_terminal.wait_for(r"(?m)^    KeyError: 'somewhere deep'$")
        assert "\x1b[33mwarning" in on_a_terminal.raw
        assert "get of talk answered OK" not in on_a_terminal.text  # polls are many, and logged only when asked for

    @pytest.mark.parametrize("on_a_terminal", [(("--log-format", "json"), {})], indirect=True)
    def test_json_can_be_asked_for(self, on_a_terminal: Terminal) -> None:
        on_a_terminal.wait_for(r'"event": "create of talk answered INTERNAL')
        assert "\x1b[33m" not in on_a_terminal.raw

    @pytest.mark.parametrize(
        "on_a_terminal",
        [((), {"NO_COLOR": "1", "CONNECTOR_HOST__LOG_LEVEL": "warning,talkative=debug"})],
        indirect=True,
    )
    def test_colours_can_be_refused_and_levels_come_from_the_environment(self, on_a_terminal: Terminal) -> None:
        on_a_terminal.wait_for(r"warning  talkative")
        assert "\x1b[33m" not in on_a_terminal.raw
        assert "said on the loop" in on_a_terminal.text
        assert "create of talk answered OK" not in on_a_terminal.text


SILENCING = """
    import logging, sys, time
    from connector_core import Phase, Resource, SyncConnectorBase, hookimpl

    class Silencing(SyncConnectorBase):
        name = "Silencing"
        task_type_name = "silence"

        def do(self):
            logging.disable(logging.CRITICAL)
            sys.stderr.close()
            logging.getLogger("silencing").info("still heard")
            time.sleep(600)

    @hookimpl
    def register_connectors():
        return [Silencing()]
"""


def test_a_plugin_that_silences_logging_and_stderr_silences_nobody_and_the_host_ends_with_0(tmp_path: Path) -> None:
    (tmp_path / "silencing.py").write_text(textwrap.dedent(SILENCING))
    options = ("--modules", "silencing", "--allow-plugin", "silencing", "--grace", "0.1")
    with host_process(*options, cwd=tmp_path, CONNECTOR_HOST__DEADLINES__DO="1") as host:
        header = CreateRequestHeader(template=TaskTemplate(type="silence"))
        with grpc.insecure_channel(host.address) as channel:
            answers = SyncAgentServiceStub(channel).ExecuteTaskSync(iter([ExecuteTaskSyncRequest(header=header)]))
            with pytest.raises(grpc.RpcError):
                next(answers)
        host.wait_for("still heard")
        host.wait_for("of silence answered")
        assert host.stop() == 0
