"""`connector-host run` without a host: what the user names there may be used, whatever the settings say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from connector_plugin_duckdb.config import load_config


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "connector_core.cli",
        "run",
        "duckdb_query",
        "--allow-plugin",
        "duckdb",
        *arguments,
    ]
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(folder)}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=folder, env=environment)


def test_a_large_result_goes_to_the_temporary_folder_of_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, "--sql", "FROM range(3000)", "--json")
    assert done.returncode == 0, done.stderr
    uri = json.loads(done.stdout)["outputs"]["result"]["uri"]
    assert (Path(uri.removeprefix("file://")) / "00000.parquet").is_file()


def test_an_output_prefix_that_is_named_may_be_used(tmp_path: Path) -> None:
    done = run(tmp_path, "--sql", "FROM range(3000)", "--output-prefix", "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "result" / "00000.parquet").is_file()


@pytest.mark.parametrize("name", ["x.csv", "with a space.csv"])
def test_a_file_that_is_named_may_be_read_and_those_beside_it_may_not(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("n\n7\n")
    (tmp_path / "beside.csv").write_text("n\n8\n")
    done = run(tmp_path, "--file", f"f={name}", "--sql", "SELECT n FROM f", "--json")
    assert (done.returncode, json.loads(done.stdout)["outputs"]) == (0, {"result": 7}), done.stderr
    refused = run(tmp_path, "--file", f"f={name}", "--sql", f"FROM read_csv('{tmp_path}/beside.csv')")
    assert refused.returncode == 1
    assert "file system operations are disabled" in refused.stderr


def test_a_folder_that_is_named_may_be_read(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.csv").write_text("n\n7\n")
    done = run(tmp_path, "--file", "d=d", "--sql", "SELECT n FROM read_csv($d)", "--json")
    assert (done.returncode, json.loads(done.stdout)["outputs"]) == (0, {"result": 7}), done.stderr


def test_places_are_added_to_the_settings() -> None:
    config = load_config({"allowed_directories": ["/d"]}).opened(["file:///a%20b", "s3://bucket/x", "http://other"])
    assert config.allowed_directories == (Path("/d"), Path("/a b"))
    assert config.allowed_uris == ("s3://bucket/x",)
