"""The console over plain HTTP: what it shows, to whom, and how its events begin and end."""

import asyncio
import http.client
import json
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core.description import PluginIdentity
from connector_core.errors import BackendUnavailableError, InvalidInputError, PermissionDeniedError
from connector_core.http.console import console
from connector_core.http.console.page import HERE
from connector_core.observing.observer import Observer
from connector_core.plugins import FailedPlugin, PluginLoadResult, SkippedPlugin
from connector_core.registry import ConnectorRegistry
from connector_core.server import ConnectorServer
from connector_core.settings import Settings
from connector_core.tables import read
from connector_core.testing import RunningServer, running_server
from tests.fakes import PATIENCE, Gate, JobMeta, Jobs, eventually
from tests.support.environments import try_to_run
from tests.support.hosts import host_process
from tests.support.json_gateway import Answer, ask
from tests.support.rpc import collected

HOSTILE = "<script>alert('x')</script>\"' onload=alert(1) x=\""


class Text(HTMLParser):
    """The text that a page shows, and the elements and attributes that it has."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self._hidden = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _value in attrs}
        self._hidden += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.shown.append(data)

    @property
    def text(self) -> str:
        """What is shown, with single spaces."""
        return " ".join(" ".join(self.shown).split())


async def page(server: RunningServer, path: str = "/", **headers: str) -> Answer:
    """Ask for the page while this loop, which serves gRPC, goes on."""
    return await asyncio.to_thread(ask, server.server.http_port, "GET", path, None, headers)


async def shown(server: RunningServer, path: str = "/") -> str:
    answer = await page(server, path)
    assert answer.status == 200
    return Text(answer.body.decode()).text


@asynccontextmanager
async def server_with(plugins: PluginLoadResult, **settings: Any) -> AsyncIterator[ConnectorServer]:
    """Serve what became of plugins."""
    server = ConnectorServer(ConnectorRegistry(), read(Settings, {"port": 0, "http_port": 0, **settings}), plugins)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class Stream:
    """The events of a page, read in a thread."""

    def __init__(self, port: int, path: str = "/console/events") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._connection.request("GET", path)
        self.response = self._connection.getresponse()
        self.status = self.response.status

    async def next(self) -> tuple[str, Any]:
        """Wait for an event, and return its name and value."""
        return await asyncio.to_thread(self._next)

    async def part(self, name: str, text: str) -> str:
        """Wait until a part has a text, and return the part."""
        while True:
            _kind, value = await self.next()
            if text in (html := value["parts"].get(name, "")):
                return str(html)

    def close(self) -> None:
        self._connection.close()
        self.response.close()

    def _next(self) -> tuple[str, Any]:
        name = ""
        for line in self.response:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                return name, json.loads(line[6:])
        raise EOFError("the stream has ended")


@contextmanager
def stream(server: ConnectorServer, path: str = "/console/events") -> Iterator[Stream]:
    """Follow the events."""
    events = Stream(server.http_port, path)
    try:
        yield events
    finally:
        events.close()


# What it shows


async def test_the_page_shows_connectors_and_the_calls_that_were_made() -> None:
    async with running_server(Jobs("etl")) as server:
        meta = await server.create("etl", {"id": "7"})
        await server.get("etl", meta, output_prefix="s3://a/n0/0")
        text = await shown(server)
    assert "Ready" in text
    assert "Nothing needs attention" in text
    assert "etl connector test-etl connector etl async" in text
    assert "OK create etl" in text
    assert "OK get etl s3://a/n0/0" in text


async def test_all_calls_about_one_job_call_it_by_one_name() -> None:
    request = agent_pb2.CreateTaskRequest(template=TaskTemplate(type="etl"), output_prefix="s3://a/n0/0")
    execution = request.task_execution_metadata.task_execution_id.node_execution_id
    execution.node_id, execution.execution_id.name = "n0", "nightly"
    async with running_server(Jobs("etl", get_logs=lambda: ["line"])) as server:
        meta = (await server.async_stub.CreateTask(request)).resource_meta
        await server.get("etl", meta, output_prefix="s3://a/n0/0")
        await collected(server.get_logs("etl", meta))
        await server.delete("etl", meta)
        text = await shown(server)
    for operation in ("create", "get", "get_logs", "delete"):
        assert re.search(rf"OK {operation} etl \S*nightly/n0/0", text), operation
    assert "s3://a/n0/0" not in text


async def test_a_failed_call_is_shown_by_its_status_and_the_reference_of_its_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def create() -> JobMeta:
        raise BackendUnavailableError("the warehouse is away, said its secret self")

    async with running_server(Jobs(create=create)) as server:
        with pytest.raises(grpc.aio.AioRpcError):
            await server.create("job")
        text = await shown(server, "/?status=failed")
    (reference,) = [vars(record)["reference"] for record in caplog.records if "reference" in vars(record)]
    assert f"UNAVAILABLE log: {reference} create job" in text
    assert "create(): the warehouse is away, said its secret self" in text


async def test_a_failed_call_shows_its_message_without_secrets() -> None:
    def create() -> JobMeta:
        raise BackendUnavailableError("no login at https://me:h1dden@warehouse\nwith Bearer h1ddent0ken")

    async with running_server(Jobs(create=create)) as server:
        with pytest.raises(grpc.aio.AioRpcError):
            await server.create("job")
        text = await shown(server)
    assert "no login at https://" in text
    assert "h1dden" not in text


async def test_callers_mistakes_need_nobodys_attention_and_are_counted_apart() -> None:
    def create() -> JobMeta:
        raise InvalidInputError("month is 13")

    async with running_server(Jobs("etl", create=create)) as server:
        for _ in range(5):
            await server.create("etl")
        text = await shown(server, "/?status=callers")
    assert "Nothing needs attention" in text
    assert "0 % 5 by callers" in text
    assert "INVALID_ARGUMENT as a FAILED job" in text
    assert "month is 13" in text


async def test_a_create_that_is_answered_as_a_failed_job_is_shown_as_failed() -> None:
    def create() -> JobMeta:
        raise PermissionDeniedError("not you")

    async with running_server(Jobs(create=create)) as server:
        await server.create("job")
        assert "PERMISSION_DENIED as a FAILED job" in await shown(server)


async def test_calls_that_mostly_fail_need_attention() -> None:
    def create() -> JobMeta:
        raise BackendUnavailableError("away")

    async with running_server(Jobs("etl", create=create)) as server:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await server.create("etl")
        text = await shown(server)
    assert "Needs attention 1 Problem: 100 % of the calls of connector etl connector failed 3 of 3 in 5 minutes" in text


async def test_callers_mistakes_hide_no_failures() -> None:
    def create(inputs: dict[str, Any]) -> JobMeta:
        raise BackendUnavailableError("away") if inputs else InvalidInputError("no inputs")

    async with running_server(Jobs("etl", create=create)) as server:
        for _ in range(100):
            await server.create("etl")
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await server.create("etl", {"id": "7"})
        text = await shown(server)
    assert "100 % of the calls of connector etl connector failed 3 of 3 in 5 minutes" in text


async def test_calls_in_flight_are_counted_while_they_run() -> None:
    gate = Gate()

    def create() -> JobMeta:
        gate.block()
        return JobMeta("1")

    async with running_server(Jobs(create=create)) as server:
        creating = asyncio.create_task(server.create("job"))
        await gate.reached()
        text = await shown(server)
        gate.open()
        await creating
    assert "In flight 1 0 waiting" in text
    assert "1 run calls" in text


async def test_what_was_put_in_and_what_came_out_is_never_shown() -> None:
    async with running_server(Jobs()) as server:
        meta = await server.create("job", {"id": "input-7f3"})
        job = await server.get("job", meta, output_prefix="s3://a/0")
        answer = await page(server)
    assert job.outputs.literals["id"].scalar.primitive.string_value == "input-7f3"
    assert b"s3://a/0" in answer.body
    assert b"input-7f3" not in answer.body


async def test_a_failed_plugin_is_shown_first_with_its_reason_and_the_command_for_more() -> None:
    failed = FailedPlugin(
        PluginIdentity("acme", "connector-plugin-acme", "2.1"), "ImportError: no sql\nat once", "Traceback: deep", 0.25
    )
    async with server_with(PluginLoadResult(failed=(failed,))) as server:
        text = Text((await asyncio.to_thread(ask, server.http_port, "GET", "/")).body.decode()).text
    first, _, rest = text.partition("Overview")
    assert "Plugin acme failed to load ImportError: no sql connector-host doctor acme" in first
    assert "Failed connector-plugin-acme 2.1 250 ms" in rest
    assert "ImportError: no sql at once" in rest
    assert "deep" not in text


async def test_a_required_plugin_that_failed_makes_the_host_not_ready() -> None:
    failed = FailedPlugin(PluginIdentity("acme", "connector-plugin-acme", "2.1"), "ImportError: no sql", "", 0.1)
    async with server_with(PluginLoadResult(failed=(failed,)), require=("acme",)) as server:
        text = Text((await asyncio.to_thread(ask, server.http_port, "GET", "/")).body.decode()).text
    assert "Not ready" in text
    assert "The host is not ready: it gets no calls" in text


async def test_skipped_plugins_and_modules_are_told_apart() -> None:
    plugins = PluginLoadResult(
        failed=(FailedPlugin(PluginIdentity("my.mod"), "", "", 0.1),),
        skipped=(SkippedPlugin(PluginIdentity("big", "connector-plugin-big", "1"), "blocked by --block-plugin"),),
    )
    async with server_with(plugins) as server:
        text = Text((await asyncio.to_thread(ask, server.http_port, "GET", "/")).body.decode()).text
    assert "my.mod Failed a module, not installed" in text
    assert "connector-host doctor my.mod --modules my.mod" in text
    assert "big Skipped connector-plugin-big 1" in text
    assert "blocked by --block-plugin" in text


async def test_a_connector_that_has_not_started_is_a_problem_with_its_reason() -> None:
    def start() -> None:
        raise BackendUnavailableError("no route to the warehouse")

    async with running_server(Jobs("etl", start=start)) as server:
        text = await shown(server)
    assert "Connector etl connector of plugin test-etl connector has not started" in text
    assert text.count("no route to the warehouse") == 2


async def test_a_host_without_anything_says_what_to_do() -> None:
    async with server_with(PluginLoadResult()) as server:
        text = Text((await asyncio.to_thread(ask, server.http_port, "GET", "/")).body.decode()).text
    assert "No connector is served here" in text
    assert "No plugin is installed here" in text
    assert "No call has ended yet" in text
    assert "no engine has asked" in text


async def test_listing_connectors_is_shown_as_a_sign_of_the_engine_and_not_as_a_call() -> None:
    async with running_server(Jobs()) as server:
        await server.list_connectors()
        text = await shown(server)
    assert "Last ListAgents 0 s ago" in text
    assert "No call has ended yet" in text


async def test_a_filter_in_the_address_works_without_javascript() -> None:
    async with running_server(Jobs("etl"), Jobs("ml")) as server:
        for task_type in ("etl", "ml"):
            await server.create(task_type)
        text = await shown(server, "/?q=ML&operation=create&status=ok")
        nothing = await shown(server, "/?q=nowhere")
        nonsense = await shown(server, "/?operation=nonsense&status=%3Cb%3E")
    assert "1 call that matches, of 2 kept" in text.replace("  ", " ")
    assert "OK create ml" in text
    assert "OK create etl" not in text
    assert "No call matches" in nothing
    assert "2 calls" in nonsense


async def test_foreign_texts_are_escaped_wherever_they_stand() -> None:
    plugins = PluginLoadResult(
        failed=(FailedPlugin(PluginIdentity(HOSTILE, HOSTILE, HOSTILE), HOSTILE, HOSTILE, 0.1),),
        skipped=(SkippedPlugin(PluginIdentity(HOSTILE), HOSTILE),),
        warnings=(HOSTILE,),
    )
    registry = ConnectorRegistry()
    task_type = HOSTILE.replace(" ", "/")
    registry.register(Jobs(task_type), plugin=PluginIdentity(HOSTILE))
    server = ConnectorServer(registry, Settings(port=0, http_port=0), plugins)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            running = RunningServer(server, channel)
            meta = await running.create(task_type)
            await running.get(task_type, meta, output_prefix=HOSTILE)
            answer = await page(running, "/?q=%3Cscript%3E")
    finally:
        await server.stop()
    seen = Text(answer.body.decode())
    assert seen.text.count(HOSTILE.partition("'")[0]) >= 8
    assert seen.tags.count("script") == 1
    assert "onload" not in seen.attributes


async def test_a_stuck_serving_loop_is_said_to_be_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_PATIENCE", 0.05)
    async with server_with(PluginLoadResult()) as server:
        await asyncio.to_thread(ask, server.http_port, "GET", "/")
        stuck = ask(server.http_port, "GET", "/")  # on the very loop that would have to answer
    assert "Stuck" in Text(stuck.body.decode()).text


# Who may see it


async def test_the_page_is_kept_by_nobody_framed_by_nobody_and_loads_nothing() -> None:
    async with running_server(Jobs()) as server:
        answer = await page(server)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["script-src"].startswith("'sha256-")
    assert policy["style-src"].startswith("'sha256-")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    seen = Text(answer.body.decode())
    assert not {"onclick", "onload", "style", "src"} & seen.attributes


@pytest.mark.parametrize("path", ["/", "/console/events"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:9090", "localhost.evil.example", "0.0.0.0", "a b", ""])
async def test_a_name_that_the_host_does_not_know_is_refused(path: str, host: str) -> None:
    """A page that has its own name point to this machine still calls the host by that name."""
    async with running_server(Jobs()) as server:
        answer = await page(server, path, Host=host)
    assert answer.status == 403
    assert b"gateway_hosts" in answer.body
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:9090", "10.1.2.3:9090", "Console.example"])
async def test_this_machine_addresses_and_the_names_of_the_settings_are_known(host: str) -> None:
    async with running_server(Jobs(), settings={"gateway_hosts": ("console.example:443",)}) as server:
        assert (await page(server, Host=host)).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_events_go_to_the_page_itself_alone(site: str) -> None:
    async with running_server(Jobs()) as server:
        refused = await page(server, "/console/events", **{"Sec-Fetch-Site": site})
        linked = await page(server, "/", **{"Sec-Fetch-Site": site})
    assert (refused.status, linked.status) == (403, 200)


@pytest.mark.parametrize("path", ["/", "/console/events"])
async def test_it_is_only_read(path: str) -> None:
    async with running_server(Jobs()) as server:
        answer = await asyncio.to_thread(ask, server.server.http_port, "POST", path, b"")
    assert answer.status == 405


async def test_it_can_be_turned_off() -> None:
    async with running_server(Jobs(), settings={"console": False}) as server:
        await server.create("job")
        assert [(await page(server, path)).status for path in ("/", "/console/events")] == [404, 404]
        assert (await page(server, "/metrics")).status == 200


async def test_it_is_compressed_for_those_who_accept_that() -> None:
    async with running_server(Jobs()) as server:
        answer = await page(server, **{"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.body) < 20_000


# Events


async def test_events_bring_all_parts_and_then_what_has_changed() -> None:
    async with running_server(Jobs("etl")) as server:
        with stream(server.server) as events:
            assert events.response.getheader("content-type") == "text/event-stream; charset=utf-8"
            name, first = await events.next()
            assert name == "parts"
            assert set(first["parts"]) == {"status", "attention", "overview", "connectors", "plugins", "calls"}
            await server.create("etl")
            assert "OK" in await events.part("calls", "create")


async def test_events_follow_the_filter_of_their_page() -> None:
    async with running_server(Jobs("etl"), Jobs("ml")) as server:
        with stream(server.server, "/console/events?q=ml") as events:
            await events.next()
            for task_type in ("etl", "ml"):
                await server.create(task_type)
            html = await events.part("calls", "ml")
    assert "etl" not in html


async def test_only_so_many_pages_are_kept_up_to_date_and_one_that_goes_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(console, "MAX_STREAMS", 2)
    async with running_server(Jobs()) as server:
        first, second = Stream(server.server.http_port), Stream(server.server.http_port)
        for one in (first, second):
            await one.next()
        refused = await page(server, "/console/events")
        assert (refused.status, refused.headers["retry-after"]) == (503, "10")
        assert (await page(server)).status == 200
        first.close()

        def is_served() -> bool:
            again = Stream(server.server.http_port)
            again.close()
            return again.status == 200

        await eventually(is_served)
        second.close()


async def test_a_host_that_stops_says_that_it_drains_and_then_ends_the_events() -> None:
    gate = Gate()

    def create() -> JobMeta:
        gate.block()
        return JobMeta("1")

    async with running_server(Jobs(create=create), settings={"grace": PATIENCE}) as server:
        creating = asyncio.create_task(server.create("job"))
        await gate.reached()
        with stream(server.server) as events:
            await events.next()
            stopping = asyncio.create_task(server.server.stop())
            await events.part("status", "Draining")
            gate.open()
            await creating
            while (await events.next())[0] != "end":
                pass
            with pytest.raises(EOFError):
                await events.next()
            await stopping


def test_an_open_page_does_not_keep_a_host_from_ending() -> None:
    with host_process() as host:
        port = int(host.metrics_url.rsplit(":", 1)[1].split("/")[0])
        events = Stream(port)
        reader = threading.Thread(target=events.response.read)
        reader.start()
        assert host.stop() == 0
        reader.join(PATIENCE)
        assert not reader.is_alive()
        events.close()
    assert "graceful shutdown" not in host.output
    assert f"The console is at http://127.0.0.1:{port}/ (--no-console turns it off)." in host.output


async def test_a_console_that_breaks_down_is_in_the_log_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Observer, "look", fail)
    async with running_server(Jobs()) as server:
        assert (await page(server, "/healthz")).status == 200
        await eventually(lambda: "console stopped updating" in caplog.text)


# What it costs


def test_what_draws_it_is_imported_when_somebody_looks(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, sys\n"
        "from urllib.request import urlopen\n"
        "from connector_core.testing import running_server\n"
        "async def main():\n"
        "    async with running_server() as server:\n"
        "        url = f'http://127.0.0.1:{server.server.http_port}'\n"
        "        await asyncio.to_thread(urlopen, url + '/healthz')\n"
        "        print('jinja2' in sys.modules)\n"
        "        await asyncio.to_thread(urlopen, url)\n"
        "        print('jinja2' in sys.modules)\n"
        "asyncio.run(main())\n"
    )
    assert try_to_run(sys.executable, program, cwd=tmp_path).stdout.split() == ["False", "True"]


def test_the_page_is_small() -> None:
    assert sum(len((HERE / name).read_bytes()) for name in ("console.css", "console.js")) < 32_000
