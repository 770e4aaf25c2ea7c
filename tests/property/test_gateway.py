"""A request gets the same answer as JSON over HTTP and as protobuf over gRPC, whatever it is."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub, SyncAgentServiceStub
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from connector_core import LogPage, Phase, Resource
from connector_core.connector import ConnectorBase
from connector_core.errors import (
    ConnectorError,
    IllegalAnswerError,
    InvalidInputError,
    JobNotFoundError,
    PermanentError,
    PermissionDeniedError,
    RateLimitedError,
)
from connector_core.testing import RunningServer, running_server
from tests.fakes import Answers, JobMeta, Jobs
from tests.support.background import in_background
from tests.support.json_gateway import BEARER, JSON, TOKEN, as_http, ask, call, messages_in, status_in
from tests.support.messages import JSON_VALUES, TEXT, messages

ERRORS: dict[str, Exception] = {
    "permanent": PermanentError("it cannot be", error_code="Never"),
    "invalid": InvalidInputError("the input is no good: \N{SNOWMAN} 100%"),
    "denied": PermissionDeniedError("not for you"),
    "gone": JobNotFoundError("no such job"),
    "busy": RateLimitedError("come back", retry_after=3600),  # too late to try again: answered at once
    "illegal": IllegalAnswerError("no answer"),
}
FAILING = {
    **ERRORS,
    "value": ValueError("seven is no colour"),
    "away": ConnectionResetError("gone"),
    "bug": KeyError("x"),
    "plain": ConnectorError("something"),
}


def digest(*parts: Any) -> str:
    """Return what is the same only for the same request."""
    data = [
        part.SerializeToString(deterministic=True) if isinstance(part, Message) else str(part).encode()
        for part in parts
    ]
    return hashlib.sha256(b"\0".join(data)).hexdigest()[:20]


class Echo(Jobs):
    """Answers with what it was asked."""

    async def create(  # type: ignore[override] # it asks for other arguments
        self,
        task_template: TaskTemplate,
        literals: LiteralMap,
        output_prefix: str,
        task_execution_metadata: agent_pb2.TaskExecutionMetadata,
    ) -> JobMeta:
        return JobMeta(digest(task_template, literals, output_prefix, task_execution_metadata))

    async def get(self, resource_meta: JobMeta, output_prefix: str = "") -> Resource:
        outputs = {"id": resource_meta.job_id, "prefix": output_prefix}
        return Resource(
            Phase.RUNNING, outputs=outputs, message=resource_meta.cluster, custom_info={"n": [1, None, "x"]}
        )

    async def get_metrics(
        self,
        resource_meta: JobMeta,
        queries: Sequence[str],
        start_time: datetime | None,
        end_time: datetime | None,
        step: timedelta | None,
    ) -> list[ExecutionMetricResult]:
        results = [ExecutionMetricResult(metric=query) for query in queries]
        for result in results:
            result.data.update(
                {"job": resource_meta.job_id, "from": f"{start_time}", "to": f"{end_time}", "step": f"{step}"}
            )
        return results

    async def get_logs(self, resource_meta: JobMeta, lines: int, token: str) -> Any:
        yield LogPage([resource_meta.job_id, str(lines)], token)
        if resource_meta.job_id == "breaks":
            raise PermanentError("the rest of the log is lost")
        yield "the end"


class EchoAtOnce(Answers):
    """The same, for sync tasks."""

    async def do(self, task_template: TaskTemplate, literals: LiteralMap, output_prefix: str) -> Resource:  # type: ignore[override]
        return Resource(Phase.SUCCEEDED, outputs=literals, message=digest(task_template, output_prefix))


def fails(error: Exception) -> Any:
    def method() -> Any:
        raise error

    return method


def connectors() -> list[ConnectorBase]:
    found: list[ConnectorBase] = [Echo("echo"), EchoAtOnce("at-once"), Jobs("without-logs")]
    for name, error in FAILING.items():
        methods = dict.fromkeys(("create", "delete", "get_metrics", "get_logs"), fails(error))
        found.append(Jobs(name, **methods, get=fails(ERRORS.get(name, ERRORS["permanent"]))))
        found.append(Answers(f"{name}-at-once", do=fails(error)))
    return found


class Hosts(NamedTuple):
    """Two hosts that are alike: one is asked by gRPC alone, the other by JSON alone, so that neither learns from the other."""

    by_grpc: RunningServer
    by_json: RunningServer
    channel: grpc.Channel

    @property
    def json_port(self) -> int:
        return self.by_json.server.http_port


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    token_file: Path = tmp_path_factory.mktemp("gateway") / "token"
    token_file.write_text(f"{TOKEN}\n")
    chosen = {"gateway": "tasks", "gateway_token_file": token_file}
    with ExitStack() as stack:
        ours, theirs = (
            stack.enter_context(in_background(running_server(*connectors(), settings=chosen))) for _ in range(2)
        )
        yield Hosts(ours, theirs, stack.enter_context(grpc.insecure_channel(ours.address)))


class Outcome(NamedTuple):
    """What became of a call: its status' code and text, and the messages that were answered before it."""

    code: int
    text: str
    details: str
    answers: list[bytes]


_REFERENCE = re.compile(r"\b[0-9a-f]{12}\b")
"""What finds a line in the log; it differs from call to call."""


def outcome(status: Status, answers: Sequence[Message]) -> Outcome:
    details = _REFERENCE.sub("", json.dumps(MessageToDict(status).get("details"), sort_keys=True))
    raw = [answer.SerializeToString(deterministic=True) for answer in answers]
    return Outcome(status.code, _REFERENCE.sub("", status.message), details, raw)


def by_grpc(channel: grpc.Channel, request: Message | Sequence[Message]) -> Outcome:
    answers: list[Message] = []
    try:
        if isinstance(request, agent_pb2.GetTaskLogsRequest):
            answers.extend(AsyncAgentServiceStub(channel).GetTaskLogs(request))
        elif isinstance(request, Message):
            name = type(request).__name__.removesuffix("Request")
            stub = AgentMetadataServiceStub if "Agent" in name else AsyncAgentServiceStub
            answers.append(getattr(stub(channel), name)(request))
        else:
            answers.extend(SyncAgentServiceStub(channel).ExecuteTaskSync(iter(request)))
    except grpc.RpcError as raised:
        error: Any = raised  # a call as well, which its stub does not say
        rich = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
        status = Status.FromString(rich)
        status.code, status.message = error.code().value[0], error.details()
        return outcome(status, answers)
    return outcome(Status(), answers)


def by_json(port: int, request: Message | Sequence[Message]) -> Outcome:
    answer, kind = call(port, request)
    found = status_in(answer)
    status = Status()
    ParseDict(found, status)
    return outcome(status, messages_in(answer, kind) if answer.status == 200 else [])


def mostly(*names: str) -> st.SearchStrategy[str]:
    """Give one of these names, sometimes any text: what nobody serves is soon tried out."""
    return st.integers(0, 9).flatmap(lambda dice: TEXT if dice == 9 else st.sampled_from(names))


TASK_TYPES = mostly("echo", "echo", "echo", "at-once", "without-logs", *FAILING, "nobody's", "")
AT_ONCE = mostly("at-once", "at-once", "at-once", *(f"{name}-at-once" for name in FAILING), "echo", "")
VERSIONS = st.sampled_from([*[0] * 18, 7, -1])
METAS = st.one_of(
    st.builds(lambda job, cluster: JobMeta(job, cluster).encode(), TEXT | st.just("breaks"), TEXT),
    st.sampled_from([b"{}", b'{"job_id": 7}', b'{"job_id": "x", "other": 1}', b"\x00connector-host/9/later\x00", b""]),
    st.binary(max_size=20),
)


def templates(task_types: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    own = {"flyteidl.core.TaskTemplate.type": task_types, "flyteidl.core.TaskTemplate.task_type_version": VERSIONS}
    return messages(TaskTemplate, own, 3)


def about_a_job(kind: type[Message]) -> st.SearchStrategy[Message]:
    name = kind.DESCRIPTOR.full_name
    category = st.builds(agent_pb2.TaskCategory, name=TASK_TYPES, version=VERSIONS)
    return messages(kind, {f"{name}.resource_meta": METAS, f"{name}.task_category": category})


OF_JOBS = (
    agent_pb2.GetTaskRequest,
    agent_pb2.DeleteTaskRequest,
    agent_pb2.GetTaskMetricsRequest,
    agent_pb2.GetTaskLogsRequest,
)
REQUESTS = {kind.__name__: about_a_job(kind) for kind in OF_JOBS}
REQUESTS["CreateTaskRequest"] = messages(
    agent_pb2.CreateTaskRequest, {"flyteidl.admin.CreateTaskRequest.template": templates(TASK_TYPES)}
)
REQUESTS["ListAgentsRequest"] = st.just(agent_pb2.ListAgentsRequest())
NAMES = st.sampled_from([connector.name for connector in connectors()]) | TEXT
REQUESTS["GetAgentRequest"] = st.builds(agent_pb2.GetAgentRequest, name=NAMES)

HEADERS = st.builds(agent_pb2.CreateRequestHeader, template=templates(AT_ONCE), output_prefix=TEXT)
INPUTS = messages(LiteralMap, depth=3)
PARTS = st.builds(agent_pb2.ExecuteTaskSyncRequest, header=HEADERS) | st.builds(
    agent_pb2.ExecuteTaskSyncRequest, inputs=INPUTS
)
STREAMS = st.tuples(
    st.builds(agent_pb2.ExecuteTaskSyncRequest, header=HEADERS),
    st.builds(agent_pb2.ExecuteTaskSyncRequest, inputs=INPUTS),
) | st.lists(PARTS | st.just(agent_pb2.ExecuteTaskSyncRequest()), max_size=3).map(tuple)

with_hosts = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.mark.parametrize("kind", REQUESTS)
@with_hosts
@given(data=st.data())
def test_a_request_gets_the_same_answer_as_json_and_as_grpc(hosts: Hosts, kind: str, data: st.DataObject) -> None:
    request = data.draw(REQUESTS[kind])
    assert by_json(hosts.json_port, request) == by_grpc(hosts.channel, request)


@with_hosts
@given(stream=STREAMS)
def test_a_stream_gets_the_same_answer_as_json_and_as_grpc(hosts: Hosts, stream: Sequence[Message]) -> None:
    assert by_json(hosts.json_port, stream) == by_grpc(hosts.channel, stream)


@with_hosts
@given(
    path=st.sampled_from(["task", "task/stream"]),
    body=JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
    | st.recursive(
        JSON_VALUES,
        lambda inner: st.dictionaries(
            st.sampled_from(
                ["template", "inputs", "header", "literals", "type", "custom", "scalar", "primitive", "[a.b]"]
            ),
            inner,
            max_size=3,
        ),
    ).map(lambda value: json.dumps(value).encode()),
)
def test_no_body_brings_the_gateway_down(hosts: Hosts, path: str, body: bytes) -> None:
    answer = ask(hosts.json_port, "POST", f"/api/v1/agent/{path}", body, {**BEARER, **JSON})
    assert answer.status < 500
    assert status_in(answer)["code"] in {0, *(code.value[0] for code in grpc.StatusCode)}


@with_hosts
@given(
    verb=st.sampled_from(["GET", "POST", "DELETE", "PUT", "OPTIONS"]),
    segments=st.lists(
        st.sampled_from(
            ["task", "logs", "metrics", "task_executions", "echo", "0", "x", "", "%FF", "%2F", "..", "%2e"]
        ),
        max_size=7,
    ),
    query=st.sampled_from(
        ["", "?", "?lines=3", "?lines=x", "?nothing=1", "?task_category.name=echo", "?%FF", "?queries=a&queries"]
    ),
)
def test_no_url_brings_the_gateway_down(hosts: Hosts, verb: str, segments: list[str], query: str) -> None:
    path = "/".join(["/api/v1/agent", *segments])
    answer = ask(hosts.json_port, verb, f"{path}{query}", None, {**BEARER, **JSON})
    assert answer.status < 500
    assert verb == "HEAD" or "code" in status_in(answer)


# What is said of the answers


@cache
def described(port: int) -> Any:
    return ask(port, "GET", "/openapi.json").json


def schema_of(port: int, verb: str, template: str, status: int) -> dict[str, Any]:
    document = described(port)
    responses = document["paths"][template][verb.lower()]["responses"]
    (content,) = responses["200" if status == 200 else "default"]["content"].values()
    return {**content["schema"], "components": document["components"]}


def template_of(port: int, path: str) -> str:
    """Return the described path with the most words that a path is of."""
    asked = path.partition("?")[0].split("/")
    found: list[str] = [
        template
        for template in described(port)["paths"]
        if len(template.split("/")) == len(asked)
        and all(word[:1] == "{" or word == here for word, here in zip(template.split("/"), asked, strict=True))
    ]
    return min(found, key=lambda template: template.count("{"))


@with_hosts
@given(request=st.one_of(*REQUESTS.values(), STREAMS))
def test_requests_and_answers_are_as_openapi_says(hosts: Hosts, request: Message | Sequence[Message]) -> None:
    asked = as_http(request)
    answer, _kind = call(hosts.json_port, request)
    template = template_of(hosts.json_port, asked.path)
    schema = schema_of(hosts.json_port, asked.verb, template, answer.status)
    for value in answer.lines:
        Draft202012Validator(schema).validate(value)
    if asked.body:
        document = described(hosts.json_port)
        body = document["paths"][template]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for value in (
            [json.loads(line) for line in asked.body.splitlines()]
            if not isinstance(request, Message)
            else [json.loads(asked.body)]
        ):
            Draft202012Validator({**body, "components": document["components"]}).validate(value)
