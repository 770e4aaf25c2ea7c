"""How jobs are stopped."""

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest

from connector_core import JobNotFoundError, Phase, TransientError
from connector_plugin_process.connector import ProcessMeta
from connector_plugin_process.job import Job


async def test_a_deleted_job_is_gone_with_all_its_processes_and_aborted(bench: Any) -> None:
    ready = bench.fifo("ready")
    meta = bench.shell(f"(sleep 1000 | sleep 1000) & setsid -f sleep 1000; echo ready > {ready}; wait")
    ready.read_text()
    bench.until(lambda: len(bench.processes_of(meta)) >= 4)
    await bench.connector.delete(meta)
    assert bench.processes_of(meta) == []
    assert bench.job(meta).process() is None
    assert bench.connector.get(meta).phase is Phase.ABORTED


async def test_a_job_may_tidy_up_before_it_ends(bench: Any) -> None:
    ready, done = bench.fifo("ready"), bench.folder / "done"
    meta = bench.shell(f"trap 'echo tidy > {done}; exit 0' TERM; echo > {ready}; while :; do sleep 0.05; done")
    ready.read_text()
    await bench.connector.delete(meta)
    assert done.read_text() == "tidy\n"
    assert bench.connector.get(meta).phase is Phase.ABORTED


async def test_a_job_that_does_not_listen_is_killed_after_the_grace(bench: Any) -> None:
    connector = bench.new_connector(grace_seconds=0.2)
    ready = bench.fifo("ready")
    script = f"trap '' TERM HUP INT; sh -c 'sleep 1000; sleep 1000' & echo > {ready}; while :; do sleep 1; done"
    meta = bench.shell(script, connector=connector)
    ready.read_text()
    await connector.delete(meta)
    assert bench.processes_of(meta) == []
    assert connector.get(meta).phase is Phase.ABORTED


async def test_a_job_that_is_suspended_can_be_stopped(bench: Any) -> None:
    meta = bench.shell("kill -STOP $$; sleep 1000", connector=bench.new_connector(grace_seconds=3600))
    bench.until(lambda: [psutil.Process(one).status() for one in bench.processes_of(meta)] == [psutil.STATUS_STOPPED])
    await bench.connector.delete(meta)
    assert bench.connector.get(meta).phase is Phase.ABORTED


async def test_delete_may_come_twice_at_once_and_again(bench: Any) -> None:
    meta = bench.shell("sleep 1000")
    await asyncio.gather(*(bench.connector.delete(meta) for _ in range(3)))
    await bench.connector.delete(meta)
    assert bench.connector.get(meta).phase is Phase.ABORTED


async def test_delete_of_a_finished_job_leaves_its_result(bench: Any) -> None:
    meta = bench.start("echo", "done")
    bench.end(meta)
    await bench.connector.delete(meta)
    assert bench.connector.get(meta).phase is Phase.SUCCEEDED


async def test_delete_of_an_unknown_job_is_no_error(bench: Any) -> None:
    meta = bench.start("echo")
    unknown = ProcessMeta("unknown", meta.host, 1, 1)
    await bench.connector.delete(unknown)
    with pytest.raises(JobNotFoundError, match="has no job unknown"):
        bench.connector.get(unknown)


async def test_delete_works_after_the_host_was_restarted(bench: Any, host_program: str) -> None:
    command = [sys.executable, "-c", host_program, str(bench.state), "sleep 1000", "key"]
    host = subprocess.run(command, stdout=subprocess.PIPE, start_new_session=True, check=False)  # noqa: ASYNC221
    meta = ProcessMeta.decode(host.stdout)
    assert bench.connector.get(meta).phase is Phase.RUNNING
    await bench.connector.delete(meta)
    assert bench.processes_of(meta) == []
    assert bench.connector.get(meta).phase is Phase.ABORTED


async def test_a_delete_that_is_cut_off_is_carried_through_by_the_wrapper(bench: Any) -> None:
    connector = bench.new_connector(grace_seconds=0.5)
    ready = bench.fifo("ready")
    meta = bench.shell(f"trap '' TERM; echo > {ready}; while :; do sleep 0.1; done", connector=connector)
    ready.read_text()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await connector.delete(meta)
    state = connector.get(meta)
    assert (state.phase, "is being stopped" in state.message) == (Phase.RUNNING, True)
    assert bench.end(meta).phase is Phase.ABORTED
    assert bench.processes_of(meta) == []


async def test_a_delete_that_does_not_come_to_an_end_can_be_tried_again(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = bench.fifo("ready")
    # The job's own grace is that of its create; the impatient host has another.
    meta = bench.shell(f"trap '' TERM; echo > {ready}; while :; do sleep 0.1; done")
    ready.read_text()
    impatient = bench.new_connector(grace_seconds=0)
    with monkeypatch.context() as patched:
        patched.setattr("connector_plugin_process.connector._KILL_SECONDS", 0.1)
        with pytest.raises(TransientError, match="have not ended yet"):
            await impatient.delete(meta)
    await bench.connector.delete(meta)
    assert bench.connector.get(meta).phase is Phase.ABORTED


async def test_a_job_whose_wrapper_is_stopped_can_be_deleted(bench: Any) -> None:
    meta = bench.shell("kill -STOP $PPID; sleep 1000")
    bench.until(lambda: psutil.Process(meta.pid).status() == psutil.STATUS_STOPPED)
    await bench.connector.delete(meta)
    assert bench.processes_of(meta) == []
    assert bench.connector.get(meta).phase is Phase.ABORTED


async def test_a_job_that_keeps_its_wrapper_stopped_is_killed_with_it(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = bench.new_connector(grace_seconds=0)
    meta = bench.shell("trap '' TERM; sleep 1000", connector=connector)
    psutil.Process(meta.pid).suspend()
    monkeypatch.setattr("connector_plugin_process.connector._KILL_SECONDS", 0.5)
    monkeypatch.setattr(Job, "resume_wrapper", lambda self: None)  # as if it were stopped again at once
    await connector.delete(meta)
    assert bench.processes_of(meta) == []
    assert connector.get(meta).phase is Phase.ABORTED


async def test_what_a_killed_wrapper_left_behind_is_stopped(bench: Any) -> None:
    ready = bench.fifo("ready")
    meta = bench.shell(f"sleep 1000 & setsid -f sleep 1000; echo > {ready}; wait")
    ready.read_text()
    psutil.Process(meta.pid).kill()
    await bench.connector.delete(meta)
    assert bench.processes_of(meta) == []
    assert bench.connector.get(meta).phase is Phase.ABORTED


async def test_a_process_that_has_got_the_wrappers_number_is_not_touched(bench: Any) -> None:
    meta = bench.shell("sleep 1000")
    job = bench.job(meta)
    psutil.Process(meta.pid).kill()
    bench.until(lambda: job.process() is None)
    with subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True) as innocent:  # noqa: ASYNC220
        try:
            record = (job.folder / "started.json").read_text()
            (job.folder / "started.json").write_text(record.replace(f'"pid": {meta.pid}', f'"pid": {innocent.pid}'))
            handle = ProcessMeta(meta.job_id, meta.host, innocent.pid, meta.start_time)
            assert bench.connector.get(handle).phase is Phase.FAILED
            await bench.connector.delete(handle)
            assert innocent.poll() is None
        finally:
            os.kill(innocent.pid, signal.SIGKILL)
    assert bench.connector.get(handle).phase is Phase.ABORTED
