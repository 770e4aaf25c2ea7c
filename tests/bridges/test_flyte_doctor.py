"""What `doctor --bridge flyte`, `doctor` and `list` say of connectors of Flyte's SDK 2."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connector_core.cli.app import run
from tests.support.distributions import SitePackages
from tests.support.environments import try_to_run
from tests.support.flyte_sdk import ECHO, GROUP, plain

Ask = Callable[..., tuple[int, str]]

OF_FLYTEKIT = """
from flytekit.extend.backend.base_connector import AsyncConnectorBase, ConnectorRegistry, Resource, ResourceMeta

class Warehouse(AsyncConnectorBase):
    name = "Warehouse"
    def create(self, task_template, **kwargs): return ResourceMeta()
    def get(self, resource_meta, **kwargs): return Resource(phase=3)
    def delete(self, resource_meta, **kwargs): pass

ConnectorRegistry.register(Warehouse(task_type_name="load", metadata_type=ResourceMeta))
"""


@pytest.fixture
def ask(sdk_registry: None, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command on the bridge and what it finds, besides modules; return its exit code and what it printed."""

    def asked(*arguments: str) -> tuple[int, str]:
        with warnings.catch_warnings(action="ignore"):  # the SDK's own modules have some
            code = run([*arguments, "--allow-plugin", "flyte"])
        return code, capsys.readouterr().out

    return asked


def described(output: str) -> dict[str, dict[str, Any]]:
    return {one["plugin"]: one for one in json.loads(output)["connectors"]}


@pytest.fixture
def installed(site: SitePackages) -> SitePackages:
    site.add("echo", ECHO, group=GROUP, distribution="flyteplugins-echo", version="3.2.1")
    site.add("lake", plain("t_lake", "Lake"), group=GROUP, distribution="flyteplugins-lake")
    site.add("bad", "raise RuntimeError('no licence')", group=GROUP)
    site.add("types", "", group=GROUP)
    site.add("unwanted", plain("t_unwanted"), group=GROUP)
    return site


def test_doctor_says_of_each_connector_how_it_is_served_and_what_it_lacks(installed: SitePackages, ask: Ask) -> None:
    code, output = ask("doctor", "--bridge", "flyte", "--json", "--block-plugin", "flyte/unwanted")
    assert code == 1
    found = described(output)
    lake, echo = found["flyte/lake"], found["flyte/echo"]
    assert (lake["bridged"], lake["reason"]) == (True, "")
    assert (lake["distribution"], lake["version"]) == ("flyteplugins-lake", "1.0")
    assert (lake["connector"], lake["kind"], lake["task_types"]) == ("Lake", "async", ["t_lake"])
    assert lake["methods"] == dict.fromkeys(("create", "get", "delete"), "coroutine")
    assert (lake["lacks"], lake["delete_is_idempotent"]) == (["logs", "metrics"], "unknown")
    assert (echo["lacks"], echo["methods"]["get_logs"]) == ([], "async generator")
    assert echo["version"] == "3.2.1"
    reasons = {name: one["reason"] for name, one in found.items() if not one["bridged"]}
    assert reasons == {
        "flyte/bad": "RuntimeError: no licence",
        "flyte/types": "it registers no connector with flyte",
        "flyte/unwanted": "blocked by --block-plugin",
    }
    assert json.loads(output)["problems"] == ["plugin 'flyte/bad' failed to load: RuntimeError: no licence"]


def test_the_same_as_a_table(installed: SitePackages, ask: Ask) -> None:
    code, output = ask("doctor", "--bridge", "flyte", "--block-plugin", "flyte/bad")
    assert code == 0
    lines = [line.split("  ") for line in output.splitlines()]
    rows = {cells[0].strip(): [cell.strip() for cell in cells if cell.strip()] for cells in lines if len(cells) > 1}
    expected = ["flyteplugins-lake 1.0", "Lake", "t_lake", "async", "coroutine", "logs, metrics", "-", "yes"]
    assert rows["flyte/lake"][1:] == expected
    assert rows["flyte/bad"][-1] == "no: blocked by --block-plugin"
    assert rows["plugin"][-1] == "bridged"
    assert ["Nothing is wrong."] in lines


@pytest.mark.parametrize(
    ("prefer", "code", "reasons"),
    [
        ((), 1, ["conflicts keep the host from starting", "conflicts keep the host from starting"]),
        (("--prefer", "t_same=flyte/second"), 0, ["another plugin is preferred", ""]),
    ],
)
def test_what_another_plugin_serves_is_not_bridged(
    site: SitePackages, ask: Ask, prefer: tuple[str, ...], code: int, reasons: list[str]
) -> None:
    for name in ("first", "second"):
        site.add(name, plain("t_same", name.title()), group=GROUP)
    ended, output = ask("doctor", "--bridge", "flyte", "--json", *prefer)
    found = [described(output)[name] for name in ("flyte/first", "flyte/second")]
    assert ended == code
    assert [one["reason"] for one in found] == reasons
    assert [one["bridged"] for one in found] == [not reason for reason in reasons]


def test_one_bridged_plugin_can_be_examined_alone(
    installed: SitePackages, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = ask("doctor", "flyte/lake", "--json")
    assert (code, [one["name"] for one in json.loads(output)["plugins"]]) == (0, ["flyte/lake"])
    code, output = ask("doctor", "flyte/bad")
    assert code == 1
    assert "--- flyte/bad: traceback ---" in output
    assert run(["doctor", "flyte/none"]) == 2
    assert "there is no plugin 'flyte/none' among those of 'flyte'" in capsys.readouterr().err


def test_a_module_whose_connectors_are_of_the_sdk_is_told_of_as_well(site: SitePackages, ask: Ask) -> None:
    (site.folder / "team_of_the_sdk.py").write_text(plain("t_team"))
    code, output = ask(
        "doctor", "--bridge", "flyte", "--json", "--modules", "team_of_the_sdk", "--allow-plugin", "team_of_the_sdk"
    )
    assert code == 0
    assert described(output)["team_of_the_sdk"]["bridged"] is True


def test_which_of_two_bridges_keeps_the_name_of_a_connector_is_chosen(site: SitePackages, tmp_path: Path) -> None:
    """Both bridges, in a process of their own."""
    site.add("new", plain("query", "Warehouse"), group=GROUP)
    site.add("old", OF_FLYTEKIT, group="flytekit.plugins", distribution="flytekitplugins-old")
    program = Path(sys.executable).with_name("connector-host")
    command = (
        program,
        "doctor",
        "--bridge",
        "flyte",
        "--json",
        "--allow-plugin",
        "flyte",
        "--allow-plugin",
        "flytekit",
    )
    environment = {"PYTHONPATH": str(site.folder), "CONNECTOR_HOST__BLOCK_PLUGIN": ""}
    decided = try_to_run(*command, "--prefer", "name:Warehouse=flytekit/old", cwd=tmp_path, **environment)
    assert decided.returncode == 0
    new = described(decided.stdout)["flyte/new"]
    assert new["bridged"] is True
    assert new["reason"] == "another plugin keeps the name, and this one is called 'Warehouse (flyte/new)'"
