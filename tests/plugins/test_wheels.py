"""Real wheels in a fresh environment: a good plugin is served, a bad one is reported everywhere."""

import json
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from flyteidl.admin.agent_pb2 import ListAgentsRequest
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub

from tests.support.distributions import GOOD
from tests.support.environments import Venv, build_wheel, make_venv, run, try_to_run, uv, write_plugin
from tests.support.hosts import host_process

pytestmark = pytest.mark.slow

HOOK = "\n    @hookimpl\n    def register_connectors(): return [Job('good_task')]\n"


@pytest.fixture(scope="module")
def venv(core_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """An environment with connector-core, a good plugin and one whose import raises, all from wheels."""
    folder = tmp_path_factory.mktemp("wheels")
    good = write_plugin(folder / "good", "good", GOOD + HOOK, version="1.2.3")
    bad = write_plugin(folder / "bad", "bad", "raise RuntimeError('the licence server is away')")
    wheels = [build_wheel(package, folder) for package in (good, bad)]
    return make_venv(folder / "venv", core_wheel, *wheels)


def test_the_good_one_is_served_and_the_bad_one_reported_by_serve_and_metrics(venv: Venv, tmp_path: Path) -> None:
    with host_process(program=venv.script("connector-host"), cwd=tmp_path) as host:
        with grpc.insecure_channel(host.address) as channel:
            (agent,) = AgentMetadataServiceStub(channel).ListAgents(ListAgentsRequest()).agents
        with urlopen(host.metrics_url) as answer:
            metrics = answer.read().decode()
        assert host.stop() == 0
    assert list(agent.supported_task_types) == ["good_task"]
    assert "good    1.2.3" in host.output
    assert (
        "plugin bad (connector-plugin-bad 1.0) FAILED to load: RuntimeError: the licence server is away" in host.output
    )
    assert "connector-host doctor bad" in host.output
    state = 'flyte_connector_plugin_state{distribution="connector-plugin-bad",plugin="bad",state="failed"} 1.0'
    assert state in metrics
    assert 'flyte_connector_plugin_load_seconds{plugin="good"}' in metrics
    assert 'flyte_connector_build_info{version="' in metrics


def test_list_has_both_as_json(venv: Venv, tmp_path: Path) -> None:
    result = try_to_run(venv.script("connector-host"), "list", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    good, bad = json.loads(result.stdout)["plugins"]
    assert (good["name"], good["distribution"], good["version"], good["state"]) == (
        "good",
        "connector-plugin-good",
        "1.2.3",
        "loaded",
    )
    assert good["connectors"][0]["task_types"] == ["good_task"]
    assert good["connectors"][0]["kind"] == "async"
    assert bad["state"] == "failed"
    assert bad["reason"] == "RuntimeError: the licence server is away"


def test_doctor_shows_the_traceback_and_exits_with_1(venv: Venv, tmp_path: Path) -> None:
    result = try_to_run(venv.script("connector-host"), "doctor", cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stdout
    assert "1 problem:\n- plugin 'bad' failed to load: RuntimeError: the licence server is away" in result.stdout
    good_alone = try_to_run(venv.script("connector-host"), "doctor", "good", cwd=tmp_path)
    assert good_alone.returncode == 0, good_alone.stdout
    assert "Nothing is wrong." in good_alone.stdout


def test_doctor_of_flytekits_connectors_names_the_package_that_is_missing(venv: Venv, tmp_path: Path) -> None:
    result = try_to_run(venv.script("connector-host"), "doctor", "--flytekit", cwd=tmp_path)
    assert result.returncode == 2
    assert "the plugin 'flytekit' is not installed: pip install connector-plugin-flytekit" in result.stderr


@pytest.mark.parametrize("option", [["--strict"], ["--require", "bad"]])
def test_a_failed_plugin_that_is_required_stops_the_start_with_3(venv: Venv, tmp_path: Path, option: list[str]) -> None:
    result = try_to_run(
        venv.script("connector-host"), "serve", "--port", "0", "--http-port", "0", *option, cwd=tmp_path
    )
    assert result.returncode == 3
    assert "plugin 'bad' (distribution connector-plugin-bad 1.0) failed to load" in result.stderr
    assert "the licence server is away" in result.stderr


def test_two_wheels_for_one_task_type_stop_the_start_until_one_is_preferred(
    venv: Venv, core_wheel: Path, tmp_path: Path
) -> None:
    rival = write_plugin(tmp_path / "rival", "rival", GOOD + HOOK, requires="connector-core>=99")
    wheel = build_wheel(rival, tmp_path)
    other = make_venv(
        tmp_path / "venv", core_wheel, build_wheel(write_plugin(tmp_path / "good", "good", GOOD + HOOK), tmp_path)
    )

    run(uv(), "pip", "install", "--quiet", "--no-deps", "--python", other.python, wheel)
    program = other.script("connector-host")
    stopped = try_to_run(program, "serve", "--port", "0", "--http-port", "0", cwd=tmp_path)
    assert stopped.returncode == 1
    assert "connector-plugin-good 1.0" in stopped.stderr
    assert "connector-plugin-rival 1.0" in stopped.stderr
    assert "--prefer good_task=good or --prefer good_task=rival" in stopped.stderr
    examined = try_to_run(program, "doctor", cwd=tmp_path)
    assert examined.returncode == 1
    assert "'good_task' is claimed by" in examined.stdout
    assert "connector-plugin-rival 1.0 requires connector-core>=99, but" in examined.stdout
    with host_process("--prefer", "good_task=rival", program=program, cwd=tmp_path) as host:
        assert host.stop() == 0
    assert "(another plugin is preferred)" in host.output
