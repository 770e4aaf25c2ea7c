"""Who owns a job, and how long it is remembered."""

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector_core import BackendUnavailableError, JobNotFoundError, Phase
from connector_plugin_process.connector import ProcessConnector
from connector_plugin_process.store import JobStore
from connector_plugin_process.wrapper import Kernel, this_kernel


def connector_on(bench: Any, host_name: str, kernel: Kernel | None = None) -> ProcessConnector:
    """A host of another name, or after a restart, over the bench's state folder."""
    config = bench.config()
    return ProcessConnector(config, JobStore(config, host_name=host_name, kernel=kernel))


async def refused_everywhere(connector: ProcessConnector, meta: Any) -> list[str]:
    """What a host says about a job that it does not own."""
    said = []
    for call in (connector.get, connector.get_metrics):
        with pytest.raises(BackendUnavailableError) as caught:
            call(meta)
        said.append(caught.value.message)
    with pytest.raises(BackendUnavailableError) as caught:
        await connector.delete(meta)
    said.append(caught.value.message)
    with pytest.raises(BackendUnavailableError) as caught:
        await anext(connector.get_logs(meta, 1, ""))
    return [*said, caught.value.message]


async def test_a_host_with_another_state_folder_names_the_owner(bench: Any, tmp_path: Path) -> None:
    meta = bench.shell("sleep 1000")
    other = bench.new_connector(state=str(tmp_path / "other"))
    for said in await refused_everywhere(other, meta):
        assert f"belongs to host {meta.host!r}" in said
    assert bench.connector.get(meta).phase is Phase.RUNNING


async def test_another_machine_that_shares_the_state_folder_names_the_owner(bench: Any) -> None:
    meta = bench.shell("sleep 1000")
    other = connector_on(bench, "elsewhere", Kernel("another boot", "pid:[1]"))
    for said in await refused_everywhere(other, meta):
        assert f"belongs to host {meta.host!r}, and this is 'elsewhere/" in said
    assert bench.connector.get(meta).phase is Phase.RUNNING


async def test_a_handle_with_another_hosts_name_is_that_hosts(bench: Any) -> None:
    meta = bench.shell("sleep 1000")
    renamed = replace(meta, host=f"elsewhere/{meta.host.rpartition('/')[2]}")
    for said in await refused_everywhere(bench.connector, renamed):
        assert "belongs to host 'elsewhere/" in said


def test_a_machine_that_was_renamed_keeps_its_jobs(bench: Any) -> None:
    meta = bench.shell("sleep 1000")
    assert connector_on(bench, "renamed").get(meta).phase is Phase.RUNNING


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (Kernel("another boot", "pid:[4026531836]"), "the machine was restarted"),
        (Kernel(this_kernel().boot_id, "pid:[1]"), "the container in which the job ran has ended"),
    ],
)
def test_a_restart_of_machine_or_container_fails_the_job_with_that_reason(
    bench: Any, kernel: Kernel, reason: str
) -> None:
    meta = bench.shell("sleep 1000")
    after = connector_on(bench, os.uname().nodename, kernel)
    lost = after.get(meta)
    assert lost.phase is Phase.FAILED
    assert reason in lost.message


def test_a_job_that_ended_before_a_restart_keeps_its_result(bench: Any) -> None:
    meta = bench.start("echo", "x")
    bench.end(meta)
    after = connector_on(bench, os.uname().nodename, Kernel("another boot", "pid:[1]"))
    assert after.get(meta).outputs == {"exit_code": 0, "stdout": "x\n"}


def test_a_lost_job_takes_no_job_of_the_same_name_on_another_host_with_it(bench: Any, tmp_path: Path) -> None:
    neighbour = bench.new_connector(state=str(tmp_path / "neighbour"))
    alive = bench.shell("sleep 1000", key="key", connector=neighbour)
    lost = bench.shell("kill -9 $PPID", key="key")
    assert bench.end(lost).phase is Phase.FAILED
    assert neighbour.get(alive).phase is Phase.RUNNING
    bench.until(lambda: bench.processes_of(alive))


def grow_old(folder: Path, seconds: float = 100_000) -> None:
    for file in folder.iterdir():
        then = file.stat().st_mtime - seconds
        os.utime(file, (then, then))


def test_old_finished_jobs_are_forgotten_and_running_ones_are_not(bench: Any) -> None:
    young, old, running = bench.start("echo"), bench.shell("echo x > file"), bench.shell("sleep 1000")
    bench.end(young)
    bench.end(old)
    for meta in (old, running):
        grow_old(bench.job(meta).folder)
    bench.connector.start()
    assert bench.connector.get(young).phase is Phase.SUCCEEDED
    assert bench.connector.get(running).phase is Phase.RUNNING
    with pytest.raises(JobNotFoundError, match="finished jobs are kept for 86400 seconds"):
        bench.connector.get(old)
    (jobs,) = bench.state.glob("*/jobs")
    bench.until(lambda: {folder.name for folder in jobs.iterdir()} == {young.job_id, running.job_id})


def test_a_job_of_another_machine_is_not_forgotten_while_it_may_run(bench: Any) -> None:
    meta = bench.shell("sleep 1000")
    grow_old(bench.job(meta).folder)
    connector_on(bench, "elsewhere", Kernel("another boot", "pid:[1]")).start()
    assert bench.connector.get(meta).phase is Phase.RUNNING


def test_a_job_lost_long_ago_is_forgotten(bench: Any) -> None:
    meta = bench.shell("kill -9 $PPID")
    assert bench.end(meta).phase is Phase.FAILED
    grow_old(bench.job(meta).folder)
    bench.connector.start()
    with pytest.raises(JobNotFoundError):
        bench.connector.get(meta)


def test_a_name_claimed_by_a_host_that_died_is_forgotten(bench: Any) -> None:
    bench.connector.start()
    (jobs,) = bench.state.glob("*/jobs")
    (jobs / "claimed").mkdir()
    bench.connector.start()
    bench.until(lambda: list(jobs.iterdir()) == [])


def test_the_state_is_for_nobody_else_to_read(bench: Any) -> None:
    meta = bench.start("echo")
    bench.end(meta)
    folder = bench.job(meta).folder
    for place in (folder, folder.parent, folder.parent.parent):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "stdout").stat().st_mode) == 0o600


def test_a_secret_in_the_environment_is_never_written_down(bench: Any) -> None:
    meta = bench.start("echo", env={"PASSWORD": "a-secret-value"})
    bench.end(meta)
    for file in bench.state.rglob("*"):
        assert not file.is_file() or b"a-secret-value" not in file.read_bytes()


def test_a_state_folder_that_is_a_link_is_refused(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "trap").mkdir()
    bench.state.mkdir()
    (bench.state / f"connector-plugin-process-{os.geteuid()}").symlink_to(tmp_path / "trap")
    with pytest.raises(BackendUnavailableError, match="own; choose another by `state`"):
        bench.connector.start()


def test_a_state_folder_of_another_user_is_refused(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.state / "connector-plugin-process-12345").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(BackendUnavailableError, match="not a folder of user 12345's own"):
        bench.new_connector().start()


def test_a_state_folder_that_cannot_be_made_is_an_error_naming_the_setting(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackendUnavailableError, match="`state` in"):
        bench.new_connector(state=str(tmp_path / "file")).start()
