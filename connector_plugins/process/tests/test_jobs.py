"""How jobs begin, run and end, whatever happens to the host."""

import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from connector_core import BackendUnavailableError, InvalidInputError, JobNotFoundError, Phase, RateLimitedError
from connector_plugin_process.connector import ProcessMeta


def test_a_command_that_ends_well_gives_its_exit_code_and_output(bench: Any) -> None:
    over = bench.end(bench.start("echo", "hello", "wörld"))
    assert over.phase is Phase.SUCCEEDED
    assert over.outputs == {"exit_code": 0, "stdout": "hello wörld\n"}


def test_a_running_command_is_running(bench: Any) -> None:
    gate = bench.fifo("gate")
    meta = bench.shell(f"read line < {gate}")
    assert bench.connector.get(meta).phase is Phase.RUNNING
    gate.write_text("go\n")
    assert bench.end(meta).phase is Phase.SUCCEEDED


def test_another_exit_code_fails_with_the_last_lines_of_stderr(bench: Any) -> None:
    over = bench.end(bench.shell("for i in $(seq 30); do echo line $i >&2; done; exit 7"))
    assert over.phase is Phase.FAILED
    assert over.message.startswith("the command ended with exit code 7")
    assert over.message.endswith("line 29\nline 30")
    assert "line 20\n" not in over.message
    assert over.error_code == "NonZeroExit"
    assert over.outputs is None


def test_a_signal_is_named(bench: Any) -> None:
    over = bench.end(bench.shell("kill -SEGV $$"))
    assert over.phase is Phase.FAILED
    assert over.message == "the command was killed by SIGSEGV"


def test_a_signal_without_a_name_is_told_by_its_number(bench: Any) -> None:
    assert bench.end(bench.shell("kill -40 $$")).message == "the command was killed by signal 40"


def test_a_file_that_cannot_be_executed_fails_with_the_reason(bench: Any) -> None:
    program = bench.folder / "program"
    program.write_text("no program at all")
    program.chmod(0o755)
    over = bench.end(bench.start("program", connector=bench.new_connector(allow=[str(program)])))
    assert over.phase is Phase.FAILED
    assert over.error_code == "NotStarted"
    assert "Exec format error" in over.message


def test_long_output_is_cut_to_its_end(bench: Any) -> None:
    over = bench.end(bench.shell("head -c 200000 /dev/zero | tr '\\0' x; echo; echo the end"))
    assert len(over.outputs["stdout"]) == 64 * 1024
    assert over.outputs["stdout"].endswith("x\nthe end\n")


def test_output_that_is_no_text_still_comes(bench: Any) -> None:
    over = bench.end(bench.shell(r"printf 'a\377b'"))
    assert over.outputs["stdout"] == "a\\xffb"


def test_the_environment_is_clean(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FSEC_DB_PASSWORD", "CONNECTOR_HOST__PORT", "SOME_TOKEN", "PYTHONPATH"):
        monkeypatch.setenv(name, "of the host")
    gate = bench.fifo("gate")
    meta = bench.shell(f"env; read line < {gate}", env={"COLOUR": "blue"})
    own = {entry.split(b"=")[0] for entry in Path(f"/proc/{meta.pid}/environ").read_bytes().split(b"\0") if entry}
    assert own <= {b"LD_LIBRARY_PATH"}
    gate.write_text("go\n")
    seen = dict(line.split("=", 1) for line in bench.end(meta).outputs["stdout"].splitlines())
    expected = {
        "PATH",
        "LANG",
        "HOME",
        "COLOUR",
        "CONNECTOR_PROCESS_JOB",
        "PWD",
        "TZ",
        "TMPDIR",
        "SHLVL",
        "_",
        "OLDPWD",
    }
    assert set(seen) <= expected
    assert "of the host" not in seen.values()
    assert (seen["COLOUR"], seen["PATH"]) == ("blue", "/usr/local/bin:/usr/bin:/bin")


def test_a_job_has_a_folder_of_its_own_to_work_in_and_nothing_to_read(bench: Any) -> None:
    over = bench.end(bench.shell('pwd; [ "$PWD" = "$HOME" ] && echo home; echo x > file && cat file; cat'))
    folder, *rest = over.outputs["stdout"].splitlines()
    assert Path(folder).is_relative_to(bench.state)
    assert rest == ["home", "x"]


def test_a_job_runs_in_the_folder_that_its_caller_chose(bench: Any, tmp_path: Path) -> None:
    connector = bench.new_connector(folders=[str(tmp_path)])
    over = bench.end(bench.shell("pwd", connector=connector, cwd=str(tmp_path)))
    assert over.outputs["stdout"] == f"{tmp_path}\n"


def test_a_job_inherits_no_open_files_of_the_host(bench: Any) -> None:
    with (bench.folder / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        over = bench.end(bench.start(sys.executable, "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"))
    assert over.outputs["stdout"] == "['0', '1', '2', '3']\n"  # the last one is that of the listing itself


def test_a_job_is_a_session_of_its_own_and_leaves_no_zombie_to_the_host(bench: Any) -> None:
    gate = bench.fifo("gate")
    meta = bench.shell(f"read line < {gate}")
    assert os.getsid(meta.pid) == meta.pid != os.getsid(0)
    assert psutil.Process(meta.pid).ppid() != os.getpid()
    gate.write_text("go\n")
    bench.end(meta)
    assert [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE] == []


def test_signals_that_the_host_ignores_are_as_usual_for_the_command(bench: Any) -> None:
    script = "import signal as s; print([s.getsignal(n) for n in (s.SIGTERM, s.SIGHUP)], s.pthread_sigmask(0, []))"
    over = bench.end(bench.start(sys.executable, "-c", script))
    assert over.outputs["stdout"].count("SIG_DFL") == 2
    assert over.outputs["stdout"].endswith("set()\n")


def test_what_a_command_leaves_running_ends_with_it(bench: Any) -> None:
    meta = bench.shell("sleep 1000 & setsid -f sleep 1000; echo done")
    assert bench.end(meta).phase is Phase.SUCCEEDED
    assert bench.processes_of(meta) == []


def test_a_job_that_writes_too_much_is_stopped(bench: Any) -> None:
    meta = bench.shell(
        "echo begin; head -c 1000000 /dev/zero; sleep 1000", connector=bench.new_connector(max_log_bytes=1000)
    )
    over = bench.end(meta)
    assert over.phase is Phase.FAILED
    assert "`max_log_bytes`" in over.message
    assert bench.processes_of(meta) == []


@pytest.mark.parametrize("limit", [1, 1_000_000])
def test_a_flood_of_output_is_never_kept_beyond_what_is_allowed(bench: Any, limit: int) -> None:
    connector = bench.new_connector(max_log_bytes=limit, grace_seconds=5)
    meta = bench.shell("cat /dev/zero & exec cat /dev/zero >&2", connector=connector)
    over = bench.end(meta)
    assert over.error_code == "TooMuchOutput"
    job = bench.job(meta)
    assert job.stdout.stat().st_size + job.stderr.stat().st_size == limit
    assert bench.processes_of(meta) == []


def test_a_command_that_writes_too_much_and_ends_at_once_has_failed(bench: Any) -> None:
    over = bench.end(bench.shell("printf 12345", connector=bench.new_connector(max_log_bytes=4)))
    assert (over.phase, over.error_code) == (Phase.FAILED, "TooMuchOutput")
    assert bench.end(bench.shell("printf 1234", connector=bench.new_connector(max_log_bytes=4))).outputs == {
        "exit_code": 0,
        "stdout": "1234",
    }


def test_what_a_job_writes_while_it_is_stopped_is_kept(bench: Any) -> None:
    ready = bench.fifo("ready")
    meta = bench.shell(f"trap 'echo tidy; exit 3' TERM; echo > {ready}; while :; do sleep 0.05; done")
    ready.read_text()
    asyncio.run(bench.connector.delete(meta))
    assert bench.job(meta).stdout.read_text() == "tidy\n"


def test_much_output_comes_whole(bench: Any) -> None:
    meta = bench.shell("head -c 30000000 /dev/zero; echo >&2 done; sleep 0.01; echo end")
    assert bench.end(meta).phase is Phase.SUCCEEDED
    assert bench.job(meta).stdout.stat().st_size == 30_000_004
    assert bench.job(meta).stderr.read_text() == "done\n"


@pytest.mark.parametrize("place", [".", ".."])
def test_a_job_whose_folder_takes_too_much_of_the_disk_is_killed(bench: Any, place: str) -> None:
    connector = bench.new_connector(max_job_bytes=1_000_000, grace_seconds=3600)
    meta = bench.shell(f"trap '' TERM; head -c 2000000 /dev/zero > {place}/file; sleep 1000", connector=connector)
    over = bench.end(meta)
    assert (over.phase, over.error_code) == (Phase.FAILED, "TooMuchDisk")
    assert "`max_job_bytes`" in over.message
    assert bench.processes_of(meta) == []


def test_a_link_out_of_the_folder_takes_nothing_of_its_disk(bench: Any) -> None:
    connector = bench.new_connector(max_job_bytes=100_000)
    over = bench.end(bench.shell("ln -s /usr usr; ln -s / root; sleep 1.2", connector=connector))
    assert over.phase is Phase.SUCCEEDED


def test_the_same_attempt_created_again_is_the_same_job(bench: Any) -> None:
    first = bench.shell("echo $$ >> ../../../count", key="a" * 32)
    assert bench.shell("echo $$ >> ../../../count", key="a" * 32) == first
    bench.end(first)
    assert bench.new_connector().create(bench.task("echo"), {}, "", "a" * 32) == first
    assert bench.end(first).phase is Phase.SUCCEEDED
    (count,) = bench.state.glob("*/count")
    assert len(count.read_text().splitlines()) == 1


def test_creates_without_a_key_are_different_jobs(bench: Any) -> None:
    first, second = bench.start("echo"), bench.start("echo")
    assert first != second
    bench.end(first)
    bench.end(second)


@pytest.mark.parametrize("key", ["../../outside", "a/b", "ex:proj/dev/node/0", "x" * 300, ".", "ключ"])
def test_a_key_that_is_no_file_name_still_names_one_job(bench: Any, key: str) -> None:
    first = bench.start("echo", key=key)
    assert bench.start("echo", key=key) == first
    bench.end(first)
    assert not (bench.folder / "outside").exists()


def test_concurrent_creates_with_one_key_start_one_process(bench: Any) -> None:
    together = threading.Barrier(8)

    def create(_: int) -> ProcessMeta:
        connector = bench.new_connector()
        together.wait()
        created: ProcessMeta = bench.shell("echo $$ >> ../../../count", key="k", connector=connector)
        return created

    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(create, range(8)))
    assert handles == [handles[0]] * 8
    bench.end(handles[0])
    (count,) = bench.state.glob("*/count")
    assert len(count.read_text().splitlines()) == 1


def test_no_more_jobs_run_than_are_allowed(bench: Any) -> None:
    gate = bench.fifo("gate")
    connector = bench.new_connector(max_jobs=2)
    first = bench.shell(f"read line < {gate}", connector=connector, key="first")
    bench.end(bench.start("echo", connector=connector))
    second = bench.shell("sleep 1000", connector=connector)
    with pytest.raises(RateLimitedError, match=r"2 jobs are running .* `max_jobs`"):
        bench.start("echo", connector=connector)
    assert bench.shell("anything", connector=connector, key="first") == first
    gate.write_text("go\n")
    bench.end(first)
    bench.end(bench.start("echo", connector=connector))
    assert connector.get(second).phase is Phase.RUNNING


def crash_host(bench: Any, program: str, script: str) -> ProcessMeta:
    """Start a job by a host that is killed with its whole group right after it has answered."""
    command = [sys.executable, "-c", program, str(bench.state), script, "key"]
    host = subprocess.run(command, stdout=subprocess.PIPE, start_new_session=True, check=False)
    assert host.returncode == -9
    return ProcessMeta.decode(host.stdout)


def test_a_job_goes_on_when_its_host_is_killed_and_is_found_by_the_next(bench: Any, host_program: str) -> None:
    gate = bench.fifo("gate")
    meta = crash_host(bench, host_program, f"read line < {gate}; echo $line; exit 4")
    assert bench.connector.get(meta).phase is Phase.RUNNING
    assert bench.shell("another", key="key") == meta
    gate.write_text("go\n")
    over = bench.end(meta)
    assert over.phase is Phase.FAILED
    assert "exit code 4" in over.message


def test_a_job_that_ended_while_no_host_ran_is_told_by_the_next(bench: Any, host_program: str) -> None:
    meta = crash_host(bench, host_program, "echo result")
    bench.until(lambda: not psutil.pid_exists(meta.pid))
    assert bench.connector.get(meta).outputs == {"exit_code": 0, "stdout": "result\n"}


def test_a_wrapper_that_is_killed_fails_the_job_and_takes_everything_with_it(bench: Any) -> None:
    ready = bench.fifo("ready")
    meta = bench.shell(f"sleep 1000 & setsid -f sleep 1000; echo ready > {ready}; wait")
    ready.read_text()
    psutil.Process(meta.pid).kill()
    over = bench.end(meta)
    assert over.phase is Phase.FAILED
    assert f"its wrapper (process {meta.pid}) was killed" in over.message
    bench.until(lambda: bench.processes_of(meta) == [])


def test_a_wrapper_that_is_terminated_stops_the_job(bench: Any) -> None:
    meta = bench.shell("sleep 1000")
    psutil.Process(meta.pid).terminate()
    over = bench.end(meta)
    assert over.phase is Phase.FAILED
    assert "did not come from this host" in over.message
    assert bench.processes_of(meta) == []


def test_a_wrapper_that_cannot_start_is_an_error_that_can_be_tried_again(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = bench.folder / "broken.py"
    broken.write_text("raise SystemExit('no wrapper today')")
    with monkeypatch.context() as patched:
        patched.setattr("connector_plugin_process.wrapper.__file__", str(broken))
        with pytest.raises(BackendUnavailableError, match="no wrapper today"):
            bench.start("echo", key="key")
    assert bench.end(bench.start("echo", key="key")).phase is Phase.SUCCEEDED


def test_a_wrapper_that_hangs_is_an_error_that_can_be_tried_again(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = bench.folder / "hanging.py"
    hanging.write_text("import signal; signal.pause()")
    with monkeypatch.context() as patched:
        patched.setattr("connector_plugin_process.wrapper.__file__", str(hanging))
        patched.setattr("connector_plugin_process.store._LAUNCH_SECONDS", 0.1)
        with pytest.raises(BackendUnavailableError, match="has not started in time"):
            bench.start("echo", key="key")
    assert bench.end(bench.start("echo", key="key")).phase is Phase.SUCCEEDED


def test_a_wrapper_that_fails_says_why(bench: Any) -> None:
    over = bench.end(bench.shell("mkdir ../ended.json.new"))
    assert over.phase is Phase.FAILED
    assert "IsADirectoryError" in over.message


def claimed(bench: Any, key: str) -> int:
    """Claim a job's name as a host that is about to start it."""
    bench.connector.start()
    (jobs,) = bench.state.glob("*/jobs")
    (jobs / key).mkdir()
    claim = os.open(jobs / key / "claim", os.O_RDWR | os.O_CREAT)
    fcntl.flock(claim, fcntl.LOCK_EX)
    return claim


def test_a_create_does_not_wait_for_ever_for_another(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = claimed(bench, "key")
    monkeypatch.setattr("connector_plugin_process.store._LAUNCH_SECONDS", 0.1)
    with pytest.raises(BackendUnavailableError, match="being started by another call"):
        bench.start("echo", key="key")
    os.close(claim)


def test_a_create_that_waited_for_one_which_failed_starts_the_job(bench: Any) -> None:
    claim = claimed(bench, "key")
    (folder,) = bench.state.glob("*/jobs/key")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(bench.start, "echo", key="key")
        bench.until(lambda: holders(folder / "claim") == 2)
        folder.rename(folder.with_name(".failed"))
        os.close(claim)
        assert bench.end(waiting.result()).phase is Phase.SUCCEEDED


def holders(file: Path) -> int:
    """How many times this process has a file open."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += entry.samefile(file)
    return count


def test_a_name_that_was_claimed_by_a_host_which_died_is_free(bench: Any) -> None:
    bench.end(bench.start("echo"))
    (jobs,) = bench.state.glob("*/jobs")
    (jobs / "key").mkdir()
    (jobs / "key/claim").touch()
    assert bench.end(bench.start("echo", key="key")).phase is Phase.SUCCEEDED


def test_a_handle_of_a_job_that_was_forgotten_and_started_anew_is_not_found(bench: Any) -> None:
    meta = bench.start("echo", key="key")
    stranger = ProcessMeta(meta.job_id, meta.host, meta.pid, meta.start_time + 1)
    with pytest.raises(JobNotFoundError, match="started anew"):
        bench.connector.get(stranger)


@pytest.mark.parametrize("job_id", ["../jobs", "", ".", "a/b", "a\0b"])
def test_a_job_name_that_is_a_path_is_refused(bench: Any, job_id: str) -> None:
    meta = bench.start("echo")
    with pytest.raises(InvalidInputError, match="not the name of a job"):
        bench.connector.get(ProcessMeta(job_id, meta.host, 1, 1))
