"""The protocol as JSON: how calls are written, answered, bounded and given up. That answers are gRPC's is a property test."""

import asyncio
import base64
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from flyteidl.service import agent_pb2 as agent_pb2_service
from grpc import StatusCode

from connector_core import Connection, LogPage, Phase, Resource
from connector_core.errors import PermanentError, RateLimitedError
from connector_core.http.gateway import derive_routes, gateway, transcoding
from connector_core.http.gateway.refusals import Refused
from connector_core.testing import RunningServer, running_server
from tests.fakes import PATIENCE, Answers, Gate, JobMeta, Jobs, Never, eventually, happens
from tests.support.json_gateway import BEARER, JSON, TOKEN, Answer, ask

JOB = base64.urlsafe_b64encode(JobMeta("1").encode()).decode()


@pytest.fixture
def with_tasks(tmp_path: Path) -> dict[str, Any]:
    """Settings that let callers with the token run tasks."""
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    return {"gateway": "tasks", "gateway_token_file": token_file}


async def send(
    server: RunningServer, verb: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    more = JSON if body is not None else {}
    return await asyncio.to_thread(
        ask, server.server.http_port, verb, f"/api/v1/{path}", body, {**BEARER, **more, **(headers or {})}
    )


def status(answer: Answer) -> tuple[int, StatusCode, str]:
    """Return HTTP's status, the code in the body and what it says."""
    (code,) = (code for code in StatusCode if code.value[0] == answer.json["code"])
    return answer.status, code, answer.json["message"]


# What is served


async def test_both_generations_have_their_routes(with_tasks: dict[str, Any]) -> None:
    seen = []

    def create(inputs: Mapping[str, Any], connection: Connection) -> JobMeta:
        seen.append((inputs, connection.secrets["token"].get_secret_value()))
        return JobMeta("1")

    value = {"scalar": {"primitive": {"integer": "3"}}}
    request = {
        "template": {"type": "job"},
        "inputs": {"literals": [{"name": "rows", "value": value}]},
        "connection": {"secrets": {"token": "a secret"}},
    }
    async with running_server(Jobs(create=create), settings=with_tasks) as server:
        listed = await asyncio.to_thread(ask, server.server.http_port, "GET", "/api/v1/connectors")
        created = await send(server, "POST", "connector/task", json.dumps(request).encode())
        polled = await send(server, "GET", f"connector/task/job/0/{JOB}")
    assert [one["name"] for one in listed.json["connectors"]] == ["job connector"]
    assert base64.b64decode(created.json["resourceMeta"]) == JobMeta("1").encode()
    assert polled.json["resource"]["phase"] == "SUCCEEDED"
    assert [one["name"] for one in polled.json["resource"]["outputs"]["literals"]] == ["id"]
    assert seen == [({"rows": 3}, "a secret")]


@pytest.mark.parametrize("connection", ["hunter2", {"secrets": "hunter2"}, {"secrets": ["hunter2"]}])
async def test_a_connection_that_is_none_is_refused_without_showing_it(
    with_tasks: dict[str, Any], connection: Any
) -> None:
    body = json.dumps({"template": {"type": "job"}, "connection": connection}).encode()
    async with running_server(Jobs(), settings=with_tasks) as server:
        refused = status(await send(server, "POST", "connector/task", body))
    assert refused[:2] == (400, StatusCode.INVALID_ARGUMENT)
    assert "connection" in refused[2]
    assert "hunter2" not in refused[2]


async def test_connectors_are_listed_without_a_token() -> None:
    async with running_server(Jobs(), Answers()) as server:
        listed = await asyncio.to_thread(ask, server.server.http_port, "GET", "/api/v1/agents")
        one = await asyncio.to_thread(ask, server.server.http_port, "GET", "/api/v1/agent/job%20connector")
    assert [agent["name"] for agent in listed.json["agents"]] == ["job connector", "answer connector"]
    assert one.json["agent"]["supportedTaskCategories"] == [{"name": "job"}]


async def test_a_connectors_name_may_have_whatever_a_url_can_encode() -> None:
    odd = Jobs()
    odd.name = "a/b c\N{SNOWMAN}?"
    async with running_server(odd) as server:
        answer = await send(server, "GET", "agent/a%2Fb%20c%E2%98%83%3F")
    assert answer.json["agent"]["name"] == odd.name


async def test_tasks_are_off_unless_the_operator_turns_them_on() -> None:
    async with running_server(Jobs()) as server:
        for verb, path in [("POST", "agent/task"), ("GET", f"agent/task/job/0/{JOB}"), ("POST", "agent/task/stream")]:
            refused = status(await send(server, verb, path, b"{}" if verb == "POST" else None))
            assert refused[:2] == (404, StatusCode.NOT_FOUND)
            assert "--gateway tasks" in refused[2]


async def test_other_paths_and_methods_are_refused_with_what_there_is(with_tasks: dict[str, Any]) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        assert status(await send(server, "GET", "agents/all"))[:2] == (404, StatusCode.NOT_FOUND)
        wrong = await send(server, "PUT", "agent/task", b"{}")
    assert (wrong.status, wrong.headers["allow"], wrong.json["code"]) == (405, "GET, POST", 12)


async def test_openapi_describes_what_is_served(with_tasks: dict[str, Any]) -> None:
    async with running_server(Jobs()) as closed, running_server(Jobs(), settings=with_tasks) as open_:
        few, all_ = (ask(one.server.http_port, "GET", "/openapi.json") for one in (closed, open_))
    first, second = {"/api/v1/agents", "/api/v1/agent/{name}"}, {"/api/v1/connectors", "/api/v1/connector/{name}"}
    assert set(few.json["paths"]) == first | second
    assert len(all_.json["paths"]) == 15
    assert all_.headers["content-type"] == "application/json"
    for answer in (few, all_):
        openapi_spec_validator.validate(answer.json)


# Calls


async def test_a_job_is_created_polled_and_deleted(with_tasks: dict[str, Any]) -> None:
    deleted = []

    async def delete(resource_meta: JobMeta) -> None:
        deleted.append(resource_meta.job_id)

    inputs = {"literals": {"id": {"scalar": {"primitive": {"stringValue": "17"}}}}}
    async with running_server(Jobs(delete=delete), settings=with_tasks) as server:
        body = json.dumps({"template": {"type": "job"}, "inputs": inputs, "outputPrefix": "s3://x/0"}).encode()
        created = await send(server, "POST", "agent/task", body)
        meta = created.json["resourceMeta"].replace("+", "-").replace("/", "_")
        polled = await send(server, "GET", f"agent/task/job/0/{meta}?output_prefix=s3%3A%2F%2Fx%2F0")
        gone = await send(server, "DELETE", f"agent/task_executions/job/0/{meta.rstrip('=')}")
    assert base64.b64decode(created.json["resourceMeta"]) == JobMeta("17").encode()
    assert polled.json["resource"]["phase"] == "SUCCEEDED"
    assert polled.json["resource"]["outputs"] == inputs
    assert (gone.json, deleted) == ({}, ["17"])


async def test_metrics_are_asked_for_in_the_query(with_tasks: dict[str, Any]) -> None:
    seen: dict[str, Any] = {}

    async def get_metrics(**asked: Any) -> list[ExecutionMetricResult]:
        seen.update(asked)
        return [ExecutionMetricResult(metric=query) for query in asked["queries"]]

    query = "queries=cpu&queries=a%20b&start_time=2026-01-02T03:04:05Z&endTime=2026-01-02T03:04:05.5Z&step=1.5s"
    async with running_server(Jobs(get_metrics=get_metrics), settings=with_tasks) as server:
        answer = await send(server, "GET", f"agent/task/metrics/job/0/{JOB}?{query}")
    assert answer.json["results"] == [{"metric": "cpu"}, {"metric": "a b"}]
    assert (seen["end_time"] - seen["start_time"]).total_seconds() == 0.5
    assert seen["step"].total_seconds() == 1.5


async def test_a_sync_task_is_answered_in_a_line(with_tasks: dict[str, Any]) -> None:
    inputs = {"literals": {"x": {"scalar": {"primitive": {"integer": "7"}}}}}
    lines = [{"header": {"template": {"type": "answer"}}}, {"inputs": inputs}]
    one_after_the_other = b"\n\n".join(json.dumps(line, indent=1).encode() for line in lines)
    async with running_server(Answers(), settings=with_tasks) as server:
        answer = await send(
            server, "POST", "agent/task/stream", one_after_the_other, {"Content-Type": "application/x-ndjson"}
        )
    assert answer.headers["content-type"] == "application/x-ndjson"
    (line,) = answer.lines
    assert line["result"]["header"]["resource"] == {"phase": "SUCCEEDED", "outputs": inputs}


def open_logs(port: int) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", f"/api/v1/agent/task/logs/job/0/{JOB}", headers=BEARER)
    return connection, connection.getresponse()


async def test_log_lines_are_sent_as_they_come(with_tasks: dict[str, Any]) -> None:
    more = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def get_logs() -> AsyncIterator[str]:
        loops.append(asyncio.get_running_loop())
        yield "first"
        await more.wait()
        yield "last"

    async with running_server(Jobs(get_logs=get_logs), settings=with_tasks) as server:
        connection, response = await asyncio.to_thread(open_logs, server.server.http_port)
        first = json.loads(await asyncio.to_thread(response.readline))
        loops[0].call_soon_threadsafe(more.set)
        rest = [json.loads(line) for line in await asyncio.to_thread(response.readlines)]
        connection.close()
    assert first == {"result": {"body": {"results": ["first"]}}}
    assert rest == [{"result": {"body": {"results": ["last"]}}}]


async def test_a_stream_that_breaks_ends_in_a_line_that_says_why(with_tasks: dict[str, Any]) -> None:
    async def get_logs() -> AsyncIterator[LogPage]:
        yield LogPage(["first"], "2")
        raise PermanentError("the disk is gone", error_code="Lost")

    async with running_server(Jobs(get_logs=get_logs), settings=with_tasks) as server:
        answer = await send(server, "GET", f"agent/task/logs/job/0/{JOB}")
    assert answer.status == 200
    *results, error = answer.lines
    assert results == [{"result": {"header": {"token": "2"}}}, {"result": {"body": {"results": ["first"]}}}]
    assert error["error"]["code"] == StatusCode.FAILED_PRECONDITION.value[0]
    assert "the disk is gone" in error["error"]["message"]
    assert error["error"]["details"][0]["reason"] == "Lost"


async def test_a_stream_that_never_begins_well_has_the_errors_own_status(with_tasks: dict[str, Any]) -> None:
    async def get_logs() -> None:
        raise RateLimitedError("slowly", retry_after=7)

    async with running_server(Jobs(get_logs=get_logs), settings=with_tasks) as server:
        answer = await send(server, "GET", f"agent/task/logs/job/0/{JOB}")
    assert status(answer)[:2] == (429, StatusCode.RESOURCE_EXHAUSTED)
    assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"} in answer.json["details"]


async def test_a_slow_reader_slows_the_connector_down(with_tasks: dict[str, Any]) -> None:
    """What nobody reads does not pile up: neither whole logs in memory, nor a plugin's code that runs ahead for good."""
    given = 0

    def get_logs() -> Any:
        nonlocal given
        for given in range(100_000):
            yield f"{given} {'x' * 10_000}"

    async with running_server(Jobs(get_logs=get_logs), settings=with_tasks) as server:
        connection, response = await asyncio.to_thread(open_logs, server.server.http_port)
        await asyncio.to_thread(response.readline)
        before = -1
        while given != before:  # until it stands still: the buffers between it and the reader are full
            before = given
            assert [(await send(server, "GET", "agents")).status for _ in range(20)] == [200] * 20
        connection.close()
    assert given < 50_000


# Deadlines, and callers that go


@pytest.mark.parametrize("timeout", ["50m", "0S", "1n"])
async def test_a_callers_deadline_holds(with_tasks: dict[str, Any], timeout: str) -> None:
    never = Never()

    async def delete() -> None:
        await never.wait()

    async with running_server(Jobs(delete=delete), settings=with_tasks) as server:
        answer = await send(server, "DELETE", f"agent/task_executions/job/0/{JOB}", headers={"Grpc-Timeout": timeout})
        assert status(answer)[:2] == (504, StatusCode.DEADLINE_EXCEEDED)
        counted = {"task_type": "job", "operation": "delete", "error_code": "DEADLINE_EXCEEDED"}
        assert server.metric("flyte_connector_requests_failure_total", **counted) == 1


async def test_a_stream_has_a_deadline_too(with_tasks: dict[str, Any]) -> None:
    async def get_logs() -> AsyncIterator[str]:
        yield "first"
        await Never().wait()

    async with running_server(Jobs(get_logs=get_logs), settings=with_tasks) as server:
        answer = await send(server, "GET", f"agent/task/logs/job/0/{JOB}", headers={"Grpc-Timeout": "2S"})
    first, last = answer.lines
    assert first["result"]["body"]["results"] == ["first"]
    assert last["error"]["code"] == StatusCode.DEADLINE_EXCEEDED.value[0]


@pytest.mark.parametrize("timeout", ["5", "S", "5 S", "123456789S", "-5S", "5s", "", "٣S".encode().decode("latin-1")])
async def test_a_deadline_that_is_none_is_refused(with_tasks: dict[str, Any], timeout: str) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        answer = await send(server, "GET", "agents", headers={"Grpc-Timeout": timeout})
    assert status(answer)[:2] == (400, StatusCode.INVALID_ARGUMENT)
    assert "5S" in answer.json["message"]


async def test_a_caller_that_goes_away_cancels_its_call(with_tasks: dict[str, Any]) -> None:
    never = Never()

    async def delete() -> None:
        await never.wait()

    async with running_server(Jobs(delete=delete), settings=with_tasks) as server:
        with socket.create_connection(("127.0.0.1", server.server.http_port)) as caller:
            head = f"DELETE /api/v1/agent/task_executions/job/0/{JOB} HTTP/1.1\r\nHost: localhost\r\n"
            caller.sendall(f"{head}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
            await happens(never.begun)
        await happens(never.cancelled)
        counted = {"task_type": "job", "operation": "delete", "error_code": "CANCELLED"}
        await eventually(lambda: server.metric("flyte_connector_requests_failure_total", **counted) == 1)


async def test_a_reader_that_goes_away_ends_its_stream(with_tasks: dict[str, Any]) -> None:
    ended = threading.Event()

    async def get_logs() -> AsyncIterator[str]:
        try:
            yield "first"
            await Never().wait()
        finally:
            ended.set()

    async with running_server(Jobs(get_logs=get_logs), settings=with_tasks) as server:
        connection, response = await asyncio.to_thread(open_logs, server.server.http_port)
        await asyncio.to_thread(response.readline)
        response.close()
        connection.close()
        await happens(ended)


async def test_a_caller_that_goes_before_its_body_has_come_leaves_nothing_behind(with_tasks: dict[str, Any]) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        with socket.create_connection(("127.0.0.1", server.server.http_port)) as caller:
            head = "POST /api/v1/agent/task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            caller.sendall(f"{head}Authorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert (await send(server, "GET", "agents")).status == 200
        assert server.metric("flyte_connector_requests_in_flight", task_type="unknown", operation="create") == 0


async def test_calls_run_beside_each_other(with_tasks: dict[str, Any]) -> None:
    gate = Gate()

    def create() -> JobMeta:
        gate.block()
        return JobMeta("1")

    async with running_server(Jobs(create=create), settings=with_tasks) as server:
        calls = [
            asyncio.create_task(send(server, "POST", "agent/task", b'{"template": {"type": "job"}}')) for _ in range(3)
        ]
        await gate.reached(3)
        assert (await send(server, "GET", "agents")).status == 200
        gate.open()
        assert [(await call).status for call in calls] == [200] * 3


async def test_what_a_connector_may_take_holds_for_http_as_well(with_tasks: dict[str, Any]) -> None:
    gate = Gate()
    few = {**with_tasks, "workers": 1, "queue": 0}
    async with running_server(Jobs(delete=gate.block), settings=few) as server:
        first = asyncio.create_task(send(server, "DELETE", f"agent/task_executions/job/0/{JOB}"))
        await gate.reached()
        refused = await send(server, "DELETE", f"agent/task_executions/job/0/{JOB}")
        gate.open()
        assert (await first).status == 200
    assert status(refused)[:2] == (429, StatusCode.RESOURCE_EXHAUSTED)


# What is no request


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("agent/task/job/zero/e30", "failed to parse|Failed to parse"),
        ("agent/task/job//e30", "ailed to parse"),
        ("agent/task/job/0/e", "not base64url"),
        ("agent/task/job/0/e30%21", "not base64url"),
        ("agent/task/job/0/e30=====", "not base64url"),
        ("agent/task/job/0/e30?nothing=1", "'nothing' is not a field"),
        ("agent/task/job/0/e30?output_prefix.x=1", "is not a field"),
        ("agent/task/job/0/e30?task_category=1", "which a URL cannot hold"),
        ("agent/task/job/0/e30?task_category.name=x", "does not belong in the query"),
        ("agent/task/job/0/e30?taskCategory.version=1", "does not belong in the query"),
        ("agent/task/job/0/e30?output_prefix=a&output_prefix=b", "does not belong in the query"),
        ("agent/task/job/0/e30?output_prefix=%FF", "not UTF-8"),
        ("agent/task/%FF/0/e30", "not UTF-8"),
        ("agent/task/logs/job/0/e30?lines=-1", "lines"),
        ("agent/task/logs/job/0/e30?lines=many", "lines"),
        ("agent/task/metrics/job/0/e30?start_time=yesterday", "startTime"),
        ("agents?x=1", "'x' is not a field"),
    ],
)
async def test_a_url_that_makes_no_request_is_refused_with_what_is_wrong(
    with_tasks: dict[str, Any], path: str, says: str
) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        answer = await send(server, "GET", path)
    assert status(answer)[:2] == (400, StatusCode.INVALID_ARGUMENT)
    assert any(one in answer.json["message"] for one in says.split("|")), answer.json["message"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no JSON value"),
        (b"  \n", "no JSON value"),
        (b"{} {}", "goes on after its first JSON value"),
        (b"{} nonsense", "goes on after its first JSON value"),
        (b" " * 100_000 + b"{}" * 100_000, "goes on after its first JSON value"),
        (b'{"a":' + b"[" * 100_000, "not JSON"),
        (b'{"template": {}, "template": {}}'.ljust(100_000), "stands twice"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": NaN}', '"NaN"'),
        (b'{"template": {}, "template": {}}', "stands twice"),
        (b"[]", "where an object should be"),
        (b"null", "where an object should be"),
        (b'{"template": 3}', "template"),
        (b'{"nothing": 3}', 'no field named "nothing"'),
        (b'{"outputPrefix": "\\ud800"}', "CreateTaskRequest"),
        (b'{"template": {"custom": ' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}}", "CreateTaskRequest"),
    ],
)
async def test_a_body_that_makes_no_request_is_refused_with_what_is_wrong(
    with_tasks: dict[str, Any], body: bytes, says: str
) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        answer = await send(server, "POST", "agent/task", body)
    assert status(answer)[:2] == (400, StatusCode.INVALID_ARGUMENT)
    assert says in answer.json["message"]


async def test_a_body_has_all_of_its_request(with_tasks: dict[str, Any]) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        answer = await send(server, "POST", "agent/task?output_prefix=x", b"{}")
    assert answer.status == 400
    assert "does not belong in the query" in answer.json["message"]


async def test_an_answer_that_json_cannot_write_is_an_error_of_its_own(with_tasks: dict[str, Any]) -> None:
    async def get_metrics() -> list[ExecutionMetricResult]:
        result = ExecutionMetricResult(metric="cpu")
        result.data["load"] = float("nan")
        return [result]

    async with running_server(Jobs(get_metrics=get_metrics), settings=with_tasks) as server:
        answer = await send(server, "GET", f"agent/task/metrics/job/0/{JOB}")
    assert status(answer)[:2] == (500, StatusCode.INTERNAL)
    assert "cannot be written as JSON" in answer.json["message"]


# Sizes


@pytest.mark.parametrize("setting", ["max_json_bytes", "max_request_bytes"])
async def test_a_body_beyond_the_limit_is_refused_unread(with_tasks: dict[str, Any], setting: str) -> None:
    async with running_server(Jobs(), settings={**with_tasks, setting: 1000}) as server:
        answer = await send(server, "POST", "agent/task", b" " * 1001)
        just = await send(server, "POST", "agent/task", b'{"template": {"type": "job"}}'.ljust(1000))
    assert status(answer)[:2] == (413, StatusCode.RESOURCE_EXHAUSTED)
    assert f"1,000 bytes (setting: {setting})" in answer.json["message"]
    assert just.status == 200


async def test_json_has_a_limit_of_its_own_below_that_of_requests(with_tasks: dict[str, Any]) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        answer = await send(server, "POST", "agent/task", b" " * (4 * 1024 * 1024 + 1))
    assert answer.status == 413
    assert "max_json_bytes" in answer.json["message"]


async def test_a_large_body_is_read_and_a_large_answer_written_where_nobody_waits_for_it(
    with_tasks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop that serves HTTP answers probes meanwhile; a gate stands for the time that it takes."""
    gate, reading = Gate(), transcoding.unary_request

    def slow(*arguments: Any) -> bytes:
        gate.block()
        return reading(*arguments)

    async def get(resource_meta: JobMeta) -> Resource:
        return Resource(Phase.SUCCEEDED, outputs={"text": "m" * 100_000})

    monkeypatch.setattr(gateway, "unary_request", slow)
    body = json.dumps({"template": {"type": "job"}, "outputPrefix": "x" * 100_000}).encode()
    async with running_server(Jobs(get=get), settings=with_tasks) as server:
        creating = asyncio.create_task(send(server, "POST", "agent/task", body))
        await gate.reached()
        assert (await asyncio.to_thread(ask, server.server.http_port, "GET", "/healthz")).status == 200
        gate.open()
        assert (await creating).status == 200
        answer = await send(server, "GET", f"agent/task/job/0/{JOB}")
    assert answer.json["resource"]["outputs"]["literals"]["text"]["scalar"]["primitive"]["stringValue"] == "m" * 100_000


def test_a_body_that_takes_long_to_read_leaves_turns_to_other_threads() -> None:
    """The decoder in C would keep the interpreter to its end: this thread counts the turns that it gets meanwhile."""
    body = b"[" + b"1," * 1_000_000 + b"1]"
    (create,) = (
        route
        for route in derive_routes([agent_pb2_service.DESCRIPTOR.services_by_name["AsyncAgentService"]])
        if route.method.name == "CreateTask"
    )
    begun, done, turns = threading.Event(), threading.Event(), 0

    def read() -> None:
        begun.set()
        with pytest.raises(Refused, match="a list where an object should be"):
            transcoding.unary_request(create, {}, b"", body)
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    begun.wait(PATIENCE)
    while not done.wait(0.0001):
        turns += 1
    thread.join()
    assert turns > 10


async def test_what_follows_the_second_message_of_a_stream_is_not_read(with_tasks: dict[str, Any]) -> None:
    """As over gRPC, where nothing is waited for after the inputs."""
    header = b'{"header": {"template": {"type": "answer"}}}'
    body = header + b'{"inputs": {}}' + b"{} " * 1000 + b"nonsense"
    async with running_server(Answers(), settings=with_tasks) as server:
        answer = await send(server, "POST", "agent/task/stream", body)
    assert answer.status == 200
    assert len(answer.lines) == 1


async def test_a_body_that_does_not_say_its_size_is_refused_when_it_has_passed_the_limit(
    with_tasks: dict[str, Any],
) -> None:
    def send_chunks(port: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        chunks = (b" " * 400 for _ in range(5))
        connection.request("POST", "/api/v1/agent/task", chunks, {**BEARER, **JSON}, encode_chunked=True)
        code = connection.getresponse().status
        connection.close()
        return code

    async with running_server(Jobs(), settings={**with_tasks, "max_request_bytes": 1000}) as server:
        assert await asyncio.to_thread(send_chunks, server.server.http_port) == 413


async def test_a_resource_meta_that_holds_a_whole_result_fits_into_a_url(with_tasks: dict[str, Any]) -> None:
    """As that of a sync connector that was called as an async one does: up to max_result_bytes."""
    meta = base64.urlsafe_b64encode(JobMeta("x" * 100_000).encode()).decode()
    async with running_server(Jobs(), settings=with_tasks) as server:
        answer = await send(server, "GET", f"agent/task/job/0/{meta}")
    assert answer.json["resource"]["outputs"]["literals"]["id"]["scalar"]["primitive"]["stringValue"] == "x" * 100_000
