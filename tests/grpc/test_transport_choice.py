"""Which server `transport` gives: on gRPC's core where the installed grpcio has what that takes, else `grpc.aio`'s."""

import asyncio
import logging
import sys
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc

import connector_core.transport
from connector_core.errors import SettingsError
from connector_core.testing import running_server
from connector_core.transport import open_server
from connector_core.transport.aio import AioServer
from connector_core.transport.core_server import CoreServer
from tests.fakes import Jobs
from tests.support.bytes_server import ARITIES, serving
from tests.support.transports import serve_through

_MODULES = ("calls", "completions", "core_server", "held_statuses", "methods", "probe", "receiving", "sending")


@pytest.fixture
def no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grpcio whose core has lost something, seen by modules that are imported anew."""
    for name in _MODULES:
        monkeypatch.delitem(sys.modules, f"connector_core.transport.{name}", raising=False)
        monkeypatch.delattr(connector_core.transport, name, raising=False)
    monkeypatch.delattr(cygrpc, "CompletionQueue")


@pytest.fixture
def newer_grpcio(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grpcio that is newer than any that was tried."""
    monkeypatch.setattr("connector_core.transport._NEWEST_TRIED", (1, 0))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_installed_grpcio_is_one_that_was_tried() -> None:
    newest = connector_core.transport._NEWEST_TRIED
    installed = tuple(int(part) for part in grpc.__version__.split(".")[:2])  # type: ignore[attr-defined]
    assert installed <= newest, f"run .ci/long with grpcio {installed}; then that is what _NEWEST_TRIED says"


async def test_auto_and_core_are_on_core_where_it_is_known(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(await open_server("auto"), CoreServer)
    assert isinstance(await open_server("core"), CoreServer)
    assert warnings(caplog) == []


async def test_aio_is_what_grpc_brings(no_core: None, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(await open_server("aio"), AioServer)
    assert warnings(caplog) == []


async def test_core_without_what_it_takes_is_an_error_that_says_what_is_missing(no_core: None) -> None:
    with pytest.raises(SettingsError, match=r"transport is core: not available with grpcio \d.*CompletionQueue"):
        await open_server("core")


async def test_auto_without_what_core_takes_warns_and_serves(no_core: None, caplog: pytest.LogCaptureFixture) -> None:
    async with serving("auto", **ARITIES) as server:
        assert isinstance(server.server, AioServer)
        assert await server.one("Echo", b"x") == b"x"
    (warning,) = warnings(caplog)
    assert "CompletionQueue" in warning
    assert "grpc.aio" in warning


async def test_a_newer_grpcio_is_tried_and_taken(newer_grpcio: None, caplog: pytest.LogCaptureFixture) -> None:
    async with serving("auto", **ARITIES) as server:
        assert isinstance(server.server, CoreServer)
        assert await server.one("Echo", b"x") == b"x"
    assert isinstance(await open_server("core"), CoreServer)
    assert warnings(caplog) == []


async def test_a_newer_grpcio_is_tried_past_any_proxy(newer_grpcio: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert isinstance(await open_server("core"), CoreServer)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("does nothing", "a call to it is not answered"),
        ("raises", "RuntimeError: it has changed"),
        ("answers otherwise", "calls to it are answered"),
    ],
)
async def test_a_newer_grpcio_that_works_otherwise_is_not_taken(
    newer_grpcio: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str, complaint: str
) -> None:
    from connector_core.transport import probe

    unanswered: list[Any] = []

    def raises(*_: Any) -> None:
        raise RuntimeError("it has changed")

    if broken == "does nothing":
        monkeypatch.setattr(probe, "_PATIENCE", 0.2)
        monkeypatch.setattr(CoreServer, "_arrived", lambda _self, event: unanswered.append(event))
    elif broken == "raises":
        monkeypatch.setattr(CoreServer, "add_insecure_port", raises)
    else:
        monkeypatch.setattr(probe, "_one", other)
    async with asyncio.timeout(20):
        with pytest.raises(SettingsError, match=complaint):
            await open_server("core")
        assert isinstance(await open_server("auto"), AioServer)
    (warning,) = warnings(caplog)
    assert complaint in warning


async def other(_request: bytes, _context: Any) -> bytes:
    return b"other"


KINDS = [("core", CoreServer), ("aio", AioServer)]


@pytest.mark.parametrize(("choice", "kind"), KINDS)
async def test_a_run_of_the_tests_chooses_for_hosts_that_do_not(
    choice: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_through(choice, monkeypatch)
    async with running_server(Jobs()) as host:
        assert isinstance(host.server._grpc, kind)
    async with running_server(Jobs(), settings={"transport": "core"}) as host:
        assert isinstance(host.server._grpc, CoreServer)


@pytest.mark.parametrize(("choice", "kind"), KINDS)
async def test_the_setting_chooses(choice: str, kind: type) -> None:
    async with running_server(Jobs(), settings={"transport": choice}) as host:
        assert isinstance(host.server._grpc, kind)
        assert await host.health() == "SERVING"
