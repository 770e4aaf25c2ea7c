"""Single calls: `http_call`, and `webhook` as flytekit's own task writes it."""

import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import SimpleType
from google.protobuf.json_format import ParseDict

from connector_core import Phase
from connector_core.literals import to_python_map
from connector_core.testing import ConnectorContract, RunningServer, running_server
from connector_plugin_http import plugin
from connector_plugin_http.calls import HttpCallConnector, WebhookConnector
from connector_plugin_http.config import load_config

from .conftest import LOOPBACK, Backend, answers, answers_half, config_of, loses_the_answer


def call(**custom: Any) -> TaskTemplate:
    return ParseDict({"type": "http_call", "custom": {"endpoint": "there", **custom}}, TaskTemplate())


def hook(url: str, **custom: Any) -> TaskTemplate:
    return ParseDict({"type": "webhook", "custom": {"url": url, "method": "POST", **custom}}, TaskTemplate())


@asynccontextmanager
async def calling(backend: Backend, **endpoint: Any) -> AsyncIterator[RunningServer]:
    async with running_server(HttpCallConnector(config_of(backend, **{"calls": ["* /*"], **endpoint}))) as host:
        yield host


@asynccontextmanager
async def hooking(backend: Backend, path: str = "", **endpoint: Any) -> AsyncIterator[RunningServer]:
    settings = {"url": backend.url + path, "private_networks": LOOPBACK, **endpoint}
    config = load_config({"endpoints": {"there": settings}, "inline": {"127.0.0.1": "there"}, "webhook": True})
    async with running_server(WebhookConnector(config)) as host:
        yield host


async def outcome(host: RunningServer, template: TaskTemplate, inputs: Any = None) -> tuple[Phase, str]:
    """Return how a call ends and what is said; a status that is not UNAVAILABLE is a failure for good."""
    try:
        resource = await host.execute(template, inputs)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            raise
        return Phase.FAILED, error.details() or ""
    return Phase(resource.phase), resource.message


class TestContract(ConnectorContract):
    @pytest.fixture(autouse=True)
    def _backend(self, echo: Backend) -> None:
        self.backend = echo

    def make_connector(self) -> HttpCallConnector:
        return HttpCallConnector(config_of(self.backend, calls=["GET /x"]))

    def make_template(self) -> TaskTemplate:
        return call(path="/x")


async def test_a_call_sends_what_it_says_and_answers_with_what_came_back(echo: Backend) -> None:
    template = call(
        method="POST",
        path="/reports/{name}",
        query={"day": "{day}", "none": "{missing?}"},
        headers={"X-Team": "blue"},
        body={"n": "{n}", "text": "n is {n}", "list": ["{name}", 2]},
    )
    async with calling(echo) as host:
        resource = await host.execute(template, {"name": "a/b ?&", "day": "1&x=2", "n": 3})
    assert Phase(resource.phase) is Phase.SUCCEEDED
    (sent,) = echo.received
    assert (sent.method, sent.path) == ("POST", "/reports/a%2Fb%20%3F%26")
    assert sent.query == {"day": "1&x=2"}
    assert sent.json == {"n": 3, "text": "n is 3", "list": ["a/b ?&", 2]}
    assert sent.headers["x-team"] == "blue"
    outputs = to_python_map(resource.outputs)
    assert outputs["status_code"] == 200
    assert outputs["json"]["method"] == "POST"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_every_method_goes_out_as_itself_and_every_2xx_is_a_success(
    echo: Backend, method: str, status: int
) -> None:
    echo.faults += [answers(status), answers(status)]
    async with calling(echo) as host:
        assert Phase((await host.execute(call(method=method, path="/x"))).phase) is Phase.SUCCEEDED
    async with hooking(echo) as host:
        assert Phase((await host.execute(hook(f"{echo.url}/x", method=method))).phase) is Phase.SUCCEEDED
    assert [sent.method for sent in echo.received] == [method, method]


@pytest.mark.parametrize(
    ("allowed", "method", "path", "values", "passes"),
    [
        (["GET /reports/*"], "GET", "/reports/1", {}, True),
        (["GET /reports/*"], "POST", "/reports/1", {}, False),
        (["GET /reports/*"], "GET", "/admin", {}, False),
        (["GET /reports/*"], "GET", "/reports/{x}", {"x": "../admin"}, True),  # one segment, encoded
        (["GET /reports/*"], "GET", "/reports/{x}/y", {"x": ".."}, False),
        (["GET /reports/*"], "GET", "/reports/../admin", {}, False),
        (["GET /reports/*"], "GET", "/reports/%2e%2E/admin", {}, False),
        (["GET /reports/*"], "GET", "/reports/..%5cadmin", {}, False),
        ([], "GET", "/x", {}, False),
    ],
)
async def test_only_the_calls_that_the_operator_names_can_be_made(
    echo: Backend, allowed: list[str], method: str, path: str, values: dict[str, str], passes: bool
) -> None:
    async with calling(echo, calls=allowed) as host:
        phase, _ = await outcome(host, call(method=method, path=path), values)
    assert (phase is Phase.SUCCEEDED) is passes
    assert len(echo.received) == passes
    assert all(sent.path.startswith("/reports/") and ".." not in sent.path.split("/") for sent in echo.received)


async def test_a_call_that_is_not_allowed_names_the_line_to_add(echo: Backend) -> None:
    async with calling(echo, calls=[]) as host:
        _, message = await outcome(host, call(path="/x"))
    assert 'by `calls = ["GET /x"]` in [plugins.http.endpoints.there]' in message


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Host": "evil"}, "not for tasks to set"),
        ({"authorization": "Bearer mine"}, "not for tasks to set; it comes from endpoint 'there'"),
        ({"X-A": "a\r\nX-B: b"}, "more than one line"),
        ({"X-A\r\nX-B": "b"}, "not the name of a header"),
        ({"X-A": "ü"}, "characters that a header cannot have"),
        ({"Transfer-Encoding": "chunked"}, "not for tasks to set"),
    ],
)
async def test_headers_that_are_not_a_callers_to_set_are_refused(
    echo: Backend, headers: dict[str, str], said: str
) -> None:
    async with calling(echo, headers={"Authorization": "Bearer ours"}) as host:
        phase, message = await outcome(host, call(path="/x", headers=headers))
    assert (phase, said in message) == (Phase.FAILED, True), message
    assert echo.received == []


@pytest.mark.parametrize(("method", "phase"), [("POST", Phase.RETRYABLE_FAILED), ("GET", None)])
async def test_a_call_that_may_have_had_its_effect_is_sent_again_only_where_that_is_harmless(
    echo: Backend, method: str, phase: Phase | None
) -> None:
    for fault in (answers(500), answers_half, loses_the_answer(echo)):
        echo.faults.append(fault)
        async with calling(echo) as host:
            if phase is None:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await host.execute(call(path="/x", method=method))
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            else:
                resource = await host.execute(call(path="/x", method=method))
                assert Phase(resource.phase) is phase
                assert "may have had its effect" in resource.message


async def test_a_refused_connection_is_not_for_good(echo: Backend) -> None:
    echo.stop()
    async with calling(echo) as host:
        with pytest.raises(grpc.aio.AioRpcError, match="cannot be reached") as caught:
            await host.execute(call(path="/x", method="POST"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_json_output_that_was_declared_has_to_be_json(echo: Backend) -> None:
    template = call(path="/x")
    template.interface.outputs.variables["json"].type.simple = SimpleType.STRUCT
    echo.faults.append(answers(200, {}, b"<html>"))
    async with calling(echo) as host:
        phase, message = await outcome(host, template)
    assert (phase, "'json' is declared" in message) == (Phase.FAILED, True)


async def test_flytekits_webhook_task_runs_unchanged(echo: Backend) -> None:
    webhook = pytest.importorskip("flytekit.extras.webhook", reason="needs flytekit")
    from flytekit.configuration import ImageConfig, SerializationSettings
    from flytekit.tools.translator import get_serializable

    tasks = [
        webhook.WebhookTask("get", f"{echo.url}/items/{{inputs.item}}", method="GET", data={"q": "{inputs.s}"}, **TWO),
        webhook.WebhookTask("post", f"{echo.url}/hook", data={"text": "{inputs.s} of {inputs.item}"}, **TWO),
    ]
    settings = SerializationSettings(ImageConfig(), project="p", domain="d", version="v")
    async with hooking(echo, headers={"X-Token": "ours"}) as host:
        infos = []
        for task in tasks:
            specification: Any = get_serializable(OrderedDict(), settings, task)
            resource = await host.execute(specification.template.to_flyte_idl(), {"s": "a&b={c}", "item": 7})
            assert Phase(resource.phase) is Phase.SUCCEEDED, resource.message
            infos.append(to_python_map(resource.outputs)["info"])
    got, posted = echo.received
    assert (got.path, got.query) == ("/items/7", {"q": "a&b={c}"})
    assert (posted.path, posted.json) == ("/hook", {"text": "a&b={c} of 7"})
    assert got.headers["x-token"] == "ours"
    assert infos[0]["status_code"] == 200
    assert infos[0]["url"] == f"{echo.url}/items/7"
    assert infos[1]["input_data"] == {"text": "a&b={c} of 7"}
    assert isinstance(infos[1]["response_data"], str)


TWO: dict[str, Any] = {"dynamic_inputs": {"s": str, "item": int}, "show_data": True, "show_url": True}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://169.254.169.254/latest", '`"169.254.169.254" = "ENDPOINT"` in [plugins.http.inline]'),
        ("http://localhost:{port}/x", "calls to localhost are not allowed here"),
        ("http://2130706433:{port}/x", "calls to 2130706433 are not allowed here"),
        ("http://0177.0.0.1/x", "calls to 0177.0.0.1 are not allowed"),
        ("http://[::ffff:127.0.0.1]:{port}/x", "calls to ::ffff:127.0.0.1 are not allowed"),
        ("http://127.0.0.1:9/x", "not below"),
        ("https://127.0.0.1:{port}/x", "not below"),
        ("http://127.0.0.1:{port}/other", "not below"),
        ("http://127.0.0.1:{port}/hooks/../other", "not below"),
        ("http://127.0.0.1:{port}@evil.example/", "calls to evil.example are not allowed"),
        ("http://evil.example\\@127.0.0.1:{port}/hooks", "not"),
        ("http://user:word@127.0.0.1:{port}/hooks", "not below"),
        ("file:///etc/passwd", "not a URL with a host"),
        ("", "not a URL with a host"),
    ],
)
async def test_a_webhook_calls_nothing_but_what_the_operator_has_mapped(echo: Backend, url: str, said: str) -> None:
    async with hooking(echo, path="/hooks") as host:
        phase, message = await outcome(host, hook(url.format(port=echo.port)))
    assert phase is Phase.FAILED
    assert said in message
    assert echo.received == []


async def test_an_input_cannot_change_where_a_webhook_goes(echo: Backend) -> None:
    async with hooking(echo, path="/hooks") as host:
        for value in ("../other", "@evil.example/", "x?y#z"):
            await outcome(host, hook(f"{echo.url}/hooks/{{inputs.x}}"), {"x": value})
        _, refused = await outcome(host, hook("{inputs.x}"), {"x": "http://169.254.169.254/"})
        assert Phase((await host.execute(hook("{inputs.x}"), {"x": f"{echo.url}/hooks/a"})).phase) is Phase.SUCCEEDED
    assert "169.254.169.254 are not allowed" in refused
    assert [sent.target for sent in echo.received] == ["/hooks/@evil.example/", "/hooks/x%3Fy%23z", "/hooks/a"]


async def test_a_webhook_that_is_refused_fails_with_the_reason(echo: Backend) -> None:
    echo.faults.append(answers(404, {}, {"message": "no such channel"}))
    async with hooking(echo) as host:
        phase, message = await outcome(host, hook(f"{echo.url}/x"))
    assert (phase, "HTTP 404: no such channel" in message) == (Phase.FAILED, True)


def test_webhook_is_claimed_only_where_it_is_asked_for(echo: Backend) -> None:
    endpoints = {"there": {"url": echo.url}}
    without = plugin.register_connectors({"endpoints": endpoints})
    assert [connector.task_type_name for connector in without] == ["http_job", "http_call"]
    with_it = plugin.register_connectors({"endpoints": endpoints, "webhook": True})
    assert [connector.task_type_name for connector in with_it] == ["http_job", "http_call", "webhook"]
    assert list(plugin.register_connectors({})) == []


def test_where_a_bridge_serves_webhook_too_the_host_prints_the_line_to_copy(echo: Backend, tmp_path: Path) -> None:
    endpoint = f'[plugins.http.endpoints.there]\nurl = "{echo.url}"\n'
    (tmp_path / "connector-host.toml").write_text(f"[plugins.http]\nwebhook = true\n{endpoint}")
    program = str(Path(sys.executable).parent / "connector-host")
    allowed = [word for name in ("http", "flytekit", "flytekit/webhook") for word in ("--allow-plugin", name)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_HOST")}
    command = [program, "serve", "--port", "0", "--http-port", "0", *allowed]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode != 0
    assert "task type 'webhook' is claimed by plugin" in done.stderr
    assert "--prefer webhook=http" in done.stderr
