"""Programs that are run to their end, and children that end with this process."""

import os
import signal
import subprocess
import sys

import pytest

from connector_core.processes import Child, Interrupted, exit_code, interruptible, run, run_apart, told_end

PYTHON = [sys.executable, "-I", "-S"]


def test_a_program_that_is_out_of_time_shows_where_it_hangs() -> None:
    hangs = "import threading\ndef wait_for_ever(): threading.Event().wait()\nwait_for_ever()"
    ended = run_apart([sys.executable, "-I", "-S", "-X", "faulthandler", "-c", hangs], 3, {})
    assert ended.has_run_out_of_time
    assert "in wait_for_ever" in ended.errors


def test_the_two_streams_of_a_program_are_read_apart() -> None:
    ended = run_apart(["sh", "-c", "echo answer; echo remark >&2; exit 3"], 60, {})
    assert (ended.code, ended.output, ended.errors) == (3, "answer\n", "remark\n")


def test_lines_are_handed_on_as_they_come_and_the_last_ones_are_kept() -> None:
    seen: list[str] = []
    ended = run(["sh", "-c", "echo one; echo two >&2; exit 4"], seen.append, {})
    assert (seen, ended.code, ended.output) == (["one", "two"], 4, "one\ntwo\n")


def test_a_signal_ends_the_program_that_is_run() -> None:
    said: list[str] = []

    def on_line(line: str) -> None:
        said.append(line)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as interrupted, interruptible():
        run(["sh", "-c", "trap 'exit 0' INT; echo $$; while :; do sleep 0.05; done"], on_line, {})
    assert interrupted.value.exit_code == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(said[0]), 0)


async def test_a_child_inherits_what_it_is_given_and_variables() -> None:
    theirs, ours = os.pipe()
    program = "import os, sys; os.write(int(os.environ['TO']), b'here'); sys.exit(7)"
    child = await Child.start([*PYTHON, "-c", program], environment={"TO": str(ours)}, inherited=(ours,))
    os.close(ours)
    assert await child.wait() == await child.wait() == 7
    assert not child.is_running
    assert os.read(theirs, 10) == b"here"
    os.close(theirs)


IGNORES = "import os, signal; signal.signal(15, signal.SIG_IGN); os.write(int(os.environ['TO']), b'x'); signal.pause()"


async def test_a_child_that_does_not_want_to_end_is_killed_by_the_last_step() -> None:
    theirs, ours = os.pipe()
    child = await Child.start([*PYTHON, "-c", IGNORES], environment={"TO": str(ours)}, inherited=(ours,))
    assert os.read(theirs, 1) == b"x"
    assert child.is_running
    assert os.getpgid(child.pid) == child.pid
    assert await child.end((signal.SIGTERM, 0.05), (signal.SIGKILL, None)) == 128 + signal.SIGKILL
    os.close(theirs)
    os.close(ours)


CHILD = """
import asyncio, os
from connector_core.processes import on_end_of_parent, without_inheritance

async def main():
    ended = asyncio.Event()
    lifeline = int(os.environ["LIFELINE"])
    without_inheritance([lifeline])
    on_end_of_parent(lifeline, ended.set)
    print("ready", os.get_inheritable(lifeline), flush=True)
    await ended.wait()
    print("told", flush=True)

asyncio.run(main())
"""

PARENT = """
import asyncio, sys
from connector_core.processes import Child, Lifeline

async def main():
    lifeline = Lifeline()
    environment = {"LIFELINE": str(lifeline.inherited)}
    command = [sys.executable, "-c", sys.argv[1]]
    child = await Child.start(command, environment=environment, inherited=(lifeline.inherited,))
    await child.wait()

asyncio.run(main())
"""


def test_a_child_is_told_when_its_parent_was_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as printed:
        assert printed.readline() == "ready False\n"
        parent.kill()
        assert printed.readline() == "told\n"
        assert printed.read() == ""
    assert parent.wait() == -signal.SIGKILL


def test_an_end_is_told_as_shells_and_people_have_it() -> None:
    assert [exit_code(code) for code in (0, 3, -9)] == [0, 3, 137]
    assert [told_end(code) for code in (3, -9)] == ["exit code 3", "signal SIGKILL"]
