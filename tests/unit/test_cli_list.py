"""`connector-host list`: what it says of plugins, for people and for programs, and with which exit code."""

import io
import json
import sys
from pathlib import Path

import pytest

from connector_core.cli.drawing import print_table
from connector_core.cli.listing import Listing
from tests.support.environments import try_to_run

HOST = Path(sys.executable).with_name("connector-host")

PLUGIN = """
from connector_core import Phase, Resource, SyncConnectorBase, hookimpl

class Answer(SyncConnectorBase):
    name, task_type_name = {name!r}, "answer"
    def do(self, inputs):
        return Resource(Phase.SUCCEEDED)

@hookimpl
def register_connectors():
    return [Answer()]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(PLUGIN.format(name=name))
    (tmp_path / "bad.py").write_text("raise ValueError('the licence server is away')\n")
    return tmp_path


def of(*modules: str) -> list[str]:
    return [part for name in modules for part in ("--modules", name, "--allow-plugin", name)]


@pytest.mark.parametrize(
    ("modules", "variables", "code", "message"),
    [
        (["one"], {}, 0, ""),
        (["one", "bad"], {}, 0, ""),
        (["one", "bad"], {"CONNECTOR_HOST__STRICT": "true"}, 3, "plugin 'bad' failed to load: ValueError"),
        (["one"], {"CONNECTOR_HOST__REQUIRE": "other"}, 3, "plugin 'other' is required, but not installed"),
        (["one", "two"], {}, 1, "task type 'answer' is claimed by plugin 'one' and by plugin 'two'"),
        (["one", "two"], {"CONNECTOR_HOST__PREFER": "answer=one"}, 0, ""),
        (["one"], {"CONNECTOR_HOST__PORT": "none"}, 2, "must be a whole number"),
    ],
)
def test_list_ends_with_the_code_that_serve_would(
    folder: Path, modules: list[str], variables: dict[str, str], code: int, message: str
) -> None:
    listed = try_to_run(HOST, "list", *of(*modules), cwd=folder, **variables)
    assert listed.returncode == code, listed.stderr
    assert message in listed.stdout + listed.stderr
    ports = {"CONNECTOR_HOST__PORT": "0", "CONNECTOR_HOST__HTTP_PORT": "0", "CONNECTOR_HOST__TIMEOUT": "0.1"}
    served = try_to_run(HOST, "serve", *of(*modules), cwd=folder, **{**ports, **variables})
    assert served.returncode == code
    assert message in served.stderr


def test_programs_read_the_same_and_why_a_host_would_not_start(folder: Path) -> None:
    listed = try_to_run(HOST, "list", "--json", *of("one", "two", "bad"), cwd=folder)
    assert listed.returncode == 1
    described = json.loads(listed.stdout)
    assert described["start_error"].startswith("task type 'answer' is claimed by plugin 'one'")
    assert described["conflicts"] == [described["start_error"]]
    plugins = {plugin["name"]: plugin for plugin in described["plugins"] if plugin["distribution"] is None}
    assert plugins["one"]["connectors"] == [{"name": "one", "kind": "sync", "task_types": ["answer"]}]
    assert plugins["bad"]["reason"] == "ValueError: the licence server is away"
    assert "bad.py" in plugins["bad"]["traceback"]
    assert json.loads(Listing.from_json(listed.stdout).to_json()) == described


def test_a_cell_with_several_lines_keeps_the_table_whole() -> None:
    out = io.StringIO()
    print_table(out, ("name", "value"), [("a", "one\r\ntwo\x0bthree"), ("b\x1b[2J", "four\rfive\u2028six")])
    assert out.getvalue() == ("name  value\na     one\n      two\n      three\nb     four\n      five\n      six\n")


def test_a_table_without_rows_has_its_headings() -> None:
    out = io.StringIO()
    print_table(out, ("name", "value"), [])
    assert out.getvalue() == "name  value\n"
