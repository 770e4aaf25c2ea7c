"""Queries' private folders, and those that hosts have left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from connector_plugin_duckdb.config import load_config
from connector_plugin_duckdb.connector import DuckDBConnector
from connector_plugin_duckdb.staging import PREFIX, StagingRoot, sweep

HOST = """
import sys
from pathlib import Path
from connector_plugin_duckdb.staging import StagingRoot
root = StagingRoot(Path(sys.argv[1]))
with root.staging() as staging:
    (staging.folder / "temp" / "spilled").write_bytes(bytes(10**6))
    print(root.open(), flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


@contextmanager
def other_host(parent: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Runs a host in another process, with a query that has spilled."""
    command = [sys.executable, "-c", HOST, str(parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        try:
            yield host, Path(host.stdout.readline().strip())
        finally:
            host.kill()


def test_what_a_killed_host_has_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    with other_host(tmp_path) as (host, left):
        os.kill(host.pid, signal.SIGKILL)
        host.wait()
        assert (left / "0" / "temp" / "spilled").exists()
        root = StagingRoot(tmp_path)
        mine = root.open()
        assert list(tmp_path.iterdir()) == [mine]
        root.close()


def test_the_folder_of_a_live_host_stays(tmp_path: Path) -> None:
    with other_host(tmp_path) as (_host, theirs):
        root = StagingRoot(tmp_path)
        mine = root.open()
        assert sorted(tmp_path.iterdir()) == sorted([theirs, mine])
        assert (theirs / "0" / "temp" / "spilled").exists()
        root.close()


def test_the_folder_of_another_connector_of_this_host_stays(tmp_path: Path) -> None:
    first, second = StagingRoot(tmp_path), StagingRoot(tmp_path)
    assert first.open() != second.open()
    assert first.open().is_dir()
    first.close()
    second.close()
    assert names(tmp_path) == []


def test_other_folders_and_what_links_lead_to_stay(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / "connector-duckdb-other").mkdir()
    before = sorted(tmp_path.rglob("*"))
    sweep(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_with_files_but_without_a_lock_stays(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}x").mkdir()
    (tmp_path / f"{PREFIX}x" / "precious").touch()
    (tmp_path / f"{PREFIX}empty").mkdir()
    sweep(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [f"{PREFIX}x"]


def test_a_lock_that_is_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}x").mkdir()
    (tmp_path / "target").touch()
    (tmp_path / f"{PREFIX}x" / "lock").symlink_to(tmp_path / "target")
    sweep(tmp_path)
    assert (tmp_path / f"{PREFIX}x" / "lock").is_symlink()


def test_a_folder_that_another_host_has_swept_while_it_was_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Path] = []
    really_open = os.open

    def sweep_first(path: Path, *arguments: int, **options: Any) -> int:
        if not swept:
            swept.append(Path(path).parent)
            sweep(tmp_path)
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", sweep_first)
    root = StagingRoot(tmp_path)
    folder = root.open()
    assert folder not in swept
    assert list(tmp_path.iterdir()) == [folder]
    root.close()


async def test_a_connector_sweeps_when_it_starts(tmp_path: Path) -> None:
    with other_host(tmp_path) as (host, left):
        os.kill(host.pid, signal.SIGKILL)
        host.wait()
        connector = DuckDBConnector(load_config({"staging_directory": str(tmp_path)}))
        await connector.start()
        found = names(tmp_path)
        await connector.close()
    assert len(found) == 1
    assert left.name not in found
    assert names(tmp_path) == []
