"""What `doctor --flytekit`, `doctor` and `list` say of flytekit's connectors."""

import json
from pathlib import Path
from typing import Any

import pytest

from connector_core.cli.app import run

Site = Any  # the fixture's class, which tests do not import


def described(output: str) -> dict[str, Any]:
    return {one["plugin"]: one for one in json.loads(output)["connectors"]}


@pytest.fixture
def installed(site: Site) -> Site:
    site.plugin("lake", "ConnectorRegistry.register(Jobs('lake'))")
    site.plugin("bad", "raise RuntimeError('no licence')")
    site.plugin("types", "")
    site.plugin("unwanted", "ConnectorRegistry.register(Jobs('unwanted'))")
    return site


def test_doctor_says_of_each_connector_how_it_is_served_and_what_it_lacks(
    installed: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--bridge", "flytekit", "--json", "--block-plugin", "flytekit/unwanted"]) == 1
    output = capsys.readouterr().out
    found = described(output)
    lake = found["flytekit/lake"]
    assert lake["bridged"] is True
    assert (lake["distribution"], lake["version"]) == ("flytekitplugins-lake", "1.0")
    assert (lake["connector"], lake["kind"], lake["task_types"]) == ("Jobs", "async", ["lake"])
    assert lake["methods"] == {"create": "blocking", "get": "blocking", "delete": "blocking"}
    assert (lake["lacks"], lake["delete_is_idempotent"]) == (["logs", "metrics"], "unknown")
    assert lake["class"].endswith(".Jobs")
    webhook = found["flytekit/webhook"]
    assert (webhook["kind"], webhook["methods"], webhook["lacks"]) == ("sync", {"do": "coroutine"}, [])
    reasons = {name: one["reason"] for name, one in found.items() if not one["bridged"]}
    assert reasons == {
        "flytekit/bad": "RuntimeError: no licence",
        "flytekit/types": "It registers no connector with flytekit.",
        "flytekit/unwanted": "blocked by --block-plugin",
    }
    assert json.loads(output)["problems"] == ["plugin 'flytekit/bad' failed to load: RuntimeError: no licence"]


def test_the_same_as_a_table(installed: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--flytekit", "--block-plugin", "flytekit/bad"]) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    rows = {cells[0].strip(): [cell.strip() for cell in cells if cell.strip()] for cells in lines if len(cells) > 1}
    expected = ["flytekitplugins-lake 1.0", "Jobs", "lake", "async", "blocking", "logs, metrics", "-", "yes"]
    assert rows["flytekit/lake"][1:] == expected
    assert rows["flytekit/bad"][-1] == "no: blocked by --block-plugin"
    assert rows["plugin"][-1] == "bridged"
    assert ["Nothing is wrong."] in lines


def test_what_another_plugin_serves_is_not_bridged(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    module = site.module("mine", "ConnectorRegistry.register(Jobs('webhook'))")
    assert run(["doctor", "--bridge", "flytekit", "--json", "--modules", module]) == 1
    conflicting = described(capsys.readouterr().out)["flytekit/webhook"]
    assert (conflicting["bridged"], conflicting["reason"]) == (False, "conflicts keep the host from starting")
    assert run(["doctor", "--bridge", "flytekit", "--json", "--modules", module, "--prefer", f"webhook={module}"]) == 0
    settled = described(capsys.readouterr().out)["flytekit/webhook"]
    assert (settled["bridged"], settled["reason"]) == (False, "another plugin is preferred")


def test_one_bridged_plugin_can_be_examined_alone(installed: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "flytekit/lake", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["plugins"]] == ["flytekit/lake"]
    assert run(["doctor", "flytekit/bad"]) == 1
    assert "--- flytekit/bad: traceback ---" in capsys.readouterr().out
    assert run(["doctor", "flytekit/none"]) == 2
    assert "there is no plugin 'flytekit/none' among those of 'flytekit'" in capsys.readouterr().err


def test_a_module_whose_connectors_are_flytekits_is_told_of_as_well(
    served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--bridge", "flytekit", "--json", "--modules", "their_connectors"]) == 0
    found = [one for one in json.loads(capsys.readouterr().out)["connectors"] if one["plugin"] == "their_connectors"]
    assert all(one["bridged"] for one in found)
    blocking = next(one for one in found if one["task_types"] == ["their_blocking@2"])
    assert blocking["metadata_risk"] == "unpickles its resource metas (with cloudpickle)"


def test_a_module_can_be_examined_alone(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    module = site.module("mine", "ConnectorRegistry.register(Jobs('mine'))")
    assert run(["doctor", module, "--json", "--modules", module]) == 0
    (plugin,) = json.loads(capsys.readouterr().out)["plugins"]
    assert [one["task_types"] for one in plugin["connectors"]] == [["mine"]]


@pytest.mark.parametrize("command", [["doctor"], ["doctor", "--flytekit"], ["list"]])
def test_connectors_that_unpickle_are_a_risk_that_is_named_and_no_problem(
    command: list[str], served: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*command, "--modules", "their_connectors"]
    assert run(arguments) == 0
    (risk,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("risk: resource metas")]
    assert "a connector that unpickles its resource metas (with cloudpickle) runs whatever code" in risk
    assert "'Their Blocking Jobs' of plugin 'their_connectors', 'Their Terse Jobs' of plugin" in risk
    monkeypatch.setenv("CONNECTOR_HOST__SIGNING__KEYS", "k" * 40)
    assert run(arguments) == 0
    assert "risk: resource metas" not in capsys.readouterr().out


def test_the_flag_of_before_says_the_same(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--bridge", "flytekit", "--json"]) == 0
    named = capsys.readouterr().out
    assert run(["doctor", "--flytekit", "--json"]) == 0
    assert capsys.readouterr().out == named


def test_a_plugin_that_is_not_a_bridge_is_told_so_and_one_that_is_not_there_too(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ["--allow-plugin", "sleep", "--allow-plugin", "flytekit"]
    assert run(["doctor", "--bridge", "sleep", *only]) == 2
    assert "plugin 'sleep' is not a bridge; bridges here: flytekit" in capsys.readouterr().err
    assert run(["doctor", "--bridge", "others", *only]) == 2
    assert "the plugin 'others' is not installed: pip install connector-plugin-others" in capsys.readouterr().err
