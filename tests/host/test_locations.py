"""Locations: what plugin code does to its process there costs the calls of its own plugins, and nobody else anything."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from flyteidl.core.execution_pb2 import TaskExecution

from connector_core.errors import SettingsError
from connector_core.literals import to_python_map
from connector_core.protocol.client import WITHOUT_LIMIT
from connector_core.testing import RunningServer, running_server
from tests.fakes import eventually
from tests.support.environments import ROOT
from tests.support.hosts import HostProcess, host_process
from tests.support.rpc import collected, details_of, refusal

SUCCEEDED, FAILED = TaskExecution.SUCCEEDED, TaskExecution.FAILED
AWAY = "tests.support.located_plugin"
SLEEP = "sleep"
BASE = f"""
modules = ["{AWAY}"]
allow_plugin = ["{AWAY}", "{SLEEP}"]
max_answer_bytes = 67108864
grace = 5
"""
LOCATED = f"""
[locations.away]
plugins = ["{AWAY}"]
env = {{ OF_THE_LOCATION = "yes" }}
"""
DEATHS = {
    "exit": r"exit code 7",
    "segfault": r"signal SIGSEGV",
    "kill": r"signal SIGKILL",
}
BROKEN = "location 'away' has broken the wire: a frame of kind 255, which is not one that may be sent here"


def write(folder: Path, text: str) -> None:
    (folder / "connector-host.toml").write_text(BASE + text)


def environment(**more: str) -> dict[str, Any]:
    return {"PYTHONPATH": str(ROOT), **more}


class Host(RunningServer):
    """A host in a process of its own, with its client."""

    process: HostProcess

    async def located(
        self, how: str = "", task_type: str = "located", timeout: float = 30, **inputs: Any
    ) -> dict[str, Any]:
        answer = await self.execute(task_type, {"how": how, **inputs}, timeout=timeout)
        return to_python_map(answer.outputs)

    async def back(self) -> dict[str, Any]:
        """Wait until the located plugin answers again."""
        return await self.located(timeout=60)

    async def assert_answers_at_once(self) -> None:
        """Whatever the located plugin does: the list is whole, health is good, and another plugin answers."""
        async with asyncio.timeout(5):
            names = {agent.name for agent in await self.list_connectors()}
            assert {"located", "located_blocking", "located_job", "Sleep"} <= names
            assert await self.health() == "SERVING"
            job = await self.create("sleep", {"seconds": 0})
            assert (await self.get("sleep", job)).phase == SUCCEEDED


@asynccontextmanager
async def serving(folder: Path, text: str = LOCATED, **variables: str) -> AsyncIterator[Host]:
    write(folder, text)
    with host_process(cwd=folder, **environment(**variables)) as process:
        async with grpc.aio.insecure_channel(process.address, options=[WITHOUT_LIMIT]) as channel:
            host = Host(cast("Any", None), channel)
            object.__setattr__(host, "process", process)
            yield host


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("task_type", ["located", "located_blocking"])
@pytest.mark.parametrize("how", list(DEATHS))
async def test_a_death_costs_the_call_in_flight_and_the_plugin_comes_back(
    tmp_path: Path, how: str, task_type: str
) -> None:
    async with serving(tmp_path) as host:
        before = (await host.located())["pid"]
        error = await refusal(host.located(how, task_type))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert re.search(rf"location 'away' ended \({DEATHS[how]}\)", details_of(error))
        await host.assert_answers_at_once()
        assert not is_alive(before)
        assert (await host.back())["pid"] not in {before, host.process.process.pid}
        await host.assert_answers_at_once()
        assert host.process.process.poll() is None
        assert await asyncio.to_thread(host.process.stop) == 0


async def test_a_process_that_leaves_a_child_with_its_descriptors_has_died_all_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path) as host:
        group = (await host.located())["pid"]
        error = await refusal(host.located("leave a child", timeout=20))
        try:
            assert "location 'away' ended (exit code 7)" in details_of(error)
            assert (await host.back())["pid"] != group
        finally:
            for pid in left_behind(host.process.process.pid, group):
                os.kill(pid, signal.SIGKILL)


def left_behind(host: int, location: int) -> list[int]:
    """Return the processes that run a location's program and are neither the host's children nor the location."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) not in {location, *children_of(host)}:
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes().split(b"\0")
                status = (folder / "status").read_text()
                is_orphan = f"NSsid:\t{folder.name}" in status and "State:\tS" in status
                if b"connector_core.locations" in command and is_orphan:
                    found.append(int(folder.name))
    return found


@pytest.mark.parametrize("how", ["become another program", "close descriptors"])
async def test_a_process_that_lives_on_without_the_wire_is_ended_and_started_again(tmp_path: Path, how: str) -> None:
    async with serving(tmp_path) as host:
        before = (await host.located())["pid"]
        error = await refusal(host.located(how, "located_blocking", timeout=20))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        await host.assert_answers_at_once()
        assert (await host.back())["pid"] != before
        assert not is_alive(before)


async def test_a_process_that_breaks_the_wire_is_ended_and_started_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as host:
        before = (await host.located())["pid"]
        error = await refusal(host.located("write garbage", timeout=20))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert BROKEN in details_of(error)
        await host.assert_answers_at_once()
        assert (await host.back())["pid"] != before


async def test_a_process_over_its_limit_of_memory_is_ended_and_started_again(tmp_path: Path) -> None:
    async with serving(tmp_path, LOCATED + 'memory_limit = "200MB"\n') as host:
        before = (await host.located())["pid"]
        error = await refusal(host.located("take memory", "located_blocking", timeout=20))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert "bytes of memory, over its memory_limit of 200,000,000, and was ended" in details_of(error)
        await host.assert_answers_at_once()
        assert (await host.back())["pid"] != before


async def test_the_host_bounds_the_calls_that_a_location_has_in_flight(tmp_path: Path) -> None:
    limits = f'[limits."{AWAY}"]\nin_flight = 2\n'
    async with serving(tmp_path, LOCATED + limits) as host:
        waiting = [asyncio.create_task(host.located("wait")) for _ in range(2)]
        await asyncio.to_thread(host.process.wait_for, "it waits", 2)
        error = await refusal(host.located())
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "has 2 calls in flight, as many as it may (setting: in_flight)" in details_of(error)
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.to_thread(host.process.wait_for, "it was cancelled", 2)
        await host.back()


async def test_a_create_whose_location_dies_is_unavailable_and_its_retry_starts_the_job(tmp_path: Path) -> None:
    async with serving(tmp_path) as host:
        prefix = "test://task/0"
        error = await refusal(host.create("located_job", {"how": "exit"}, output_prefix=prefix))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert "about to leave" in details_of(error)
        job = await host.create("located_job", {"name": "x"}, output_prefix=prefix, timeout=60)
        # `start()` has run once in the process that came back, before its first call.
        assert json.loads(job)["job"] == f"{prefix}|x|1"


async def test_a_held_gil_stops_the_location_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as host:
        held = asyncio.create_task(host.located("hold the GIL", seconds=8))
        await eventually_in_flight(host)
        await host.assert_answers_at_once()
        error = await refusal(host.located(timeout=1))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert not held.done()
        assert "pid" in await held


async def eventually_in_flight(host: Host) -> None:
    """Wait until the located plugin no longer answers: it holds its process."""
    for _ in range(50):
        try:
            await host.located(timeout=0.3)
        except grpc.aio.AioRpcError:
            return
    raise AssertionError("the plugin goes on answering")


async def test_errors_keep_class_message_code_and_culprit(tmp_path: Path) -> None:
    async with serving(tmp_path, _FSEC_PASSWORD="hunter2-hunter2") as host:
        quota = await host.execute("located", {"how": "permanent"})
        assert (quota.phase, quota.agent_error.code) == (FAILED, "QUOTA")
        assert "no quota is left" in quota.message
        limited = await refusal(host.located("limited", "located_blocking"))
        assert limited.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        broken = await refusal(host.located("broken"))
        assert AWAY in details_of(broken)
        assert "ValueError: it broke" in details_of(broken)
        secret = await refusal(host.located("secret"))
        assert "cannot log in with [hidden]" in details_of(secret)
        await asyncio.to_thread(host.process.wait_for, "ValueError: it broke")
        assert "hunter2" not in host.process.output
        failed = await host.create("located_job", {"how": "permanent"})
        answer = await host.get("located_job", failed)
        assert answer.phase == FAILED
        assert answer.agent_error.code == "QUOTA"
        assert "no quota is left" in answer.message


async def test_every_operation_crosses(tmp_path: Path) -> None:
    async with serving(tmp_path) as host:
        job = await host.create("located_job", {"name": "x"}, output_prefix="test://p/0")
        answers = await asyncio.gather(*(host.get("located_job", job) for _ in range(5)))
        assert {to_python_map(answer.outputs)["job"] for answer in answers} == {"test://p/0|x|1"}
        metrics = await host.get_metrics("located_job", job, ["cpu", "memory"])
        assert [result.metric for result in metrics.results] == ["cpu of test://p/0|x|1", "memory of test://p/0|x|1"]
        assert await log_of(host, job) == (["first of test://p/0|x|1", "second"], ["structured"], ["more"])
        await host.delete("located_job", job)
        assert len((await host.located("key"))["key"]) == 32
        assert (await host.back())["pid"] != host.process.process.pid
    await_closed(host)


def await_closed(host: Host) -> None:
    assert not is_alive(host.process.process.pid)


async def log_of(host: Host, job: bytes, token: str = "") -> tuple[list[str], list[str], list[str]]:
    lines: list[str] = []
    structured: list[str] = []
    tokens: list[str] = []
    for message in await collected(host.get_logs("located_job", job, token=token)):
        lines += message.body.results
        structured += [line.message for line in message.body.structured_lines]
        if message.header.token:
            tokens.append(message.header.token)
    return lines, structured, tokens


async def test_a_log_goes_on_as_it_is_read_and_ends_with_its_location(tmp_path: Path) -> None:
    async with serving(tmp_path) as host:
        job = await host.create("located_job")
        endless = host.get_logs("located_job", job, token="endless")
        for _ in range(200):
            await anext(endless)
        await endless.aclose()  # type: ignore[attr-defined]
        await host.back()  # the location still answers: the reader who left stopped the stream
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await log_of(host, job, "die")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "exit code 9" in details_of(caught.value)


async def test_deadlines_and_callers_that_leave_cancel_the_code(tmp_path: Path) -> None:
    async with serving(tmp_path) as host:
        error = await refusal(host.located("wait", timeout=1))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.to_thread(host.process.wait_for, "it was cancelled", 1)
        call = asyncio.create_task(host.located("wait"))
        await asyncio.to_thread(host.process.wait_for, "it waits", 2)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await asyncio.to_thread(host.process.wait_for, "it was cancelled", 2)


@pytest.mark.parametrize("task_type", ["located", "located_blocking"])
async def test_large_inputs_and_outputs_cross(tmp_path: Path, task_type: str) -> None:
    text = "x" * (16 * 1024 * 1024)
    async with serving(tmp_path) as host:
        assert (await host.located("echo", task_type, text=text))["text"] == text


async def test_a_location_imports_nothing_of_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path) as host:
        modules = set((await host.located("modules"))["modules"])
    assert not modules & {"grpc", "starlette", "uvicorn", "typer", "prometheus_client"}


def test_a_host_without_locations_imports_nothing_of_them(tmp_path: Path) -> None:
    write(tmp_path, "")
    code = (
        "import sys, connector_core.server; from connector_core.cli import serve; "
        "sys.exit('connector_core.locations' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_location_has_the_hosts_variables_but_its_settings_and_its_own_on_top(tmp_path: Path) -> None:
    names = ["OF_THE_HOST", "OF_THE_LOCATION", "CONNECTOR_HOST__GRACE"]
    async with serving(tmp_path, OF_THE_HOST="yes", CONNECTOR_HOST__GRACE="4") as host:
        found = await host.located("environment", names=names)
    assert found == {"OF_THE_HOST": "yes", "OF_THE_LOCATION": "yes", "CONNECTOR_HOST__GRACE": ""}


@pytest.mark.parametrize("how", ["", "hold the GIL"])
async def test_a_host_that_is_killed_leaves_no_process_behind(tmp_path: Path, how: str) -> None:
    async with serving(tmp_path) as host:
        pid = (await host.located())["pid"]
        assert pid in children_of(host.process.process.pid)
        holding = asyncio.create_task(host.located(how, seconds=60))
        if how:
            await eventually_in_flight(host)
        assert await asyncio.to_thread(host.process.stop, signal.SIGKILL) == -signal.SIGKILL
        await eventually(lambda: not is_alive(pid))
        await asyncio.gather(holding, return_exceptions=True)


async def test_a_stop_closes_connectors_and_ends_the_process_in_good_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as host:
        pid = (await host.located())["pid"]
        assert await asyncio.to_thread(host.process.stop) == 0
        assert not is_alive(pid)
        assert "closed after 1 start" in host.process.output
        assert "location died" not in host.process.output


async def test_a_plugin_that_fails_to_load_in_a_location_costs_itself_alone(tmp_path: Path) -> None:
    section = f'[plugins."{AWAY}"]\nfails = true\n'
    both = LOCATED.replace(f'["{AWAY}"]', f'["{AWAY}", "{SLEEP}"]') + section
    async with serving(tmp_path, both) as host:
        assert f"plugin {AWAY} FAILED to load: RuntimeError: it cannot be loaded" in host.process.output
        job = await host.create("sleep", {"seconds": 0})
        assert (await host.get("sleep", job)).phase == SUCCEEDED


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("dies", r"location 'away' ended \(exit code 3\)"), ("hangs", r"location 'away' was not ready within 2 s")],
)
async def test_a_location_that_never_gets_ready_is_given_up(tmp_path: Path, fault: str, reason: str) -> None:
    section = f'ready_timeout = 2\n[plugins."{AWAY}"]\n{fault} = true\n'
    async with serving(tmp_path, LOCATED + section) as host:
        assert re.search(rf"plugin {AWAY} FAILED to load: its location is given up: {reason}", host.process.output)
        job = await host.create("sleep", {"seconds": 0})
        assert (await host.get("sleep", job)).phase == SUCCEEDED
        assert not children_of(host.process.process.pid)


def connector_host(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("connector-host")
    variables = {**os.environ, **environment()}
    return subprocess.run(
        [str(program), *arguments], cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=60
    )


SETTINGS = {
    "two places": (
        f'{LOCATED}[locations.other]\nplugins = ["{AWAY}"]\n',
        f"plugin '{AWAY}' is in the locations 'away' and 'other'",
    ),
    "in place": (
        f'in_place = ["{AWAY}"]\n{LOCATED}',
        f"plugin '{AWAY}' is in the setting in_place and in location 'away'",
    ),
    "unknown": ('[locations.away]\nplugins = ["slep"]\n', "unknown plugin 'slep': did you mean 'sleep'?"),
    "none": ("[locations.away]\n", "location 'away' has no plugins"),
}


@pytest.mark.parametrize("command", ["serve", "list", "doctor"])
@pytest.mark.parametrize(("text", "problem"), SETTINGS.values(), ids=list(SETTINGS))
def test_locations_that_cannot_be_are_refused(tmp_path: Path, command: str, text: str, problem: str) -> None:
    write(tmp_path, text)
    ended = connector_host(tmp_path, command)
    assert ended.returncode == 2
    assert problem in ended.stderr


def test_list_and_doctor_load_locations_and_name_them(tmp_path: Path) -> None:
    write(tmp_path, LOCATED)
    listed = json.loads(connector_host(tmp_path, "list", "--json").stdout)["plugins"]
    (away,) = (plugin for plugin in listed if plugin["name"] == AWAY)
    assert (away["state"], away["location"]) == ("loaded", "away")
    assert [connector["name"] for connector in away["connectors"]] == ["located", "located_blocking", "located_job"]
    assert f"location away (a process of its own): {AWAY}" in connector_host(tmp_path, "list").stdout
    assert f"location away (a process of its own): {AWAY}" in connector_host(tmp_path, "doctor", AWAY).stdout


def test_run_uses_the_location(tmp_path: Path) -> None:
    write(tmp_path, LOCATED)
    ended = connector_host(
        tmp_path, "run", "located", "--input", "how=environment", "--input", 'names=["OF_THE_LOCATION"]'
    )
    assert ended.returncode == 0, ended.stderr
    assert "yes" in ended.stdout


async def test_a_stop_ends_a_process_that_takes_no_signal(tmp_path: Path) -> None:
    async with serving(tmp_path, CONNECTOR_HOST__GRACE="0") as host:
        pid = (await host.located())["pid"]
        holding = asyncio.create_task(host.located("hold the GIL", seconds=60))
        await eventually_in_flight(host)
        assert await asyncio.to_thread(host.process.stop) == 0
        assert not is_alive(pid)
        assert re.search(
            r"location 'away' did not end within [0-5]\.\d s of SIGTERM, and was killed", host.process.output
        )
        await asyncio.gather(holding, return_exceptions=True)


def test_a_required_plugin_whose_location_is_given_up_keeps_the_host_from_starting(tmp_path: Path) -> None:
    write(tmp_path, f'require = ["{AWAY}"]\n{LOCATED}[plugins."{AWAY}"]\ndies = true\n')
    ended = connector_host(tmp_path, "serve", "--port", "0", "--http-port", "0")
    assert ended.returncode == 3
    assert "its location is given up: location 'away' ended (exit code 3)" in ended.stderr


async def test_a_server_that_is_not_given_its_locations_is_refused() -> None:
    with pytest.raises(SettingsError, match="nothing has started them"):
        async with running_server(settings={"locations": {"away": {"plugins": [AWAY]}}}):
            pass
