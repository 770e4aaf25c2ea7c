"""What the tests of the http plugin share: backends that speak the APIs of the recipes, on loopback, with faults to order."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from connector_plugin_http.config import HttpConfig, load_config

LOOPBACK = ["127.0.0.0/8"]


class Received:
    """A request as it came in."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.target = target
        self.path = urlsplit(target).path
        self.parts = [unquote(part) for part in self.path.strip("/").split("/")]
        self.query = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


Reply = tuple[int, dict[str, str], Any]
Fault = Callable[[BaseHTTPRequestHandler, Received], bool]


class Backend:
    """A server whose state outlives its restarts; `answer` is the API that it speaks.

    Attributes:
        received: all requests.
        faults: what is done in place of an answer, one for each request; such a one returns whether it was the answer.
    """

    def __init__(self, answer: Callable[[Received], Reply]) -> None:
        self.answer: Any = answer  # whose jobs the tests look into
        self.received: list[Received] = []
        self.faults: list[Fault] = []
        self.port = 0
        self.tls: ssl.SSLContext | None = None
        self._server: ThreadingHTTPServer | None = None
        self._connections: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                backend._connections.append(self.connection)

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, ValueError):
                    self.close_connection = True

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                request = Received(
                    self.command, self.path, {key.lower(): value for key, value in self.headers.items()}, body
                )
                backend.received.append(request)
                if backend.faults and backend.faults.pop(0)(self, request):
                    return
                reply(self, *backend.answer(request))

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"):
            setattr(Handler, f"do_{method}", Handler.handle_any)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def requests(self, method: str, path: str) -> list[Received]:
        return [one for one in self.received if one.method == method and one.path == path]


def reply(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: Any) -> None:
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    handler.send_response(status)
    if not isinstance(body, bytes):
        handler.send_header("Content-Type", "application/json")
    for name, value in headers.items():
        handler.send_header(name, value)
    if status not in {204, 304}:
        handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if handler.command != "HEAD" and status not in {204, 304}:
        handler.wfile.write(content)


def answers(status: int, headers: dict[str, str] | None = None, body: Any = None) -> Fault:
    """Answer so, whatever is asked."""

    def fault(handler: BaseHTTPRequestHandler, _: Received) -> bool:
        reply(handler, status, headers or {}, body)
        return True

    return fault


def loses_the_answer(backend: Backend) -> Fault:
    """Do what is asked and end the connection without an answer."""

    def fault(handler: BaseHTTPRequestHandler, request: Received) -> bool:
        backend.answer(request)
        handler.close_connection = True
        handler.connection.close()
        return True

    return fault


def answers_half(handler: BaseHTTPRequestHandler, _: Received) -> bool:
    """End the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"state": "succ')
    handler.close_connection = True
    return True


class Accepting:
    """A service of the form "202 and the URL of a status" that honours `Idempotency-Key`."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, str] = {}
        self.ends_at_once = True

    def __call__(self, request: Received) -> Reply:
        if request.method == "POST":
            key = request.headers.get("idempotency-key", str(time.monotonic_ns()))
            if key not in self.keys:
                self.keys[key] = f"job-{len(self.jobs)}"
                self.jobs[self.keys[key]] = {"body": request.json, "is_over": self.ends_at_once}
            return 202, {"Location": f"/status/{self.keys[key]}"}, None
        job = self.jobs.get(request.parts[-1])
        if job is None or request.parts[0] != "status":
            return 404, {}, {"message": "no such job"}
        if request.method == "DELETE":
            job.update(is_over=True, status="Cancelled")
            return 204, {}, None
        if not job["is_over"]:
            return 202, {}, {"status": "Running"}
        return 200, {}, {"status": job.get("status", "Succeeded"), "echo": job["body"]}


class Airflow:
    """As much of Airflow's stable REST API as DAG runs need, from its documentation."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], dict[str, Any]] = {}
        self.log = b""

    def __call__(self, request: Received) -> Reply:
        if request.headers.get("authorization") != "Basic Zmx5dGU6c2VzYW1l":
            return 401, {}, {"title": "Unauthorized", "status": 401}
        match (request.method, *request.parts[2:]):
            case ("POST", "dags", "~", "dagRuns", "list"):
                wanted = request.json
                runs = [run for run in self.runs.values() if run["dag_id"] in wanted["dag_ids"]]
                runs = [run for run in runs if run["state"] in wanted["states"]]
                begin = wanted["page_offset"]
                page = runs[::-1][begin : begin + min(wanted["page_limit"], 100)]
                return 200, {}, {"dag_runs": page, "total_entries": len(runs)}
            case ("POST", "dags", dag, "dagRuns"):
                run_id = request.json["dag_run_id"]
                if (dag, run_id) in self.runs:
                    return 409, {}, {"title": "Conflict", "detail": f"DAGRun '{run_id}' already exists"}
                if dag == "missing":
                    return 404, {}, {"title": "DAG not found", "detail": "no such DAG"}
                run = {"dag_id": dag, "dag_run_id": run_id, "state": "queued", "conf": request.json.get("conf") or {}}
                self.runs[(dag, run_id)] = run
                return 200, {}, run
            case (method, "dags", dag, "dagRuns", run_id) if (dag, run_id) in self.runs:
                if method == "PATCH":
                    self.runs[(dag, run_id)]["state"] = request.json["state"]
                return 200, {}, self.runs[(dag, run_id)]
            case ("GET", "dags", dag, "dagRuns", run_id, "taskInstances", task, "logs", "1"):
                is_there = (dag, run_id) in self.runs and task == "load"
                return (200, {}, self.log) if is_there else (404, {}, {"title": "not found"})
        return 404, {}, {"title": "not found"}


class Databricks:
    """As much of Databricks' Jobs API 2.1 as one-time runs need, from its documentation."""

    def __init__(self) -> None:
        self.runs: dict[int, dict[str, Any]] = {}
        self.tokens: dict[str, int] = {}

    def __call__(self, request: Received) -> Reply:
        match (request.method, request.path.removeprefix("/api/2.1/jobs/runs/")):
            case ("POST", "submit"):
                token = request.json["idempotency_token"]
                if "tasks" not in request.json:
                    return 400, {}, {"error_code": "INVALID_PARAMETER_VALUE", "message": "tasks are missing"}
                if token not in self.tokens:
                    run_id = self.tokens[token] = 900_000_000_000_000 + len(self.runs)
                    state = {"life_cycle_state": "PENDING", "state_message": ""}
                    url = f"https://dbc.example.org/#job/{run_id}"
                    self.runs[run_id] = {"run_id": run_id, "state": state, "run_page_url": url, **request.json}
                return 200, {}, {"run_id": self.tokens[token]}
            case ("GET", "get"):
                run = self.runs.get(int(request.query["run_id"]))
                if run is None:
                    return 400, {}, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Run does not exist."}
                return 200, {}, run
            case ("POST", "cancel"):
                assert isinstance(request.json["run_id"], int)
                self.end(request.json["run_id"], "CANCELED", "Run cancelled.")
                return 200, {}, {}
            case ("GET", "list"):
                active = [run for run in self.runs.values() if "result_state" not in run["state"]]
                begin = int(request.query.get("page_token") or 0)
                page: dict[str, Any] = {"runs": active[begin : begin + int(request.query["limit"])]}
                if begin + 25 < len(active):
                    page["next_page_token"] = str(begin + 25)
                return 200, {}, page
        return 404, {}, {}

    def end(self, run_id: int, result: str, message: str = "") -> None:
        self.runs[run_id]["state"] = {
            "life_cycle_state": "TERMINATED",
            "result_state": result,
            "state_message": message,
        }


class Dbt:
    """As much of dbt Cloud's API v2 as runs of jobs need, from its documentation: no idempotency keys."""

    def __init__(self) -> None:
        self.runs: dict[int, dict[str, Any]] = {}

    def __call__(self, request: Received) -> Reply:
        if request.headers.get("authorization") != "Token sesame":
            return 401, {}, {"status": {"code": 401, "user_message": "Invalid token."}}
        match (request.method, *request.parts[4:]):
            case ("POST", "jobs", job, "run"):
                run_id = 70_000 + len(self.runs)
                trigger = {"cause": request.json["cause"]}
                self.runs[run_id] = {
                    "id": run_id,
                    "job_definition_id": int(job),
                    "status": 1,
                    "status_message": None,
                    "trigger": trigger,
                    "href": f"https://dbt.example.org/runs/{run_id}",
                    "sent": request.json,
                }
                return 200, {}, {"data": self.runs[run_id]}
            case ("GET", "runs"):
                wanted = request.query.get("job_definition_id")
                runs = [run for run in self.runs.values() if wanted in {None, str(run["job_definition_id"])}][::-1]
                begin = int(request.query.get("offset") or 0)
                return 200, {}, {"data": runs[begin : begin + int(request.query["limit"])]}
            case ("POST", "runs", run_id, "cancel"):
                self.runs[int(run_id)].update(status=30, status_message="Cancelled by user")
                return 200, {}, {"data": self.runs[int(run_id)]}
            case ("GET", "runs", run_id) if int(run_id) in self.runs:
                return 200, {}, {"data": self.runs[int(run_id)]}
        return 404, {}, {"status": {"code": 404, "user_message": "The requested resource was not found."}}


def served(api: Any) -> Iterator[Backend]:
    backend = Backend(api)
    backend.start()
    try:
        yield backend
    finally:
        backend.stop()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector_plugin_http.jobs.REPEAT_PAUSES", (0.01, 0.01))


@pytest.fixture
def accepting() -> Iterator[Backend]:
    yield from served(Accepting())


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    monkeypatch.setenv("_FSEC_AIRFLOW_PASSWORD", "sesame")
    yield from served(Airflow())


@pytest.fixture
def databricks() -> Iterator[Backend]:
    yield from served(Databricks())


@pytest.fixture
def dbt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    monkeypatch.setenv("_FSEC_DBT_TOKEN", "sesame")
    yield from served(Dbt())


@pytest.fixture
def echo() -> Iterator[Backend]:
    def answer(request: Received) -> Reply:
        return 200, {}, {"method": request.method, "target": request.target, "body": request.json}

    yield from served(answer)


def config_of(
    backend: Backend, recipe: str = "", path: str = "", min_poll_interval: float = 0, **endpoint: Any
) -> HttpConfig:
    """A section with one endpoint, `there`."""
    settings = {"url": backend.url + path, "recipe": recipe, "private_networks": LOOPBACK, **endpoint}
    return load_config({"endpoints": {"there": settings}, "min_poll_interval": min_poll_interval})
