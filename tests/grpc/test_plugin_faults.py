"""A plugin's fault costs the call that it happens in, and nothing else: not the host, not another plugin, no count."""

import asyncio
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2

from connector_core import Phase
from connector_core.connector import ConnectorBase
from connector_core.testing import RunningServer, running_server
from tests.fakes import Answers, JobMeta, Jobs
from tests.support.distributions import GOOD
from tests.support.faults import (
    INVALID,
    RAISED,
    SECRET,
    Fault,
    as_method,
    failure,
    failures,
    host_of,
    read_logs,
)
from tests.support.rpc import details_of

JOB = JobMeta("1").encode()
HOOK = "\n    @hookimpl\n    def register_connectors(): return [Job('{task_type}')]\n"
OPERATIONS = ("create", "delete", "get_metrics", "get_logs", "do")
KINDS = {"on_loop": True, "in_place": True, "in_thread": False}
"""Where plugin code runs, and whether it is async there."""

IN_PLACE: dict[str, Any] = {"in_place": ["test-in_place connector", "test-in_place_do connector"]}

each_fault = pytest.mark.parametrize(("fault", "says"), RAISED.values(), ids=list(RAISED))
each_invalid_error = pytest.mark.parametrize(("fault", "code", "says"), INVALID.values(), ids=list(INVALID))


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FSEC_PASSWORD", SECRET)


def bad(fault: Fault) -> list[ConnectorBase]:
    """Return an async and a sync connector of each kind, all of whose operations end in `fault`."""
    connectors: list[ConnectorBase] = []
    for kind, is_async in KINDS.items():
        method = as_method(fault, is_async=is_async)
        connectors.append(Jobs(kind, **dict.fromkeys(("create", "delete", "get_metrics", "get_logs"), method)))
        connectors.append(Answers(f"{kind}_do", do=method))
    return connectors


def calls_of(host: RunningServer, kind: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return a call of each of these operations, by its name."""
    return {
        "create": lambda: host.create(kind),
        "delete": lambda: host.delete(kind, JOB),
        "get_metrics": lambda: host.get_metrics(kind, JOB),
        "get_logs": lambda: read_logs(host, kind, JOB),
        "do": lambda: host.execute(f"{kind}_do"),
    }


async def gets(*methods: Callable[..., Any], **settings: Any) -> list[agent_pb2.Resource]:
    """Return what GetTask answers for connectors with these methods."""
    connectors = [Jobs(f"bad_{number}", get=get) for number, get in enumerate(methods)]
    in_place = [f"test-{one.name}" for one in connectors] if settings.pop("in_place", False) else []
    async with host_of(*connectors, deadlines={"get": 2}, in_place=in_place, **settings) as host:
        return await asyncio.gather(*(host.get(one.task_type_name, JOB) for one in connectors))


# At import


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, for plugins that are modules."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no license')", "RuntimeError: no license"),
        ("import sys; sys.exit(7)", "it calls sys.exit(7)"),
        ("import a_library_that_is_not_here", "No module named 'a_library_that_is_not_here'"),
        ("def broken(:", "SyntaxError: "),
        ("def recurse(): recurse()\nrecurse()", "RecursionError: "),
    ],
    ids=["raises", "exits", "lacks a library", "is no Python", "recurses"],
)
async def test_a_module_that_fails_at_import_leaves_the_others_served(modules: Path, code: str, reason: str) -> None:
    (modules / "bad_plugin.py").write_text(code)
    for name in ("before", "after"):
        (modules / f"{name}_plugin.py").write_text(textwrap.dedent(GOOD + HOOK.format(task_type=name)))
    async with running_server(plugins=["before_plugin", "bad_plugin", "after_plugin"]) as host:
        assert len(await host.list_connectors()) == 2
        assert await host.health() == "SERVING"
        for name in ("before", "after"):
            assert Phase((await host.get(name, await host.create(name))).phase) is Phase.SUCCEEDED
        (failed,) = host.server.plugins.failed
        assert failed.identity.name == "bad_plugin"
        assert failed.reason.startswith(reason)
        assert host.metric("flyte_connector_plugin_state", plugin="bad_plugin", distribution="", state="failed") == 1


# What a call raises


@each_fault
async def test_what_a_method_raises_fails_that_call_alone(fault: Fault, says: str) -> None:
    async with host_of(*bad(fault), **IN_PLACE) as host:
        for kind in KINDS:
            for operation, call in calls_of(host, kind).items():
                error = await failure(call())
                assert details_of(error).startswith(f"plugin 'test-{kind}")
                assert f"{operation}(): " in details_of(error)
                assert says in details_of(error)
            counted = {**failures(host, kind), **failures(host, f"{kind}_do")}
            assert {name.split()[0]: number for name, number in counted.items()} == dict.fromkeys(OPERATIONS, 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_get_raises_is_ridden_out(kind: str) -> None:
    methods = [as_method(fault, is_async=KINDS[kind]) for fault, _says in RAISED.values()]
    answers = await gets(*methods, in_place=kind == "in_place")
    for answer, (_fault, says) in zip(answers, RAISED.values(), strict=True):
        assert Phase(answer.phase) is Phase.RUNNING
        assert says in answer.message
        assert "Traceback" not in answer.message
        assert SECRET not in answer.message
        assert answer.ByteSize() < 4096


@each_invalid_error
async def test_an_error_that_its_author_derived_or_filled_badly_still_says_what_it_is(
    fault: Fault, code: grpc.StatusCode, says: str
) -> None:
    async with host_of(*bad(fault), permanent_create_failures="status", **IN_PLACE) as host:
        for kind in KINDS:
            for operation, call in calls_of(host, kind).items():
                error = await failure(call())
                assert error.code() is code
                assert f"{operation}(): {says}" in details_of(error)


async def test_such_an_error_in_get_is_ridden_out_or_fails_the_job() -> None:
    answers = await gets(*(as_method(fault, is_async=True) for fault, _code, _says in INVALID.values()))
    for answer, (_fault, code, says) in zip(answers, INVALID.values(), strict=True):
        is_permanent = code is grpc.StatusCode.FAILED_PRECONDITION
        assert Phase(answer.phase) is (Phase.FAILED if is_permanent else Phase.RUNNING)
        assert says in answer.message


async def test_a_generator_of_log_lines_that_raises_halfway_ends_its_stream_alone() -> None:
    connectors = []
    for number, (fault, _says) in enumerate(RAISED.values()):

        async def get_logs(fault: Fault = fault) -> AsyncIterator[str]:
            yield "first"
            fault()

        def get_logs_blocking(fault: Fault = fault) -> Iterator[str]:
            yield "first"
            fault()

        connectors += [Jobs(f"bad_{number}", get_logs=get_logs), Jobs(f"blocking_{number}", get_logs=get_logs_blocking)]
    async with host_of(*connectors) as host:
        for connector in connectors:
            stream = host.get_logs(connector.task_type_name, JOB)
            assert (await anext(stream)).body.results == ["first"]
            error = await failure(anext(stream))
            assert "get_logs(): " in details_of(error)


# When it is started and closed


@pytest.mark.parametrize("kind", KINDS)
async def test_what_start_raises_keeps_that_connector_from_its_calls_alone(kind: str) -> None:
    starts = [as_method(fault, is_async=KINDS[kind]) for fault, _says in RAISED.values()]
    connectors = [Jobs(f"bad_{number}", start=start) for number, start in enumerate(starts)]
    in_place = [f"test-{one.name}" for one in connectors] if kind == "in_place" else []
    async with host_of(*connectors, in_place=in_place) as host:
        for connector, (_fault, says) in zip(connectors, RAISED.values(), strict=True):
            error = await failure(host.create(connector.task_type_name))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert f"{connector.name!r} could not be started: " in details_of(error)
            assert says in details_of(error)
            labels = {"plugin": f"test-{connector.name}", "connector": connector.name}
            assert host.metric("flyte_connector_connector_started", **labels) == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_close_raises_the_others_are_closed_and_it_is_logged(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    closes = [as_method(fault, is_async=KINDS[kind]) for fault, _says in RAISED.values()]
    connectors = [Jobs(f"bad_{number}", close=close) for number, close in enumerate(closes)]
    in_place = [f"test-{one.name}" for one in connectors] if kind == "in_place" else []
    closed = threading.Event()
    async with host_of(*connectors, Jobs("closing", close=closed.set), in_place=in_place):
        pass
    assert closed.is_set()
    for connector, (_fault, says) in zip(connectors, RAISED.values(), strict=True):
        (logged,) = [
            message
            for message in caplog.messages
            if f"failed to close: plugin test-{connector.name}, connector {connector.name}: " in message
        ]
        assert says in logged


async def test_get_many_that_raises_is_ridden_out_for_every_job_of_the_batch() -> None:
    methods = [as_method(fault, is_async=True) for fault, _says in RAISED.values()]
    connectors = [Jobs(f"bad_{number}", get_many=method) for number, method in enumerate(methods)]
    metas = [JobMeta(str(number)).encode() for number in range(3)]
    said = [says for _fault, says in RAISED.values() for _ in metas]
    async with host_of(*connectors) as host:
        calls = [host.get(one.task_type_name, meta, timeout=2) for one in connectors for meta in metas]
        answers = await asyncio.gather(*calls)
    for answer, says in zip(answers, said, strict=True):
        assert Phase(answer.phase) is Phase.RUNNING
        assert says in answer.message
