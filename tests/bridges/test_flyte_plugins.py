"""What packages of flyte's bring, each as a plugin of its own: found, loaded, named, and failing alone."""

import json
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from connector_core.errors import ConflictError
from connector_core.plugins import (
    PluginLoadResult,
    PluginSelection,
    build_registry,
    installed_plugins,
    load_plugins,
    module_plugin,
)
from tests.support.distributions import SitePackages
from tests.support.environments import run
from tests.support.flyte_sdk import ECHO, GROUP, plain
from tests.support.hosts import host_process

Load = Callable[..., PluginLoadResult]


@pytest.fixture
def load(sdk_registry: None) -> Load:
    """Load the bridge and what it finds, besides modules."""

    def load_bridge(*modules: str, selection: PluginSelection | None = None) -> PluginLoadResult:
        bridge = [source for source in installed_plugins() if source.identity.name == "flyte"]
        with warnings.catch_warnings(action="ignore"):  # the SDK's own modules have some
            return load_plugins([*bridge, *(module_plugin(module) for module in modules)], selection)

    return load_bridge


def brought(result: PluginLoadResult) -> dict[str, list[str]]:
    """Return the connectors' names, by plugin."""
    return {
        plugin.identity.name: [connector.name for connector in plugin.descriptions]
        for plugin in result.loaded
        if plugin.identity.name != "flyte"
    }


def test_each_package_is_a_plugin_with_its_own_name_and_version(site: SitePackages, load: Load) -> None:
    site.add("one", plain("t_one"), group=GROUP, distribution="flyteplugins-one", version="3.2.1")
    site.add("two", plain("t_two"), group=GROUP, distribution="flyteplugins-two")
    result = load()
    assert brought(result) == {"flyte/one": ["Plain t_one"], "flyte/two": ["Plain t_two"]}
    identity = result.loaded[1].identity
    assert (identity.distribution, identity.version, identity.bridge) == ("flyteplugins-one", "3.2.1", "flyte")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("import sys; sys.exit(3)", r"it calls sys.exit\(3\)"),
        ("def f(:", "SyntaxError"),
        (plain("t_bad") + "\nraise ValueError('after it registered')", "ValueError: after it registered"),
        (plain("t_bad").replace("metadata_type = PlainMeta", "metadata_type = None"), "set `metadata_type`"),
    ],
)
def test_one_that_fails_is_named_with_the_reason_and_the_others_are_brought(
    site: SitePackages, load: Load, code: str, reason: str
) -> None:
    site.add("bad", code, group=GROUP)
    site.add("good", plain("t_good"), group=GROUP)
    result = load()
    assert brought(result) == {"flyte/good": ["Plain t_good"]}
    (failed,) = result.failed
    assert failed.identity.name == "flyte/bad"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(failed.reason)


def test_two_that_claim_one_task_type_are_both_known_and_a_setting_decides(site: SitePackages, load: Load) -> None:
    site.add("first", plain("t_same", "First"), group=GROUP)
    site.add("second", plain("t_same", "Second"), group=GROUP)
    result = load()
    with pytest.raises(ConflictError, match="--prefer t_same=flyte/first or --prefer t_same=flyte/second"):
        build_registry(result, {})
    chosen = build_registry(result, {"t_same": "flyte/second"})
    assert [connector.name for connector in chosen] == ["Second"]


def test_connectors_of_one_name_are_told_apart_by_their_task_type(site: SitePackages, load: Load) -> None:
    site.add("both", plain("t_a", "Same") + plain("t_b", "Same"), group=GROUP)
    assert brought(load()) == {"flyte/both": ["Same", "Same (t_b)"]}


def test_what_one_package_imports_of_another_stays_that_ones(site: SitePackages, load: Load) -> None:
    base = site.add("z-base", plain("t_base"), group=GROUP)
    site.add("a-derived", f"import {base}\n" + plain("t_derived"), group=GROUP)
    assert brought(load()) == {"flyte/a-derived": ["Plain t_derived"], "flyte/z-base": ["Plain t_base"]}


def test_connectors_find_each_other_in_the_registry_of_the_sdk(site: SitePackages, load: Load) -> None:
    site.add("one", plain("t_one"), group=GROUP)
    site.add("two", plain("t_two"), group=GROUP)
    load()
    from flyte.connectors import ConnectorRegistry

    assert [ConnectorRegistry.get_connector(name).name for name in ("t_one", "t_two")] == ["Plain t_one", "Plain t_two"]


def test_one_can_be_blocked_by_its_name(site: SitePackages, load: Load) -> None:
    site.add("one", "raise RuntimeError('it is imported')", group=GROUP)
    result = load(selection=PluginSelection(block=["flyte/one"]))
    assert (result.failed, [skipped.identity.name for skipped in result.skipped]) == ((), ["flyte/one"])


def test_a_module_that_registers_connectors_of_the_sdk_is_a_plugin(site: SitePackages, load: Load) -> None:
    (site.folder / "team_connectors.py").write_text(plain("t_team"))
    assert brought(load("team_connectors")) == {"team_connectors": ["Plain t_team"]}


def test_a_host_without_such_packages_does_not_import_the_sdk_and_one_with_serves_and_reports(
    site: SitePackages, tmp_path: Path
) -> None:
    ask = "import sys; from connector_core.plugins import *; load_plugins(installed_plugins()); print('flyte' in sys.modules)"
    only_ours = ask.replace("installed_plugins()", "[s for s in installed_plugins() if s.identity.name == 'flyte']")
    assert run(sys.executable, "-c", only_ours, cwd=tmp_path).stdout == "False\n"

    site.add("echo", ECHO, group=GROUP)
    site.add("bad", "raise RuntimeError('no licence')", group=GROUP)
    program = Path(sys.executable).with_name("connector-host")
    listed = run(program, "list", "--json", cwd=tmp_path, PYTHONPATH=str(site.folder))
    states = {plugin["name"]: plugin["state"] for plugin in json.loads(listed.stdout)["plugins"]}
    assert (states["flyte"], states["flyte/echo"], states["flyte/bad"]) == ("loaded", "loaded", "failed")
    with host_process(cwd=tmp_path, PYTHONPATH=str(site.folder)) as host:
        assert host.stop() == 0
    assert "flyte/echo" in host.output
    assert "RuntimeError: no licence" in host.output


def test_importing_the_sdk_leaves_the_process_as_it_was_and_its_log_lines_go_the_hosts_way() -> None:
    code = """
        import logging, os, sys
        logging.basicConfig(format="HOST %(levelname)s %(name)s %(message)s", stream=sys.stdout)
        before = sys.excepthook, logging.getLogRecordFactory(), dict(os.environ), logging.getLogger().handlers[0].formatter
        from connector_plugin_flyte.quiet import undisturbed
        with undisturbed():
            import flyte.connectors
        after = sys.excepthook, logging.getLogRecordFactory(), dict(os.environ), logging.getLogger().handlers[0].formatter
        assert before == after, (before, after)
        from flyte import logger, system_logger
        logger.warning("from a task")
        system_logger.warning("from a connector")
    """
    lines = run(sys.executable, "-c", textwrap.dedent(code)).stdout.splitlines()
    assert lines == ["HOST WARNING flyte.user from a task", "HOST WARNING flyte from a connector"]


def test_an_entry_point_that_names_no_module_fails_alone(site: SitePackages, load: Load) -> None:
    site.add("one", plain("t_one"), group=GROUP)
    site.add("odd", "", group=GROUP, entry_point="my-plugin.connector", distribution="flyteplugins-odd")
    result = load()
    assert brought(result) == {"flyte/one": ["Plain t_one"]}
    (failed,) = result.failed
    assert failed.identity.name == "flyte/odd"
    assert "'my-plugin.connector' of distribution flyteplugins-odd names no module" in failed.reason


def test_two_entry_points_of_one_name_are_told_apart_by_their_distributions(site: SitePackages, load: Load) -> None:
    site.add("same", plain("t_left"), group=GROUP, distribution="left-dist")
    site.add("same", plain("t_right"), group=GROUP, distribution="right-dist")
    assert brought(load()) == {"flyte/same-left-dist": ["Plain t_left"], "flyte/same-right-dist": ["Plain t_right"]}


def test_one_that_hangs_fails_alone(site: SitePackages, load: Load) -> None:
    site.add("one", plain("t_one"), group=GROUP)
    code = f"{textwrap.dedent(plain('t_left'))}\nimport threading\nNEVER = threading.Event()\nNEVER.wait()\n"
    module = site.add("bad", code, group=GROUP)
    site.add("two", plain("t_two"), group=GROUP)
    result = load(selection=PluginSelection(load_timeout=3))
    sys.modules[module].NEVER.set()  # its thread holds the module's lock
    assert brought(result) == {"flyte/one": ["Plain t_one"], "flyte/two": ["Plain t_two"]}
    assert [(plugin.identity.name, plugin.hangs) for plugin in result.failed] == [("flyte/bad", True)]
