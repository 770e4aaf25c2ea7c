"""Jobs that write to their own folder: what they put there costs at most themselves."""

import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from connector_core import JobNotFoundError, PermanentError, Phase
from connector_plugin_process import files

SHAPES = {
    "another shape": """echo '{"pid": 1}' > NAME""",
    "another type": """echo '{"pid": "one", "start_time": [], "owner": 3}' > NAME""",
    "a list": "echo '[1, 2]' > NAME",
    "no JSON": "printf '\\377\\000' > NAME",
    "empty": ": > NAME",
    "missing": "rm -f NAME",
    "endless": "head -c 10000000 /dev/zero | tr '\\0' 9 > NAME",
    "deep": "head -c 60000 /dev/zero | tr '\\0' '[' > NAME",
    "a folder": "rm -f NAME; mkdir NAME",
    "a pipe": "rm -f NAME; mkfifo NAME",
    "a link": "rm -f NAME; ln -s /dev/zero NAME",
    "a link to itself": "rm -f NAME; ln -s NAME NAME",
}


def spoiling(name: str, shape: str) -> str:
    return SHAPES[shape].replace("NAME", f"../{name}")


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_record_of_another_shape_leaves_all_other_jobs_and_creates_as_they_are(bench: Any, shape: str) -> None:
    ready = bench.fifo("ready")
    meta = bench.shell(f"{spoiling('started.json', shape)}; echo > {ready}; sleep 1000", key="key")
    ready.read_text()
    for connector in (bench.connector, bench.new_connector()):
        connector.start()
        assert bench.end(bench.start("echo", "hi", connector=connector)).phase is Phase.SUCCEEDED
        assert connector.get(meta).phase is Phase.RUNNING
        assert bench.shell("another", key="key", connector=connector) == meta
    await bench.new_connector().delete(meta)
    assert bench.processes_of(meta) == []
    if shape == "missing":
        with pytest.raises(JobNotFoundError):
            bench.connector.get(meta)
    else:
        assert bench.connector.get(meta).phase is Phase.ABORTED


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "missing"])
def test_a_job_whose_record_and_wrapper_are_gone_is_lost_alone(bench: Any, shape: str) -> None:
    meta = bench.shell(f"{spoiling('started.json', shape)}; kill -9 $PPID", key="key")
    bench.until(lambda: not psutil.pid_exists(meta.pid))
    over = bench.end(meta)
    assert (over.phase, over.error_code) == (Phase.FAILED, "Lost")
    with pytest.raises(PermanentError, match=r"job key is lost: its record `started\.json` was changed"):
        bench.shell("another", key="key")
    assert bench.end(bench.start("echo")).phase is Phase.SUCCEEDED


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_job_says_of_its_own_end_is_not_believed(bench: Any, shape: str) -> None:
    gate = bench.fifo("gate")
    meta = bench.shell(f"{spoiling('ended.json', shape)}; read line < {gate}; exit 3")
    gate.write_text("go\n")
    over = bench.end(meta)
    assert over.phase is Phase.FAILED
    assert "exit code 3" in over.message or "how the command ended is not known" in over.message


async def test_a_job_that_claims_to_be_over_runs_on_counts_and_can_be_deleted(bench: Any) -> None:
    ready = bench.fifo("ready")
    forged = json.dumps({"reason": "exited", "exit_code": 0, "at": time.time()})
    meta = bench.shell(f"echo '{forged}' > ../ended.json; echo > {ready}; sleep 1000")
    ready.read_text()
    assert bench.connector.get(meta).phase is Phase.RUNNING
    await bench.connector.delete(meta)
    assert bench.processes_of(meta) == []
    assert bench.connector.get(meta).phase is Phase.ABORTED


async def test_a_record_that_names_another_process_leaves_that_one_alone(bench: Any) -> None:
    ready = bench.fifo("ready")
    innocent = bench.shell("sleep 1000")
    record = json.loads((bench.job(innocent).folder / "started.json").read_text())
    meta = bench.shell(f"echo '{json.dumps(record)}' > ../started.json; echo > {ready}; sleep 1000")
    ready.read_text()
    assert bench.connector.get(meta).phase is Phase.RUNNING
    await bench.connector.delete(meta)
    assert bench.processes_of(meta) == []
    assert bench.connector.get(innocent).phase is Phase.RUNNING


@pytest.mark.parametrize("name", ["stdout", "stderr", "stop-asked", "claim", "wrapper.log", "ended.json.new"])
@pytest.mark.parametrize("shape", ["a pipe", "a link", "a link to itself"])
async def test_links_and_pipes_in_a_jobs_folder_are_not_followed(bench: Any, name: str, shape: str) -> None:
    meta = bench.shell(f"echo said; {spoiling(name, shape)}; echo more >&2")
    over = bench.end(meta)
    assert over.phase in {Phase.SUCCEEDED, Phase.ABORTED}
    pages = [page async for page in bench.connector.get_logs(meta, 10, "")]
    assert len(pages) == 1
    await bench.connector.delete(meta)
    bench.connector.start()
    assert bench.end(bench.start("echo")).phase is Phase.SUCCEEDED


async def test_a_pipe_in_the_place_of_the_last_record_does_not_hold_the_wrapper(bench: Any) -> None:
    meta = bench.shell("mkfifo ../ended.json.new; exit 7")
    assert "exit code 7" in bench.end(meta).message


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stores_damaged_name_does_not_keep_it_from_starting(bench: Any, shape: str) -> None:
    bench.end(bench.shell(SHAPES[shape].replace("NAME", "../../../id")))
    again = bench.new_connector()
    again.start()
    assert bench.end(bench.start("echo", "hi", connector=again), again).phase is Phase.SUCCEEDED


async def test_a_wrapper_whose_folder_cannot_be_seen_is_known_by_its_user(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(self: Path, other: Path) -> bool:
        raise PermissionError

    meta = bench.shell("sleep 1000")
    monkeypatch.setattr(Path, "samefile", hidden)
    assert bench.connector.get(meta).phase is Phase.RUNNING
    monkeypatch.setattr("connector_plugin_process.job._user_of", lambda pid: 12345)
    assert bench.job(meta).process() is None


def test_a_job_folder_that_became_a_link_is_swept_away_and_its_target_is_not(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    meta = bench.start("echo")
    bench.end(meta)
    folder = bench.job(meta).folder
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "precious")
    bench.connector.start()
    bench.until(lambda: not os.path.lexists(folder) and list(folder.parent.iterdir()) == [])
    assert (tmp_path / "precious/file").exists()


def test_a_folder_that_cannot_be_entered_is_removed_all_the_same(tmp_path: Path) -> None:
    closed = tmp_path / "job/work/closed"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    closed.chmod(0)
    (tmp_path / "job/work").chmod(0o500)
    files.remove(tmp_path / "job")
    assert list(tmp_path.iterdir()) == []
