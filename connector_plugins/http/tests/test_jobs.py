"""Jobs over real gRPC when things go wrong: lost answers, killed hosts, backends that restart, stall, refuse or lie."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AsyncAgentServiceStub
from google.protobuf.json_format import ParseDict

from connector_core import Phase, ResourceMeta
from connector_core.testing import ConnectorContract, RunningServer, running_server
from connector_plugin_http.connector import HttpJobConnector
from connector_plugin_http.jobs import HttpMeta

from .conftest import LOOPBACK, Accepting, Backend, Received, answers, answers_half, config_of, loses_the_answer

PREFIX = "s3://b/x/0"


def job(values: dict[str, Any] | None = None, **more: Any) -> TaskTemplate:
    custom = {"endpoint": "there", "values": values or {}, **more}
    return ParseDict({"type": "http_job", "custom": custom}, TaskTemplate())


@asynccontextmanager
async def host_for(backend: Backend, recipe: str = "accepted", **endpoint: Any) -> AsyncIterator[RunningServer]:
    connector = HttpJobConnector(config_of(backend, recipe, **endpoint))
    async with running_server(connector, settings={"ride_out": {"failures": 100}, "deadlines": {"get": 2}}) as host:
        yield host


async def state(host: RunningServer, meta: bytes) -> tuple[Phase, str]:
    resource = await host.get("http_job", meta)
    return Phase(resource.phase), resource.message


class TestContract(ConnectorContract):
    @pytest.fixture(autouse=True)
    def _backend(self, accepting: Backend) -> None:
        self.backend = accepting

    def make_connector(self) -> HttpJobConnector:
        return HttpJobConnector(config_of(self.backend, "accepted"))

    def make_template(self) -> TaskTemplate:
        return job({"body": {"n": 1}})

    def unknown_job(self) -> ResourceMeta:
        return HttpMeta("there", "accepted", "/status/unknown")


@pytest.mark.parametrize("fault", [loses_the_answer, lambda _: answers(502), lambda _: answers_half])
async def test_an_answer_that_is_lost_is_asked_for_again_with_the_same_key(accepting: Backend, fault: Any) -> None:
    accepting.faults += [fault(accepting)] * 2
    async with host_for(accepting) as host:
        meta = await host.create(job())
        assert (await state(host, meta))[0] is Phase.SUCCEEDED
    sent = accepting.requests("POST", "/")
    assert len({one.headers["idempotency-key"] for one in sent}) == 1
    assert (len(sent), len(accepting.answer.jobs)) == (3, 1)


async def test_an_answer_that_is_lost_for_long_is_asked_for_by_the_same_attempt(accepting: Backend) -> None:
    accepting.faults += [loses_the_answer(accepting)] * 3
    async with host_for(accepting) as host:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await host.create(job(), output_prefix=PREFIX)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await host.create(job(), output_prefix=PREFIX)
    assert len(accepting.answer.jobs) == 1


async def test_another_attempt_is_another_job(accepting: Backend) -> None:
    async with host_for(accepting) as host:
        await host.create(job(), output_prefix="s3://b/x/0")
        await host.create(job(), output_prefix="s3://b/x/1")
    assert len(accepting.answer.jobs) == 2


@contextmanager
def serving(
    folder: Path, backend: Backend, recipe: str, extra: str = ""
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a host as a process; yield it and its address."""
    settings = f"""
[plugins.http.endpoints.there]
url = "{backend.url}{extra}"
recipe = "{recipe}"
private_networks = {json.dumps(LOOPBACK)}
"""
    if extra:
        settings += 'basic = { user = "flyte", secret = "airflow_password" }\n'
    (folder / "connector-host.toml").write_text(settings)
    program = Path(sys.executable).parent / "connector-host"
    command = [str(program), "serve", "--port", "0", "--http-port", "0", "--allow-plugin", "http"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_HOST")}
    with subprocess.Popen(
        command, cwd=folder, env=clean, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as host:
        assert host.stdout is not None
        try:
            for line in host.stdout:
                if found := re.search(r"gRPC\D*?((?:[\w.]+|\[[^\]]*\]):\d+)", line):
                    yield host, found[1]
                    break
            else:
                raise AssertionError("the host ended before it served")
        finally:
            host.kill()


def request_for(template: TaskTemplate) -> agent_pb2.CreateTaskRequest:
    metadata = agent_pb2.TaskExecutionMetadata()
    return agent_pb2.CreateTaskRequest(template=template, output_prefix=PREFIX, task_execution_metadata=metadata)


@pytest.mark.parametrize("recipe", ["accepted", "airflow"])
async def test_a_host_that_is_killed_between_the_create_and_its_answer_starts_nothing_twice(
    tmp_path: Path, recipe: str, accepting: Backend, airflow: Backend
) -> None:
    backend, extra = (accepting, "") if recipe == "accepted" else (airflow, "/api/v1")
    has_started, may_go = threading.Event(), threading.Event()

    def holds_the_answer(_: Any, request: Received) -> bool:
        backend.answer(request)
        has_started.set()
        may_go.wait(60)
        return True

    backend.faults.append(holds_the_answer)
    request = request_for(job({"dag": "load"} if extra else {}))
    with serving(tmp_path, backend, recipe, extra) as (host, address):
        async with grpc.aio.insecure_channel(address) as channel:
            creating = asyncio.ensure_future(AsyncAgentServiceStub(channel).CreateTask(request))
            assert await asyncio.to_thread(has_started.wait, 60)
            host.send_signal(signal.SIGKILL)
            with pytest.raises(grpc.aio.AioRpcError):
                await creating
    may_go.set()
    with serving(tmp_path, backend, recipe, extra) as (_, address):
        async with grpc.aio.insecure_channel(address) as channel:
            stub = AsyncAgentServiceStub(channel)
            answer = await stub.CreateTask(request)
            asked = agent_pb2.GetTaskRequest(resource_meta=answer.resource_meta)
            asked.task_category.name = "http_job"
            resource = (await stub.GetTask(asked)).resource
    assert Phase(resource.phase) in {Phase.SUCCEEDED, Phase.QUEUED}
    started = backend.answer.jobs if recipe == "accepted" else backend.answer.runs
    assert len(started) == 1


async def test_a_job_is_found_again_by_a_host_that_remembers_nothing(accepting: Backend) -> None:
    accepting.answer.ends_at_once = False
    async with host_for(accepting) as host:
        meta = await host.create(job())
    async with host_for(accepting) as host:
        assert (await state(host, meta))[0] is Phase.RUNNING
        await host.delete("http_job", meta)
        assert (await state(host, meta))[0] is Phase.ABORTED


async def test_a_backend_that_restarts_in_the_middle_costs_nothing(accepting: Backend) -> None:
    accepting.answer.ends_at_once = False
    async with host_for(accepting) as host:
        meta = await host.create(job(), output_prefix=PREFIX)
        assert (await state(host, meta))[0] is Phase.RUNNING
        accepting.stop()
        assert (await state(host, meta))[0] is Phase.RUNNING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await host.create(job(), output_prefix="s3://b/other/0")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        accepting.start()
        accepting.answer.jobs["job-0"]["is_over"] = True
        assert (await state(host, meta))[0] is Phase.SUCCEEDED


@pytest.mark.parametrize(
    "fault",
    [
        *(answers(status) for status in (429, 500, 502, 503, 504, 401, 403, 418)),
        answers(429, {"Retry-After": "1"}),
        answers(503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        answers_half,
        answers(200, {"Content-Type": "text/html"}, b"<html>Log in</html>"),
        answers(200, {}, {"status": {"deep": 1}}),
        answers(200, {}, b"[" * 100_000),
        answers(200, {}, b"x" * 5_000_000),
        answers(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
        answers(302, {"Location": "http://169.254.169.254/"}),
    ],
)
async def test_no_job_is_lost_or_failed_by_an_answer_that_is_not_about_it(accepting: Backend, fault: Any) -> None:
    accepting.answer.ends_at_once = False
    async with host_for(accepting) as host:
        meta = await host.create(job())
        assert (await state(host, meta))[0] is Phase.RUNNING
        accepting.faults.append(fault)
        assert (await state(host, meta))[0] is Phase.RUNNING
    async with host_for(accepting) as host:
        accepting.answer.jobs["job-0"]["is_over"] = True
        assert (await state(host, meta))[0] is Phase.SUCCEEDED


async def test_a_backend_that_stalls_is_given_up_at_the_endpoints_timeout(accepting: Backend) -> None:
    goes_on = threading.Event()
    accepting.faults += [lambda *_: goes_on.wait(30)] * 3
    async with host_for(accepting, timeout=0.2) as host:
        with pytest.raises(grpc.aio.AioRpcError, match=r"did not answer within 0\.2 s"):
            await host.create(job(), output_prefix=PREFIX)
        goes_on.set()
        assert (await state(host, await host.create(job(), output_prefix=PREFIX)))[0] is Phase.SUCCEEDED


async def test_a_pause_that_the_backend_asks_for_is_kept(accepting: Backend) -> None:
    accepting.faults.append(answers(429, {"Retry-After": "120"}))
    async with host_for(accepting) as host:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await host.create(job())
            assert caught.value.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
    assert len(accepting.received) == 1


@pytest.mark.parametrize(
    ("status", "body", "said", "code"),
    [
        (400, {"message": "no such column"}, "HTTP 400: no such column", "HTTP400"),
        (404, {"detail": "DAG not found"}, "HTTP 404: DAG not found", "HTTP404"),
        (403, {"error": {"message": "not yours"}}, "HTTP 403: not yours", "HTTP403"),
        (422, b"plain\nwords", "HTTP 422: plain words", "HTTP422"),
        (413, b"", "HTTP 413", "HTTP413"),
    ],
)
async def test_a_create_that_the_backend_refuses_fails_with_its_reason(
    accepting: Backend, status: int, body: Any, said: str, code: str
) -> None:
    accepting.faults.append(answers(status, {}, body))
    async with host_for(accepting) as host:
        failed, why = await state(host, await host.create(job()))
    assert failed is Phase.FAILED
    assert said in why


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (job(endpoint="their"), "there is no endpoint 'their' (did you mean 'there'?); there are: there"),
        (job(endpoint="http://169.254.169.254/"), "there is no endpoint"),
        (job(recipe="airflow"), "endpoint 'there' has no recipe 'airflow'; it has: accepted"),
        (job(url="http://x"), "unknown keys url; it can have endpoint, recipe, values"),
        (job({"id": "x"}), "values cannot be called id"),
        (job({"body": "x" * 2_000_000}), "the body is 2000002 bytes"),
    ],
)
async def test_a_task_that_asks_for_what_is_not_allowed_fails_saying_so(
    accepting: Backend, template: TaskTemplate, said: str
) -> None:
    async with host_for(accepting) as host:
        failed, why = await state(host, await host.create(template))
    assert (failed, said in why) == (Phase.FAILED, True), why
    assert accepting.received == []


async def test_a_number_that_is_not_finite_is_the_tasks_mistake(accepting: Backend) -> None:
    template = job()
    template.custom["values"] = {"n": float("nan")}
    async with host_for(accepting) as host:
        failed, why = await state(host, await host.create(template))
    assert (failed, "custom cannot be read" in why) == (Phase.FAILED, True)


@pytest.mark.parametrize(
    ("dag", "path"),
    [
        ("a/../../connections", "/api/v1/dags/a%2F..%2F..%2Fconnections/dagRuns"),
        ("x?y=1#z", "/api/v1/dags/x%3Fy%3D1%23z/dagRuns"),
        ("day {day} %2e", "/api/v1/dags/day%20%7Bday%7D%20%252e/dagRuns"),
        ("-rf", "/api/v1/dags/-rf/dagRuns"),
        ("тест", "/api/v1/dags/%D1%82%D0%B5%D1%81%D1%82/dagRuns"),
    ],
)
async def test_a_value_is_one_segment_of_the_path_and_no_more(airflow: Backend, dag: str, path: str) -> None:
    basic = {"user": "flyte", "secret": "airflow_password"}
    async with host_for(airflow, "airflow", path="/api/v1", basic=basic) as host:
        await host.create(job({"dag": dag, "conf": {"{dag}": "{key}"}}))
    (sent,) = airflow.received
    assert sent.target == path
    assert sent.json["conf"] == {"{dag}": "{key}"}  # a value is not a template


@pytest.mark.parametrize("dag", ["..", ".", "a\r\nHost: evil", "a\0b", "a\u2028b"])
async def test_a_value_that_would_be_another_path_or_line_is_refused(airflow: Backend, dag: str) -> None:
    basic = {"user": "flyte", "secret": "airflow_password"}
    async with host_for(airflow, "airflow", path="/api/v1", basic=basic) as host:
        failed, why = await state(host, await host.create(job({"dag": dag})))
    assert (failed, "cannot stand in a URL" in why) == (Phase.FAILED, True)
    assert airflow.received == []


@pytest.mark.parametrize("job_id", [None, True, [], {"a": 1}, "", " ", "a\nb", "x" * 2000, 1.5])
async def test_an_answer_without_a_usable_id_is_an_error_that_can_be_tried_again(airflow: Backend, job_id: Any) -> None:
    airflow.faults += [answers(200, {}, {"dag_run_id": job_id})] * 3
    async with host_for(airflow, "airflow") as host:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await host.create(job({"dag": "load"}))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("job_id", ["../../connections", "a/b", "..;/x"])
async def test_an_id_of_the_backends_cannot_lead_elsewhere(airflow: Backend, job_id: str) -> None:
    airflow.faults.append(answers(200, {}, {"dag_run_id": job_id}))
    async with host_for(airflow, "airflow") as host:
        meta = await host.create(job({"dag": "load"}))
        await state(host, meta)
    assert airflow.received[-1].path.startswith("/dags/load/dagRuns/")
    assert airflow.received[-1].path.count("/") == 4


@pytest.mark.parametrize("target", ["/other/x", "http://127.0.0.1:9/", "/jobs/../other", "//evil/x", "/jobs/%2e%2e/x"])
async def test_a_forged_handle_reaches_nothing_outside_of_the_endpoint(accepting: Backend, target: str) -> None:
    async with host_for(accepting, path="/jobs") as host:
        failed, why = await state(host, HttpMeta("there", "accepted", target).encode())
        assert (failed, "is not a path below" in why) == (Phase.FAILED, True)
        found, _ = await state(host, HttpMeta("elsewhere", "accepted", "/jobs/x").encode())
        assert not found.is_terminal  # the operator may put the endpoint back
    assert accepting.received == []


async def test_a_state_that_is_not_known_is_taken_for_running_and_said(accepting: Backend) -> None:
    async with host_for(accepting) as host:
        meta = await host.create(job())
        accepting.answer.jobs["job-0"]["status"] = "Hibernating"
        found, why = await state(host, meta)
    assert (found, "'Hibernating' is not known" in why) == (Phase.RUNNING, True)


async def test_logs_that_a_recipe_has_not_are_unimplemented(accepting: Backend) -> None:
    async with host_for(accepting) as host:
        meta = await host.create(job())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [message async for message in host.get_logs("http_job", meta, lines=5)]
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_log_is_followed_until_the_job_ends(airflow: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector_plugin_http.connector._FOLLOW_SECONDS", 0.01)
    basic = {"user": "flyte", "secret": "airflow_password"}
    async with host_for(airflow, "airflow", path="/api/v1", basic=basic) as host:
        meta = await host.create(job({"dag": "load", "log_task": "load"}))
        (run,) = airflow.answer.runs.values()
        airflow.answer.log = b"one\ntw"
        seen: list[str] = []
        async for message in host.get_logs("http_job", meta, lines=0):
            seen += message.body.results
            if seen == ["one"] and run["state"] != "success":
                airflow.answer.log += b"o\nlast"
                run["state"] = "success"
    assert seen == ["one", "two", "last"]


async def test_secrets_are_looked_up_for_each_request_and_kept_nowhere(
    airflow: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    basic = {"user": "flyte", "secret": "airflow_password"}
    monkeypatch.setenv("_FSEC_AIRFLOW_PASSWORD", "wrong")
    async with host_for(airflow, "airflow", path="/api/v1", basic=basic) as host:
        failed, why = await state(host, await host.create(job({"dag": "load"})))
        assert (failed, "HTTP 401: Unauthorized" in why) == (Phase.FAILED, True)
        monkeypatch.setenv("_FSEC_AIRFLOW_PASSWORD", "sesame")
        meta = await host.create(job({"dag": "load"}))
        assert b"sesame" not in meta
        assert (await state(host, meta))[0] is Phase.QUEUED


def test_the_fake_honours_its_key() -> None:
    api = Accepting()
    sent = Received("POST", "/", {"idempotency-key": "k"}, b"{}")
    assert api(sent) == api(sent)
