"""The reference has all that the code has, and nothing else.

When a test here fails, run `python docs/generate.py`: it writes the tables anew. Prose and new tables are written by hand.
"""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import connector_core
from connector_core import errors, metrics
from connector_core.operations import OPERATIONS
from connector_core.protocol.statuses import STATUS_CODES, status_of
from connector_core.secrets import SecretStr
from connector_core.settings import ENV_PREFIX, Settings
from connector_core.tables import Table
from docs import generate
from tests.support.environments import ROOT

REFERENCE = ROOT / "docs" / "reference"


def read(page: str) -> str:
    return (REFERENCE / page).read_text()


def table(page: str, first_column: str) -> dict[str, list[str]]:
    """Return the rows of all tables of a page with this heading, by the plain text of their first cell."""
    rows: dict[str, list[str]] = {}
    inside = False
    for line in read(page).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            inside = False
        elif inside and not set(cells[0]) <= {"-"}:
            rows[plain(cells[0])] = cells[1:]
        elif not inside:
            inside = cells[0] == first_column
    return rows


def plain(cell: str) -> str:
    return cell.replace("`", "").replace("\\|", "|")


@pytest.mark.parametrize("page", generate.pages(), ids=lambda page: page.name)
def test_the_generated_tables_are_those_of_the_code(page: Path) -> None:
    assert page.read_text() == generate.generated(page.read_text()), "run: python docs/generate.py"


def test_every_table_that_can_be_generated_stands_on_some_page() -> None:
    markers = re.findall(r"<!-- generated: ([\w-]+) -->", "".join(page.read_text() for page in generate.pages()))
    assert sorted(markers) == sorted(generate.CONTENT)


# Hooks


def test_every_hook_is_documented_with_its_signature() -> None:
    documented = dict(
        re.findall(r"^## (\w+)\n\n```python[^\n]*\n(.*?)\n```", read("hooks.md"), re.MULTILINE | re.DOTALL)
    )
    assert documented == {hook.__name__: generate.signature(hook) for hook in generate.hookspec_functions()}
    assert "register_connectors" in documented


def test_every_argument_of_a_connectors_methods_is_explained() -> None:
    offered = {name for operation in OPERATIONS.values() for name in operation.arguments}
    explained = {name for cell in table("hooks.md", "argument") for name in cell.split(", ")}
    assert explained == offered


# Settings


def every_setting() -> dict[str, Any]:
    """Return each setting's default by its key, found in another way than the generator's."""

    found: dict[str, Any] = {}
    for name, default in msgspec.structs.asdict(Settings()).items():
        inner = msgspec.structs.asdict(default) if isinstance(default, Table) else {}
        found |= {f"{name}.{key}": value for key, value in inner.items()} or {name: default}
    return {key: as_file_value(value) for key, value in found.items()}


def as_file_value(value: Any) -> Any:
    """Return a value as a settings file has it."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value


def test_every_setting_is_documented_with_its_default() -> None:
    defaults = {key: plain(cells[2]) for key, cells in table("settings.md", "key").items()}
    documented = {key: None if shown == "not set" else json.loads(shown) for key, shown in defaults.items()}
    assert documented == every_setting()


def test_every_setting_has_its_variable_and_its_flags() -> None:
    serve = generate.commands()["serve"]
    flags = {param.name: {*param.opts, *param.secondary_opts} for param in serve.params}
    for key, (flag, variable, _default, meaning) in table("settings.md", "key").items():
        assert plain(variable) == f"{ENV_PREFIX}{key.upper().replace('.', '__')}"
        assert set(plain(flag).split(", ")) == flags.get(key, {"-"})
        assert meaning


def test_flags_are_settings() -> None:
    options = {param.name for param in generate.commands()["serve"].params}
    assert options - {"config", "reload"} <= set(Settings.__struct_fields__)


# Errors


def test_every_error_is_documented() -> None:
    documented = table("errors.md", "error")
    assert documented.keys() == {name for name in vars(errors) if name.endswith("Error")}
    for name, (parent, meaning, fault, *_) in documented.items():
        cls = getattr(errors, name)
        assert plain(parent) == cls.__bases__[0].__name__
        assert fault == cls.fault.value
        assert meaning


def test_every_error_of_a_call_says_whether_to_try_again_and_how_it_is_answered() -> None:
    in_a_call = {name: cells for name, cells in table("errors.md", "error").items() if len(cells) == 5}
    for name, (*_, again, code) in in_a_call.items():
        cls = getattr(errors, name)
        assert again == ("yes" if cls.retryable else "no")
        assert plain(code) == status_of(cls("x"), "reference").code.name
    assert {name for name in connector_core.__all__ if name.endswith("Error")} <= in_a_call.keys()


def test_every_exception_with_a_status_of_its_own_is_documented() -> None:
    documented = {name: plain(code) for name, (code,) in table("errors.md", "raised").items()}
    ours = errors.ConnectorError
    assert documented == {cls.__name__: code.name for cls, code in STATUS_CODES.items() if not issubclass(cls, ours)}


# Metrics


def test_every_metric_is_documented_with_its_labels() -> None:
    documented = {
        name: set(plain(labels).split(", ")) - {"none"}
        for series, (_type, labels, _meaning) in table("metrics.md", "series").items()
        for name in series.split(", ")
    }
    there: dict[str, set[str]] = {}
    for family in generate.metric_families():
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                there.setdefault(sample.name, set()).update(set(sample.labels) - {"le"})
    assert documented == there


def test_every_label_is_explained() -> None:
    labels = {label for family in generate.metric_families() for one in family.samples for label in one.labels}
    assert set(table("metrics.md", "label")) == labels - {"le"}


def test_every_operation_is_named() -> None:
    (values,) = table("metrics.md", "label")["operation"]
    operations = {value for name, value in vars(metrics).items() if name.endswith("_operation")}
    assert set(plain(values).split(", ")) == operations


# Command line


def test_every_command_is_documented_with_every_option() -> None:
    page = read("cli.md")
    commands = generate.commands()
    assert re.findall(r"^## connector-host (\S+)$", page, re.MULTILINE) == list(commands)
    for section, command in zip(re.split(r"^## ", page, flags=re.MULTILINE)[1:], commands.values(), strict=True):
        documented = re.findall(r"^\| `([^`]+)` \| (?!meaning)", section, re.MULTILINE)
        assert documented == [generate.option(param) for param in command.params if not param.hidden]
        assert command.help.split("\n")[0] in section


def test_the_defaults_in_the_command_lines_help_are_those_of_the_settings() -> None:
    defaults = every_setting()
    for command in generate.commands().values():
        for param in command.params:
            shown = re.search(r"\[default: (.*)\]", param.help or "")
            if shown and param.name in defaults:
                assert shown[1] == str(defaults[param.name])


# Python


def test_everything_that_the_package_exports_is_on_the_api_page() -> None:
    page = read("api.md")
    missing = [name for name in connector_core.__all__ if f"connector_core.{name}" not in page]
    assert missing == []


def test_everything_on_the_api_page_exists() -> None:
    for path in re.findall(r"^::: (\S+)$", read("api.md"), re.MULTILINE):
        module, name = path.rsplit(".", 1)
        assert hasattr(importlib.import_module(module), name), path
