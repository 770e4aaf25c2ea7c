"""The example of a settings file has every setting, with its default, and explains each."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from connector_core.settings import ENV_PREFIX, Settings, load_settings
from docs.generate import setting_fields
from tests.support.environments import ROOT

FILE = ROOT / "examples" / "connector-host.toml"
FREE = {"limits", "locations", "prefer", "plugins"}  # tables with whatever names the operator chooses


@pytest.fixture(autouse=True)
def no_other_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in os.environ:
        if variable.startswith(ENV_PREFIX):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def keys_of(text: str) -> set[str]:
    """Return every key of a settings file, such as `deadlines.get`."""
    values = tomllib.loads(text)
    found = set()
    for name, value in values.items():
        found |= {name} if name in FREE or not isinstance(value, dict) else {f"{name}.{key}" for key in value}
    return found


def with_what_has_no_default(text: str) -> str:
    """Take the `#` from lines such as `# timeout = 3600` and from whole tables."""
    return re.sub(r"^# (\w+ = [^`\n]*|\[.*\])$", r"\1", text, flags=re.MULTILINE)


def test_it_sets_every_setting_to_its_default() -> None:
    assert load_settings(file=FILE) == load_settings()


def test_it_has_every_setting() -> None:
    assert keys_of(with_what_has_no_default(FILE.read_text())) >= {key for key, _field in setting_fields(Settings)}


def test_only_what_has_no_default_is_commented_out() -> None:
    unset = {key for key, field in setting_fields(Settings) if field.default is None}
    assert {key for key, _field in setting_fields(Settings)} - keys_of(FILE.read_text()) == unset


def test_with_what_has_no_default_it_is_valid_as_well(tmp_path: Path) -> None:
    file = tmp_path / "all.toml"
    file.write_text(with_what_has_no_default(FILE.read_text()))
    assert load_settings(file=file).timeout == 3600


def test_every_setting_is_explained() -> None:
    """By a line above it or a remark behind it; in a table of operations or names, the line above the table is enough."""
    top = FILE.read_text().split("\n[prefer]")[0]
    lines = top.splitlines()
    settings = [number for number, line in enumerate(lines) if re.match(r"(# )?\w+ = \S+$", line)]
    assert [lines[number] for number in settings if not lines[number - 1].startswith("# ")] == []
    tables = re.findall(r"^(.*)\n\[\w+\]$", FILE.read_text(), re.MULTILINE)
    assert [above for above in tables if not above.startswith("# ")] == []
