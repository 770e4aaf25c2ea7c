"""Subprocesses, forks and signals in plugin code, which runs off the main thread: what works, and why the rest cannot."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from connector_core import Phase, Resource
from connector_core.literals import to_python_map
from connector_core.testing import running_server
from tests.fakes import Answers
from tests.support.rpc import refusal

LOOPS = ["asyncio", "uvloop"]
ECHO = [sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read()); sys.exit(3)"]


async def answered(do: Any, **settings: Any) -> dict[str, Any]:
    async with running_server(Answers("answer", do=do), settings=settings) as host:
        return to_python_map((await host.execute("answer")).outputs)


async def with_asyncio() -> Resource:
    child = await asyncio.create_subprocess_exec(*ECHO, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    output, _errors = await child.communicate(b"hello")
    return Resource(Phase.SUCCEEDED, outputs={"output": output.decode(), "code": child.returncode})


async def killed() -> Resource:
    child = await asyncio.create_subprocess_exec(*ECHO, stdin=asyncio.subprocess.PIPE)
    child.kill()
    return Resource(Phase.SUCCEEDED, outputs={"code": await child.wait()})


def blocking() -> Resource:
    ended = subprocess.run(ECHO, input=b"hello", stdout=subprocess.PIPE, check=False)
    return Resource(Phase.SUCCEEDED, outputs={"output": ended.stdout.decode(), "code": ended.returncode})


def forked() -> Resource:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"hello")
        os._exit(3)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        output = stream.read().decode()
    _child, status = os.waitpid(child, 0)
    return Resource(Phase.SUCCEEDED, outputs={"output": output, "code": os.waitstatus_to_exitcode(status)})


def spawned() -> Resource:
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=os._exit, args=(3,))
    child.start()
    child.join()
    return Resource(Phase.SUCCEEDED, outputs={"output": "hello", "code": child.exitcode})


@pytest.mark.parametrize("in_place", [[], ["test-answer connector"]], ids=["own loop", "in place"])
@pytest.mark.parametrize("loop", LOOPS)
async def test_subprocesses_of_asyncio_work_on_a_plugins_loop(loop: str, in_place: list[str]) -> None:
    assert await answered(with_asyncio, loop=loop, in_place=in_place) == {"output": "hello", "code": 3}
    assert await answered(killed, loop=loop, in_place=in_place) == {"code": -signal.SIGKILL}


@pytest.mark.parametrize("do", [blocking, forked, spawned])
async def test_blocking_code_may_start_processes_of_its_own(do: Any) -> None:
    assert await answered(do) == {"output": "hello", "code": 3}


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_signal_that_code_sends_to_its_child_reaches_the_child_alone(loop: str) -> None:
    async def do() -> Resource:
        child = await asyncio.create_subprocess_exec(*ECHO, stdin=asyncio.subprocess.PIPE)
        child.send_signal(signal.SIGTERM)
        return Resource(Phase.SUCCEEDED, outputs={"code": await child.wait()})

    assert await answered(do, loop=loop) == {"code": -signal.SIGTERM}


def handler() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


async def handler_of_a_loop() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)


@pytest.mark.parametrize("do", [handler, handler_of_a_loop])
@pytest.mark.parametrize("loop", LOOPS)
async def test_signal_handlers_are_the_hosts_which_the_error_says(do: Any, loop: str) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    async with running_server(Answers("answer", do=do), settings={"loop": loop}) as host:
        error = await refusal(host.execute("answer"))
    assert "main thread" in (error.details() or "")
    assert "signal handlers are the host's" in (error.details() or "")
    assert signal.getsignal(signal.SIGUSR1) == before
