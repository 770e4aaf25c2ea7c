"""The HTTP port: what is shown on it, when it opens, and how it drains."""

import asyncio
import contextlib
import gzip
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client import REGISTRY, Counter
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_core.description import PluginIdentity
from connector_core.errors import AddressInUseError, BackendUnavailableError
from connector_core.http import HttpServer, connections, listening, probes, serving
from connector_core.metrics import plugin_metrics
from connector_core.plugins import FailedPlugin, PluginLoadResult
from connector_core.ports import Address, Port
from connector_core.ports.bounds import ConnectionBounds
from connector_core.registry import ConnectorRegistry
from connector_core.server import ConnectorServer
from connector_core.settings import Settings
from connector_core.tables import read
from connector_core.testing import RunningServer, running_server
from tests.fakes import PATIENCE, Gate, JobMeta, Jobs, Never, eventually, happens
from tests.support.bytes_server import end_aio
from tests.support.json_gateway import BEARER, JSON, TOKEN, Answer, ask

CREATE = b'{"template": {"type": "job"}}'


@pytest.fixture
def with_tasks(tmp_path: Path) -> dict[str, Any]:
    """Settings that let callers with the token run tasks."""
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    return {"gateway": "tasks", "gateway_token_file": token_file}


def get(server: RunningServer, path: str, **headers: str) -> Answer:
    return ask(server.server.http_port, "GET", path, None, headers)


async def asked(server: RunningServer, verb: str, path: str, body: bytes | None = None) -> Answer:
    """Ask while this loop, which serves gRPC, goes on."""
    headers = {**BEARER, **JSON} if body is not None else BEARER
    return await asyncio.to_thread(ask, server.server.http_port, verb, path, body, headers)


# Metrics


async def test_metrics_are_prometheus_text() -> None:
    async with running_server(Jobs()) as server:
        answer = get(server, "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"# TYPE flyte_connector_requests_success_total counter" in answer.body


async def test_metrics_are_openmetrics_for_those_who_accept_that() -> None:
    async with running_server(Jobs()) as server:
        answer = get(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.body.endswith(b"# EOF\n")


async def test_metrics_are_compressed_for_those_who_accept_that() -> None:
    async with running_server(Jobs()) as server:
        answer = get(server, "/metrics", **{"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert b"flyte_connector_build_info" in gzip.decompress(answer.body)


async def test_a_scrape_can_name_the_series_that_it_wants() -> None:
    async with running_server(Jobs()) as server:
        await server.list_connectors()
        answer = get(server, "/metrics?name[]=flyte_connector_build_info")
    series = {line.split("{")[0] for line in answer.body.decode().splitlines() if not line.startswith("#")}
    assert series == {"flyte_connector_build_info"}


async def test_a_scrape_is_answered_while_the_serving_loop_is_busy() -> None:
    async with running_server(Jobs()) as server:
        assert "flyte_connector_build_info" in server.metrics_text()  # blocks the loop that serves gRPC


async def test_calls_over_http_count_like_those_over_grpc(with_tasks: dict[str, Any]) -> None:
    async with running_server(Jobs(), settings=with_tasks) as server:
        assert (await asked(server, "POST", "/api/v1/agent/task", CREATE)).status == 200
        assert (await asked(server, "GET", "/api/v1/agent/task/job/7/e30")).status == 404
        on_job = {"task_type": "job", "operation": "create"}
        assert server.metric("flyte_connector_requests_success_total", **on_job) == 1
        assert server.metric("flyte_connector_input_literal_bytes_count", task_type="job") == 1
        unknown = {"task_type": "unknown", "operation": "get", "error_code": "NOT_FOUND"}
        assert server.metric("flyte_connector_requests_failure_total", **unknown) == 1


class OwnCollector:
    """A collector as plugins register it, with prometheus_client's default registry."""

    def __init__(self, collect: Callable[[], Iterable[Metric]], *names: str) -> None:
        self.collect = collect
        self._names = names

    def describe(self) -> list[Metric]:
        return [Metric(name, "", "counter") for name in self._names]


@contextmanager
def registered(collector: Any) -> Iterator[None]:
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)


def jobs_done() -> Iterable[Metric]:
    yield CounterMetricFamily("acme_jobs_done", "Jobs.", value=3)


async def test_what_a_connector_registers_itself_is_shown_with_what_the_process_takes() -> None:
    with registered(OwnCollector(jobs_done, "acme_jobs_done")):
        async with running_server(Jobs()) as server:
            text, chosen = server.metrics_text(), get(server, "/metrics?name[]=acme_jobs_done_total").body.decode()
    for line in ("acme_jobs_done_total 3.0", "flyte_connector_build_info{"):
        assert f"\n{line}" in text
    for name in ("process_resident_memory_bytes", "python_info"):
        assert f"\n# TYPE {name} gauge" in text
    assert [line for line in chosen.splitlines() if not line.startswith("#")] == ["acme_jobs_done_total 3.0"]


async def test_a_metric_of_a_plugin_with_a_name_of_the_hosts_is_left_out() -> None:
    """flytekit registers such ones as it is imported; a page with two of one name is refused by Prometheus."""
    theirs = Counter("flyte_connector_requests_success", "Theirs.", ["task_type", "operation"], registry=None)
    theirs.labels("theirs", "create").inc()
    with registered(OwnCollector(theirs.collect)):  # by no name: flytekit may be imported, and have registered this one
        async with running_server(Jobs()) as server:
            text = server.metrics_text()
    assert text.count("# TYPE flyte_connector_requests_success_total counter") == 1
    assert "theirs" not in text


async def test_a_collector_that_fails_costs_its_own_metrics_and_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> Iterable[Metric]:
        raise SystemExit("no database")

    with registered(OwnCollector(fail, "acme_bad")), registered(OwnCollector(jobs_done, "acme_jobs_done")):
        async with running_server(Jobs()) as server:
            texts = [server.metrics_text() for _ in range(2)]
    assert all("acme_jobs_done_total 3.0" in text and "flyte_connector_build_info" in text for text in texts)
    assert len([line for line in caplog.messages if "OwnCollector failed" in line]) == 1


async def test_a_collector_that_hangs_costs_the_metrics_of_plugins_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()

    def hang() -> Iterable[Metric]:
        gate.wait(PATIENCE)
        return jobs_done()

    monkeypatch.setattr(plugin_metrics, "PATIENCE", 0.1)
    with registered(OwnCollector(hang, "acme_jobs_done")):
        async with running_server(Jobs()) as server:
            before = [server.metrics_text() for _ in range(3)]
            reading = [thread for thread in threading.enumerate() if thread.name == "metrics of plugins"]
            gate.set()
            await eventually(lambda: "acme_jobs_done_total" in server.metrics_text())
    assert all("flyte_connector_build_info" in text and "acme" not in text for text in before)
    assert len(reading) == 1
    assert "within 0.1 s" in caplog.text


@pytest.mark.parametrize("path", ["/metrics/", "/healthz/", "/console/events/"])
async def test_nobody_is_sent_to_a_host_that_a_request_names(path: str) -> None:
    async with running_server(Jobs()) as server:
        answer = get(server, path, Host="evil.example")
    assert answer.status == 404
    assert "location" not in answer.headers


# Health


async def test_a_host_that_serves_is_alive_and_ready() -> None:
    async with running_server(Jobs()) as server:
        alive, ready = await asked(server, "GET", "/healthz"), await asked(server, "GET", "/readyz")
    assert (alive.status, alive.json) == (200, {"status": "alive", "reasons": []})
    assert (ready.status, ready.json) == (200, {"status": "ready", "reasons": []})
    assert ready.headers["cache-control"] == "no-store"


async def test_a_host_whose_serving_loop_is_stuck_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PATIENCE", 0.05)
    async with running_server(Jobs()) as server:
        alive, ready = get(server, "/healthz"), get(server, "/readyz")  # asked by the serving loop, which waits
    assert (alive.status, alive.json["status"]) == (503, "stuck")
    assert (ready.status, ready.json["status"]) == (503, "not ready")
    assert "the event loop that serves gRPC is blocked: no response within" in alive.json["reasons"][0]


@asynccontextmanager
async def embedded(plugins: PluginLoadResult, **settings: Any) -> AsyncIterator[RunningServer]:
    """A server in a program that goes on although a plugin that it requires has failed."""
    server = ConnectorServer(ConnectorRegistry(), read(Settings, {"port": 0, "http_port": 0, **settings}), plugins)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield RunningServer(server, channel)
    finally:
        await server.stop()


FAILED = PluginLoadResult(failed=(FailedPlugin(PluginIdentity("broken"), "ImportError: no licence", "", 0.0),))


async def test_a_host_without_a_required_plugin_is_alive_but_not_ready() -> None:
    async with embedded(FAILED, require=("broken",)) as server:
        assert (await asked(server, "GET", "/healthz")).status == 200
        ready = await asked(server, "GET", "/readyz")
    assert ready.status == 503
    assert ready.json["reasons"] == ["plugin 'broken' failed to load: ImportError: no licence"]


async def test_a_plugin_that_nobody_requires_leaves_the_host_ready() -> None:
    async with embedded(FAILED) as server:
        assert (await asked(server, "GET", "/readyz")).status == 200


async def test_a_connector_that_cannot_start_leaves_the_host_ready() -> None:
    async def start() -> None:
        raise BackendUnavailableError("away")

    async with running_server(Jobs(start=start)) as server:
        assert list(server.server.not_started.values())
        assert (await asked(server, "GET", "/readyz")).status == 200


# Opening and closing


async def test_a_taken_port_is_found_before_anything_serves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = ConnectorServer(ConnectorRegistry(), Settings(port=0, http_port=port))
        with pytest.raises(AddressInUseError, match=rf"the HTTP port 127\.0\.0\.1:{port} is taken by another process"):
            await server.start()


async def test_a_host_whose_grpc_has_ended_is_not_healthy_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with running_server(Jobs(), settings={"transport": "aio"}) as server:
        assert (await asyncio.to_thread(ask, server.server.http_port, "GET", "/healthz")).status == 200
        with await end_aio(server.server.port):
            await asyncio.wait_for(server.server.has_failed.wait(), PATIENCE)
            for path in ("/healthz", "/readyz"):
                answer = await asyncio.to_thread(ask, server.server.http_port, "GET", path)
                assert answer.status == 503
                assert b"gRPC is no longer served" in answer.body
    assert [record.levelname for record in caplog.records if "no longer served" in record.getMessage()] == ["CRITICAL"]


async def test_nothing_listens_any_more_when_the_host_has_stopped() -> None:
    async with running_server(Jobs()) as server:
        url = f"http://127.0.0.1:{server.server.http_port}/healthz"
        await asyncio.to_thread(urlopen, url)
    assert "http" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(URLError):
        await asyncio.to_thread(urlopen, url)


async def test_a_host_that_stops_right_after_its_start_leaves_nothing_behind() -> None:
    server = ConnectorServer(ConnectorRegistry(), Settings(port=0, http_port=0))
    await server.start()
    await server.stop()
    assert "http" not in [thread.name for thread in threading.enumerate()]


async def test_an_app_that_cannot_be_made_is_in_the_log_and_made_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules cannot be imported while descriptors are short."""
    monkeypatch.setattr(listening, "_FIRST_PAUSE", 0.01)
    failures: list[BaseException] = [
        OSError(24, "Too many open files"),
        SystemExit(3),
        ImportError("half of starlette"),
    ]
    port = Port("HTTP", Address("127.0.0.1", 0))
    server = HttpServer(port)

    def make() -> Any:
        if failures:
            raise failures.pop()
        return Starlette(routes=[Route("/", lambda _request: Response(b"served"))])

    server.start(make, asyncio.new_event_loop)
    try:
        answer = await asyncio.to_thread(ask, port.number, "GET", "/")
    finally:
        await asyncio.to_thread(server.close, PATIENCE)
    assert answer.body == b"served"
    assert caplog.text.count(f"HTTP port not served, will retry: port {port.number},") == 3
    assert "Too many open files" in caplog.text


class TestSilentCallers:
    """Connections that bring no request, or bring it slowly, have some time, and are so many at the most."""

    @pytest.mark.parametrize(
        "sent", [b"", b"GET / HT", b"POST /api/v1/agent/task HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"]
    )
    async def test_one_that_brings_no_whole_request_is_closed(
        self, sent: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "ASKING_SECONDS", 0.2)
        async with running_server(Jobs()) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.server.http_port)
            writer.write(sent)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()

    async def test_one_whose_answer_takes_long_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "ASKING_SECONDS", 0.2)
        gate = Gate()
        port = Port("HTTP", Address("127.0.0.1", 0))
        server = HttpServer(port)

        async def wait(_request: Request) -> Response:
            await asyncio.to_thread(gate.block)
            return Response(b"served")

        server.start(lambda: Starlette(routes=[Route("/", wait)]), asyncio.new_event_loop)
        try:
            answer = asyncio.create_task(asyncio.to_thread(ask, port.number, "GET", "/"))
            await gate.reached()
            await asyncio.sleep(0.5)
            gate.open()
            assert (await answer).body == b"served"
        finally:
            await asyncio.to_thread(server.close, PATIENCE)

    async def test_so_many_leave_room_for_those_that_ask(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(serving, "connection_bounds", lambda: ConnectionBounds(grpc=8, http=3))
        async with running_server(Jobs()) as server:
            silent = [await asyncio.open_connection("127.0.0.1", server.server.http_port) for _ in range(10)]
            assert (await asyncio.to_thread(ask, server.server.http_port, "GET", "/healthz")).status == 200
            for reader, _writer in silent[:7]:
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            for _reader, writer in silent:
                writer.close()


async def test_a_thread_that_does_not_end_is_left_behind_and_named(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    port = Port("HTTP", Address("127.0.0.1", 0))
    server = HttpServer(port)
    server.start(gate.block, asyncio.new_event_loop)  # type: ignore[arg-type] # an import that hangs
    socket.create_connection(("127.0.0.1", port.number), timeout=PATIENCE).close()
    await gate.reached()
    server.close(0.01)
    assert "HTTP thread left behind: did not end within 0.01 s" in caplog.text
    gate.open()
    await eventually(lambda: "http" not in [thread.name for thread in threading.enumerate()])


async def test_draining_is_said_first_and_new_calls_are_refused_while_those_under_way_end(
    with_tasks: dict[str, Any],
) -> None:
    gate = Gate()

    def create() -> JobMeta:
        gate.block()
        return JobMeta("1")

    async with running_server(Jobs(create=create), settings={**with_tasks, "grace": PATIENCE}) as server:
        over_grpc = asyncio.create_task(server.create("job"))
        over_http = asyncio.create_task(asked(server, "POST", "/api/v1/agent/task", CREATE))
        await gate.reached(2)
        stopping = asyncio.create_task(server.server.stop())
        await eventually(server.server.not_ready)

        ready, alive = await asked(server, "GET", "/readyz"), await asked(server, "GET", "/healthz")
        assert (ready.status, ready.json["reasons"]) == (503, ["draining: the host was asked to stop"])
        assert alive.status == 200
        refused = await asked(server, "GET", "/api/v1/agents")
        assert (refused.status, refused.json["code"]) == (503, grpc.StatusCode.UNAVAILABLE.value[0])
        assert b"flyte_connector_requests_in_flight" in (await asked(server, "GET", "/metrics")).body

        gate.open()
        answer = await over_http
        assert (answer.status, list(answer.json)) == (200, ["resourceMeta"])
        assert await over_grpc == JobMeta("1").encode()
        await stopping


async def test_a_call_that_outlasts_the_grace_is_cut_and_told_so(with_tasks: dict[str, Any]) -> None:
    never = Never()

    async def delete() -> None:
        await never.wait()

    async with running_server(Jobs(delete=delete), settings=with_tasks) as server:
        call = asyncio.create_task(asked(server, "DELETE", "/api/v1/agent/task_executions/job/0/e30"))
        await happens(never.begun)
        await server.server.stop(grace=0.01)
        answer = await call
        await happens(never.cancelled)
    assert (answer.status, answer.json["message"]) == (503, "the host stopped before this call had ended")


# The program around it


@pytest.fixture
def root_logger(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


async def test_uvicorn_says_nothing_of_each_request_and_keeps_the_programs_own_levels(
    root_logger: pytest.LogCaptureFixture,
) -> None:
    async with running_server(Jobs()) as server:
        await asked(server, "GET", "/healthz")
        logging.getLogger("uvicorn.access").info("of another server in this program")
    ours = [record.getMessage() for record in root_logger.records if record.name.startswith("uvicorn")]
    assert ours == ["of another server in this program"]
    assert logging.getLogger("uvicorn.access").filters == []


async def test_what_lies_elsewhere_is_not_found() -> None:
    async with running_server(Jobs()) as server:
        assert get(server, "/nothing").status == 404
