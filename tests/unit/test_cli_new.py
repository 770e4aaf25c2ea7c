"""`connector-host new`: what it asks, what it writes, what it refuses without leaving anything behind."""

import ast
import os
import pty
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from connector_core.cli.app import run as connector_host
from connector_core.cli.new import TEMPLATE, core_requirement
from tests.support.environments import ROOT, clean_environment, try_to_run

pytest.importorskip("cookiecutter", reason="the extra `new` brings it")


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def new(output: Path, *arguments: str) -> int:
    return connector_host(["new", *arguments, "--output", str(output)])


def plain_cookiecutter(output: Path, *answers: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input", "--output-dir", str(output), *answers]
    return try_to_run(*command, HOME=str(output / "home"))


def test_without_a_terminal_the_task_type_is_the_name_and_the_kind_async(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(tmp_path, "ware-house") == 0
    package = tmp_path / "connector-plugin-ware-house"
    assert list(tmp_path.iterdir()) == [package]
    assert 'task_type_name = "ware_house"' in files(package)["src/connector_plugin_ware_house/connector.py"]
    assert "src/connector_plugin_ware_house/client.py" in files(package)
    assert f"{package} has a connector of kind async for the task type 'ware_house'" in capsys.readouterr().out


def test_a_name_that_is_the_distribution_s_already_is_not_doubled(tmp_path: Path) -> None:
    assert new(tmp_path, "connector-plugin-lake") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["connector-plugin-lake"]


def at_a_terminal(output: Path, typed: bytes) -> "subprocess.CompletedProcess[str]":
    """Run `connector-host new words` and type something."""
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    command = [str(Path(sys.executable).with_name("connector-host")), "new", "words", "--output", str(output)]
    try:
        return subprocess.run(
            command, stdin=theirs, capture_output=True, text=True, timeout=60, env=clean_environment(), check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)


def test_at_a_terminal_what_is_not_given_is_asked_for(tmp_path: Path) -> None:
    done = at_a_terminal(tmp_path, b"words.count\nsync\n")
    assert done.returncode == 0, done.stderr
    assert "Task type [words]:" in done.stdout
    assert "Kind (async or sync) [async]:" in done.stdout
    assert "has a connector of kind sync for the task type 'words.count'" in done.stdout


def test_who_leaves_a_question_gets_nothing_and_no_traceback(tmp_path: Path) -> None:
    done = at_a_terminal(tmp_path, b"\x04")
    assert done.returncode == 1
    assert done.stderr.strip() == "Nothing has been written."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("name", ["x", "ware_house-2", "class"])
def test_what_is_written_parses(tmp_path: Path, name: str, kind: str) -> None:
    assert new(tmp_path, name, "--kind", kind) == 0
    written = files(tmp_path)
    for path, text in written.items():
        assert "cookiecutter" not in path + text
        if path.endswith(".py"):
            ast.parse(text, path)
        if path.endswith("pyproject.toml"):
            assert list(tomllib.loads(text)["project"]["entry-points"]["connector_core.plugins"]) == [name]
    assert any(path.endswith("client.py") for path in written) == (kind == "async")


@pytest.fixture(scope="module")
def ruff() -> str:
    found = shutil.which("ruff", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("ruff is not installed")
    return found


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("name", ["x", "warehouse", "a-rather-long-name-of-a-plugin"])
def test_what_is_written_is_clean_by_its_own_rules(tmp_path: Path, name: str, kind: str, ruff: str) -> None:
    assert new(tmp_path, name, "--kind", kind) == 0
    (package,) = tmp_path.iterdir()
    for command in (("check", "--no-cache"), ("format", "--check", "--diff", "--no-cache")):
        checked = try_to_run(ruff, *command, ".", cwd=package)
        assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_what_is_written_is_clean_by_this_project_s_rules(tmp_path: Path, kind: str, ruff: str) -> None:
    assert new(tmp_path, "warehouse", "--kind", kind) == 0
    package = tmp_path / "connector-plugin-warehouse"
    rules = ("--no-cache", "--config", ROOT / "pyproject.toml")
    # RUF012: the suite's `inputs` is overridden as a plain dict, as its documentation shows. ARG002: the SDK's signature.
    checked = try_to_run(ruff, "check", *rules, "--extend-ignore", "RUF012,ARG002", ".", cwd=package)
    assert checked.returncode == 0, checked.stdout
    formatted = try_to_run(ruff, "format", "--diff", *rules, ".", cwd=package)
    assert formatted.returncode == 0, formatted.stdout


def test_what_is_written_brings_tasks_for_both_sdks(tmp_path: Path) -> None:
    assert new(tmp_path, "warehouse", "--task-type", "warehouse.query") == 0
    written = files(tmp_path / "connector-plugin-warehouse")
    for module in ("task", "flyte_task"):
        assert '"warehouse.query"' in written[f"src/connector_plugin_warehouse/{module}.py"]
    extras = tomllib.loads(written["pyproject.toml"])["project"]["optional-dependencies"]
    assert {"flytekit", "flyte"} <= extras.keys()


@pytest.mark.parametrize("name", ["", "Ware house", "9lives", "a--b", "a-", "ware/house", "../up", "wärme", "a\n"])
def test_a_name_that_no_package_can_have_is_refused(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(tmp_path, name) == 2
    assert f"{name!r} cannot be a plugin's name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_refused_name_comes_with_a_good_one_near_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new(tmp_path, "My Warehouse!") == 2
    assert "such as 'my-warehouse'" in capsys.readouterr().err


@pytest.mark.parametrize("task_type", ["", "two words", "a@1", "a/b", 'a"', "a\n"])
def test_a_task_type_that_is_none_is_refused(
    tmp_path: Path, task_type: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(tmp_path, "warehouse", "--task-type", task_type) == 2
    assert f"{task_type!r} cannot be a task type" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_kind_that_there_is_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new(tmp_path, "warehouse", "--kind", "asynchronous") == 2
    assert "unknown kind 'asynchronous'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "connector-plugin-warehouse"
    package.mkdir()
    assert new(tmp_path, "warehouse") == 2
    assert f"{package} is already there" in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == [package]


def test_an_output_folder_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new(tmp_path / "nowhere", "warehouse") == 2
    assert f"--output {tmp_path / 'nowhere'}: no such folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_the_file_system_refuses_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new(tmp_path, "a" * 300) == 2
    assert f"cannot write the package into {tmp_path}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_cookiecutter_it_says_which_command_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cookiecutter", None)  # as if it were not installed
    assert new(tmp_path, "warehouse") == 1
    assert 'pip install "connector-core[new]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("running", "requirement"),
    [
        ("0.1.0", ">=0.1,<0.2"),
        ("0.12.3", ">=0.12,<0.13"),
        ("1.4.2", ">=1.4,<2"),
        ("0.2.0rc1", ">=0.2.0rc1,<0.3"),
        ("0.2.0.dev3+local", ">=0.2.0.dev3,<0.3"),
    ],
)
def test_the_core_that_a_plugin_needs_is_the_one_that_wrote_it(running: str, requirement: str) -> None:
    assert core_requirement(running) == requirement


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_plain_cookiecutter_writes_the_same(tmp_path: Path, kind: str) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    assert new(ours, "ware_house", "--kind", kind) == 0
    done = plain_cookiecutter(theirs, "name=ware_house", f"kind={kind}")
    assert done.returncode == 0, done.stderr
    package = "connector-plugin-ware-house"
    assert files(theirs / package) == files(ours / package)


@pytest.mark.parametrize("answer", ["name=Ware house", 'name=a"b', "task_type=two words"])
def test_plain_cookiecutter_refuses_the_same(tmp_path: Path, answer: str) -> None:
    done = plain_cookiecutter(tmp_path, answer)
    assert done.returncode != 0
    assert f"{answer.partition('=')[2]!r} cannot be a" in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name != "home"]
