"""Nobody runs tasks over HTTP who may not: no caller without a token, and no web page that somebody here looks at."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from connector_core.errors import SettingsError
from connector_core.testing import RunningServer, running_server
from tests.fakes import JobMeta, Jobs
from tests.support.environments import try_to_run
from tests.support.hosts import host_process
from tests.support.json_gateway import BEARER, JSON, TOKEN, Answer, ask

CONNECTOR_HOST = Path(sys.executable).with_name("connector-host")
BODY = b'{"template": {"type": "job"}}'
OTHER_TOKEN = "another-token-of-the-tests-0123456789"
TASK_ROUTES = [
    ("POST", "/api/v1/agent/task"),
    ("POST", "/api/v1/agent/task/stream"),
    ("GET", "/api/v1/agent/task/job/0/e30"),
    ("GET", "/api/v1/agent/task/metrics/job/0/e30"),
    ("GET", "/api/v1/agent/task/logs/job/0/e30"),
    ("DELETE", "/api/v1/agent/task_executions/job/0/e30"),
]


class Started(Jobs):
    """Counts the jobs that it was asked to start."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = 0

    async def create(self) -> JobMeta:  # type: ignore[override] # it asks for nothing
        self.jobs += 1
        return JobMeta("1")


@pytest.fixture
def with_tasks(tmp_path: Path) -> dict[str, Any]:
    """Settings that let callers with one of two tokens run tasks."""
    token_file = tmp_path / "tokens"
    token_file.write_text(f"{OTHER_TOKEN}\n\n  {TOKEN}  \n")
    return {"gateway": "tasks", "gateway_token_file": token_file}


async def create(server: RunningServer, headers: Mapping[str, str]) -> Answer:
    return await asyncio.to_thread(ask, server.server.http_port, "POST", "/api/v1/agent/task", BODY, headers)


def code(answer: Answer) -> tuple[int, StatusCode]:
    (found,) = (one for one in StatusCode if one.value[0] == answer.json["code"])
    return answer.status, found


# Tokens


@pytest.mark.parametrize(("verb", "path"), TASK_ROUTES)
async def test_every_route_about_tasks_needs_a_token(with_tasks: dict[str, Any], verb: str, path: str) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        body = BODY if verb == "POST" else None
        answer = await asyncio.to_thread(ask, server.server.http_port, verb, path, body, JSON)
    assert code(answer) == (401, StatusCode.UNAUTHENTICATED)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN} {TOKEN}",
        f"Bearer {TOKEN},{OTHER_TOKEN}",
        "Bearer \xe9\xff",
    ],
)
async def test_a_wrong_token_is_refused_and_nothing_is_run(with_tasks: dict[str, Any], authorization: str) -> None:
    connector = Started()
    async with running_server(connector, settings=with_tasks) as server:
        answer = await create(server, {**JSON, "Authorization": authorization})
    assert code(answer) == (401, StatusCode.UNAUTHENTICATED)
    assert connector.jobs == 0


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer {OTHER_TOKEN}"])
async def test_each_token_of_the_file_opens(with_tasks: dict[str, Any], authorization: str) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        assert (await create(server, {**JSON, "Authorization": authorization})).status == 200


async def test_a_token_in_the_url_does_not_count(with_tasks: dict[str, Any]) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        path = f"/api/v1/agent/task/job/0/e30?access_token={TOKEN}"
        assert (await asyncio.to_thread(ask, server.server.http_port, "GET", path)).status == 401


async def test_a_body_is_not_read_before_the_token(with_tasks: dict[str, Any]) -> None:
    async with running_server(Jobs(), settings={**with_tasks, "max_request_bytes": 100}) as server:
        answer = await asyncio.to_thread(
            ask, server.server.http_port, "POST", "/api/v1/agent/task", b"x" * 1_000_000, JSON
        )
    assert answer.status == 401


# Web pages


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9090",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "0.0.0.0",
        "a@localhost",
        "",
    ],
)
async def test_a_foreign_host_is_refused_with_the_right_token_even(with_tasks: dict[str, Any], host: str) -> None:
    """The name that a browser puts there is the page's own, wherever DNS says that it is now."""
    connector = Started()
    async with running_server(connector, settings=with_tasks) as server:
        answer = await create(server, {**JSON, **BEARER, "Host": host})
    assert code(answer) == (403, StatusCode.PERMISSION_DENIED)
    assert connector.jobs == 0


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9090", "127.0.0.1", "127.0.0.1:1", "[::1]:9090", "gate.example"]
)
async def test_this_machine_and_the_names_of_the_settings_are_allowed(with_tasks: dict[str, Any], host: str) -> None:
    chosen = {**with_tasks, "gateway_hosts": ("Gate.example:443",)}
    async with running_server(Jobs(), settings=chosen) as server:
        assert (await create(server, {**JSON, **BEARER, "Host": host})).status == 200


async def test_the_address_that_was_called_is_allowed_where_the_host_listens_on_all(
    with_tasks: dict[str, Any],
) -> None:
    async with running_server(Jobs(), settings={**with_tasks, "host": "0.0.0.0"}) as server:
        port = server.server.http_port
        assert (await create(server, {**JSON, **BEARER, "Host": f"127.0.0.1:{port}"})).status == 200
        assert (await create(server, {**JSON, **BEARER, "Host": f"10.0.0.1:{port}"})).status == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "file://", ""])
async def test_a_page_of_another_origin_is_refused(with_tasks: dict[str, Any], origin: str) -> None:
    connector = Started()
    async with running_server(connector, settings=with_tasks) as server:
        answer = await create(server, {**JSON, **BEARER, "Host": "localhost:9090", "Origin": origin})
    assert code(answer) == (403, StatusCode.PERMISSION_DENIED)
    assert connector.jobs == 0


async def test_a_page_of_this_origin_is_none(with_tasks: dict[str, Any]) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        own = {"Host": "localhost:9090", "Origin": "http://localhost:9090"}
        assert (await create(server, {**JSON, **BEARER, **own})).status == 200


@pytest.mark.parametrize("path", ["/api/v1/agent/task", "/api/v1/agents", "/openapi.json", "/metrics", "/readyz"])
async def test_nobody_else_is_given_leave_to_call(with_tasks: dict[str, Any], path: str) -> None:
    preflight = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    async with running_server(Jobs(), settings=with_tasks) as server:
        port = server.server.http_port
        asked = await asyncio.to_thread(ask, port, "OPTIONS", path, None, preflight)
        read = await asyncio.to_thread(ask, port, "GET", path, None, {"Origin": "https://evil.example"})
    assert asked.status == 405
    assert not [name for answer in (asked, read) for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "application/json; charset=latin-1",
        "application/x-ndjson",
        "",
        None,
    ],
)
async def test_a_body_of_another_kind_is_refused(with_tasks: dict[str, Any], content_type: str | None) -> None:
    """The first three are what a form can send without being asked."""
    connector = Started()
    async with running_server(connector, settings=with_tasks) as server:
        kind = {} if content_type is None else {"Content-Type": content_type}
        answer = await create(server, {**BEARER, **kind})
    assert code(answer) == (415, StatusCode.INVALID_ARGUMENT)
    assert "application/json" in answer.json["message"]
    assert connector.jobs == 0


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON;charset=UTF-8"])
async def test_json_may_say_that_it_is_utf_8(with_tasks: dict[str, Any], content_type: str) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        assert (await create(server, {**BEARER, "Content-Type": content_type})).status == 200


async def test_answers_are_never_taken_for_pages_nor_kept(with_tasks: dict[str, Any]) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        for answer in (await create(server, {**JSON, **BEARER}), await create(server, JSON)):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"


# Starting


async def test_a_server_does_not_start_with_tasks_and_without_tokens() -> None:
    with pytest.raises(SettingsError, match="name a file with a token in each line by gateway_token_file"):
        async with running_server(Jobs(), settings={"gateway": "tasks"}):
            raise AssertionError("it serves")


def test_the_command_line_says_so_too_and_ends_with_2(tmp_path: Path) -> None:
    refused = try_to_run(CONNECTOR_HOST, "serve", "--port", "0", "--http-port", "0", "--gateway", "tasks", cwd=tmp_path)
    assert refused.returncode == 2
    assert "gateway_token_file" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_host_with_tasks_says_where_and_whose_they_are(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with host_process("--gateway", "tasks", "--gateway-token-file", "token", cwd=tmp_path) as host:
        port = int(host.metrics_url.rsplit(":", 1)[1].split("/")[0])
        assert f"Tasks can be run as JSON (http://127.0.0.1:{port}/openapi.json) with a token of token." in host.output
        assert ask(port, "POST", "/api/v1/agent/task", BODY, JSON).status == 401
        assert ask(port, "POST", "/api/v1/agent/task", BODY, {**BEARER, **JSON}).json["code"] == 5
        assert host.stop() == 0
    assert TOKEN not in host.output
