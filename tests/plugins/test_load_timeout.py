"""Plugins that hang while they are loaded: each costs itself its own time, and nobody else anything."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import grpc
import pytest
from flyteidl.admin.agent_pb2 import ListAgentsRequest
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub

from connector_core.plugins import PluginLoadResult, PluginSelection, load_plugins, module_plugin
from connector_core.plugins.timed import LoadTimeoutError, within
from tests.support.distributions import GOOD, SitePackages
from tests.support.environments import try_to_run
from tests.support.hosts import host_process

HANG = "import threading\nNEVER = threading.Event()\nNEVER.wait()\n"
HOST = Path(sys.executable).with_name("connector-host")


@pytest.fixture(autouse=True)
def released(site: SitePackages) -> Iterator[None]:
    """Let imports that hang come to their end after the test: each holds the lock of its module."""
    yield
    release()


def release() -> None:
    for module in list(sys.modules.values()):
        if isinstance(never := vars(module).get("NEVER"), threading.Event):
            never.set()
    for thread in threading.enumerate():
        if thread.name.startswith("load "):
            thread.join(10)
            assert not thread.is_alive()


def load(site: SitePackages, *modules: str, seconds: float = 0.5) -> PluginLoadResult:
    return load_plugins([*site.sources(), *map(module_plugin, modules)], PluginSelection(load_timeout=seconds))


def names(result: PluginLoadResult) -> dict[str, list[str]]:
    return {state: [plugin.identity.name for plugin in plugins] for state, plugins in result.by_state.items()}


def test_an_import_that_hangs_costs_its_plugin_alone(site: SitePackages) -> None:
    site.good("aaa")
    module = site.add("bad", HANG)
    site.good("zzz")
    result = load(site)
    assert names(result) == {"loaded": ["aaa", "zzz"], "failed": ["bad"], "skipped": []}
    (failed,) = result.failed
    assert failed.hangs
    assert failed.seconds >= 0.5
    where = site.folder / f"{module}.py"
    assert (
        f"loading did not finish within 0.5 s (setting load_timeout); it is at {where}:3, in <module>: NEVER.wait()"
        in (failed.reason)
    )
    assert f'File "{where}", line 3' in failed.traceback
    assert "frozen importlib" not in failed.traceback


def test_a_hook_that_hangs_costs_its_plugin_alone(site: SitePackages) -> None:
    hook = "import threading\nNEVER = threading.Event()\n@hookimpl\ndef register_connectors(): NEVER.wait()\n"
    site.add("bad", dedent(GOOD) + hook)
    site.good("zzz")
    assert names(load(site)) == {"loaded": ["zzz"], "failed": ["bad"], "skipped": []}


def test_plugins_that_import_a_library_that_hangs_fail_each_in_its_own_time(site: SitePackages) -> None:
    (site.folder / "fake_library_that_hangs.py").write_text(HANG)
    for name in ("one", "two"):
        site.add(name, f"import fake_library_that_hangs\n{dedent(GOOD)}")
    site.good("zzz")
    result = load(site)
    assert names(result) == {"loaded": ["zzz"], "failed": ["one", "two"], "skipped": []}
    first, second = result.failed
    assert "fake_library_that_hangs.py:3" in first.reason
    assert "import fake_library_that_hangs" in second.reason
    assert second.seconds >= 0.5


def test_one_that_comes_on_after_its_time_changes_nothing(site: SitePackages) -> None:
    site.add("late", HANG + dedent(GOOD))
    result = load(site)
    release()
    assert names(result)["failed"] == ["late"]


def test_what_a_bridge_does_around_an_import_is_undone_for_one_that_hangs(site: SitePackages) -> None:
    bridge = f"""
    {GOOD}
    from contextlib import contextmanager
    from connector_core.hookspecs import Adopted, BridgedPlugin
    import threading, sys

    NEVER = threading.Event()

    @contextmanager
    def mark(name):
        sys.path.append(name)
        try:
            yield Adopted()
        finally:
            sys.path.remove(name)

    @hookimpl
    def find_bridged_plugins():
        return [
            BridgedPlugin("hangs", NEVER.wait, within=lambda: mark("around-a-plugin")),
            BridgedPlugin("well", lambda: [Job(*[one for one in sys.path if one == "around-well"])],
                within=lambda: mark("around-well")),
        ]

    @hookimpl
    def adopt_module(module): return mark("around-a-module")
    """
    site.add("bridge", bridge)
    (site.folder / "fake_module_that_hangs.py").write_text(HANG)
    result = load(site, "fake_module_that_hangs")
    assert names(result) == {
        "loaded": ["bridge", "bridge/well"],
        "failed": ["bridge/hangs", "fake_module_that_hangs"],
        "skipped": [],
    }
    assert [str(one) for one in result.loaded[1].descriptions[0].categories] == ["around-well"]
    assert [entry for entry in sys.path if entry.startswith("around-")] == []


def test_progress_is_said_while_loading_takes_long(caplog: pytest.LogCaptureFixture) -> None:
    said = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.set()

    logger, listener = logging.getLogger("connector_core.plugins.timed"), Listener()
    logger.addHandler(listener)
    try:
        assert within(60, "slow", lambda _stack: said.wait(), first_word=0.01)
    finally:
        logger.removeHandler(listener)
    message = caplog.messages[0]
    assert message.startswith("plugin is still loading: slow, for 0 s of 60 s (setting load_timeout), at ")
    assert "said.wait()" in message


def test_without_a_limit_the_callers_thread_does_the_work(site: SitePackages) -> None:
    assert within(0, "mine", lambda _stack: threading.current_thread()) is threading.current_thread()
    assert within(60, "mine", lambda _stack: threading.current_thread()) is not threading.current_thread()


def test_what_cannot_be_left_is_logged_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    never, entered = threading.Event(), threading.Event()

    @contextmanager
    def stubborn() -> Iterator[None]:
        try:
            yield
        finally:
            raise OSError("a disk that is full")

    def hang(stack: ExitStack) -> None:
        stack.enter_context(stubborn())
        entered.set()
        never.wait()

    with pytest.raises(LoadTimeoutError, match=r"never\.wait\(\)"):
        within(0.3, "hangs", hang)
    assert entered.is_set()
    never.set()
    assert "cleanup after the import of a plugin failed" in caplog.messages


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)",
            "ValueError: signal only works in main thread of the main interpreter; signal handlers are the host's",
        ),
        (
            "import asyncio\nasyncio.get_event_loop()",
            "this thread has no event loop: take one in an `async def`, such as start(), or set load_timeout = 0",
        ),
    ],
)
def test_what_only_the_main_thread_can_do_says_why(site: SitePackages, code: str, reason: str) -> None:
    site.add("bad", code)
    (failed,) = load(site).failed
    assert reason in failed.reason


def test_without_a_limit_plugins_may_do_what_only_the_main_thread_can(site: SitePackages) -> None:
    code = "import signal\nsignal.signal(signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))\n"
    site.add("main", code + "from connector_core import hookimpl\n@hookimpl\ndef register_connectors(): return []\n")
    assert names(load(site, seconds=0))["loaded"] == ["main"]


def test_a_host_serves_the_others_and_ends_as_ever(site: SitePackages) -> None:
    site.good("good")
    site.add("bad", HANG)
    more: dict[str, Any] = {
        "PYTHONPATH": str(site.folder),
        "CONNECTOR_HOST__ALLOW_PLUGIN": "good,bad",
        "CONNECTOR_HOST__LOAD_TIMEOUT": "1",
    }
    with host_process(**more) as host:
        with grpc.insecure_channel(host.address) as channel:
            listed = AgentMetadataServiceStub(channel).ListAgents(ListAgentsRequest(), timeout=10)
        assert [list(agent.supported_task_types) for agent in listed.agents] == [["good"]]
        assert "plugin bad (connector-plugin-bad 1.0) FAILED to load: loading did not finish within 1 s" in host.output
        assert host.stop() == 0
    described = json.loads(try_to_run(HOST, "list", "--json", cwd=site.folder, **more).stdout)
    assert {one["name"]: one["state"] for one in described["plugins"] if one["name"] in {"good", "bad"}} == {
        "good": "loaded",
        "bad": "failed",
    }
