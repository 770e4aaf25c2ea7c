"""Plugins that bring plugins of another kind, and modules whose connectors only such a bridge knows."""

import sys
from typing import Any

import pytest

from connector_core.errors import ConflictError
from connector_core.limits import limits_of
from connector_core.plugins import (
    PluginLoadResult,
    PluginSelection,
    build_registry,
    load_plugins,
    module_plugin,
)
from connector_core.registry import ConnectorRegistry
from connector_core.settings import Settings
from connector_core.tables import read
from tests.support.distributions import GOOD, SitePackages

BRIDGE = (
    GOOD
    + """
    from contextlib import contextmanager
    from connector_core.hookspecs import Adopted, BridgedPlugin
    import sys

    SEEN = []
    sys.modules["bridge_to_register_with"] = sys.modules[__name__]

    def broken(): raise SystemExit("no licence")

    @hookimpl
    def find_bridged_plugins():
        return [
            BridgedPlugin("good", lambda: [Job("spark"), Job("other")], "other-spark", "3.1"),
            BridgedPlugin("broken", broken, "other-broken", "0.1"),
            BridgedPlugin("empty", list, summary="It is about something else."),
        ]

    @hookimpl
    @contextmanager
    def adopt_module(module):
        adopted = Adopted()
        yield adopted
        adopted.connectors += [Job(task_type) for task_type in SEEN]
        adopted.note = "It is a good plugin's." if "known" in module else ""
        SEEN.clear()
    """
)


def load(site: SitePackages, *modules: str, **selection: Any) -> PluginLoadResult:
    sources = [*map(module_plugin, modules), *site.sources()]
    return load_plugins(sources, PluginSelection(**selection))


def names(result: PluginLoadResult) -> dict[str, list[str]]:
    return {state: [plugin.identity.name for plugin in group] for state, group in result.by_state.items()}


@pytest.fixture
def bridge(site: SitePackages) -> SitePackages:
    site.add("bridge", BRIDGE)
    return site


def test_what_a_bridge_finds_are_plugins_of_their_own_under_guards_of_their_own(bridge: SitePackages) -> None:
    result = load(bridge)
    assert names(result) == {
        "loaded": ["bridge", "bridge/good", "bridge/empty"],
        "failed": ["bridge/broken"],
        "skipped": [],
    }
    _bridge, good, empty = result.loaded
    assert str(good.identity) == "'bridge/good' (distribution other-spark 3.1)"
    assert good.identity.bridge == "bridge"
    assert [one.name.split()[1] for one in good.descriptions] == ["spark", "other"]
    assert empty.summary == "It is about something else."
    assert result.failed[0].reason == "it calls sys.exit('no licence')"


@pytest.mark.parametrize(
    ("allow", "block", "loaded"),
    [
        (["bridge"], [], ["bridge", "bridge/good", "bridge/empty"]),
        (["bridge/good"], [], ["bridge", "bridge/good"]),
        (["bri"], [], []),
        ([], ["bridge"], []),
        ([], ["bridge/good"], ["bridge", "bridge/empty"]),
    ],
)
def test_a_bridge_and_what_it_brings_are_allowed_and_blocked_by_name(
    bridge: SitePackages, allow: list[str], block: list[str], loaded: list[str]
) -> None:
    result = load(bridge, allow=allow, block=block)
    assert names(result)["loaded"] == loaded


def test_a_task_type_of_a_bridged_plugin_that_another_claims_stops_the_start_naming_both(bridge: SitePackages) -> None:
    bridge.good("native", "spark")
    with pytest.raises(ConflictError, match=r"--prefer spark=bridge/good or --prefer spark=native") as raised:
        build_registry(load(bridge), {})
    assert "distribution other-spark 3.1" in str(raised.value)
    assert build_registry(load(bridge), {"spark": "bridge/good"}).lookup("spark").plugin.name == "bridge/good"


NAMESAKE = """
    from connector_core.hookspecs import BridgedPlugin

    def namesake(*task_types):
        job = Job(task_types[0])
        job.name, job.task_categories = "Warehouse", task_types
        return job

    @hookimpl
    def find_bridged_plugins():
        return [BridgedPlugin("sql", lambda: [namesake({task_types})], "their-sql", "2.0")]
"""


def add_namesake(site: SitePackages, name: str, *task_types: str) -> None:
    """Add a bridge with a connector of a name that another bridge's has too."""
    site.add(name, GOOD + NAMESAKE.format(task_types=", ".join(map(repr, task_types))))


@pytest.fixture
def namesakes(site: SitePackages) -> SitePackages:
    """Two bridges; their connectors share a name and a task type, and each has one of its own."""
    add_namesake(site, "one", "query", "load")
    add_namesake(site, "two", "query", "export")
    return site


def served(registry: ConnectorRegistry) -> dict[str, tuple[str, list[str]]]:
    return {one.name: (one.plugin.name, [str(category) for category in one.categories]) for one in registry}


def test_two_bridges_whose_connectors_have_one_name_are_told_how_to_choose_which_keeps_it(
    namesakes: SitePackages,
) -> None:
    result = load(namesakes)
    with pytest.raises(ConflictError, match=r"--prefer query=one/sql or --prefer query=two/sql$"):
        build_registry(result, {})
    with pytest.raises(ConflictError) as raised:
        build_registry(result, {"query": "one/sql"})
    assert str(raised.value) == (
        "the connector name 'Warehouse' is used by plugin 'one/sql' (distribution their-sql 2.0) and by plugin 'two/sql' "
        "(distribution their-sql 2.0): say which one keeps it with --prefer name:Warehouse=one/sql or "
        "--prefer name:Warehouse=two/sql; any other gets its plugin's after it: 'Warehouse (two/sql)'"
    )
    with pytest.raises(ConflictError, match=r"--prefer name:Warehouse=three/sql names neither"):
        build_registry(result, {"query": "one/sql", "name:Warehouse": "three/sql"})


@pytest.mark.parametrize(("keeps", "other"), [("one/sql", "two/sql"), ("two/sql", "one/sql")])
def test_the_one_that_is_preferred_keeps_its_name_and_the_other_serves_its_own_under_a_second_one(
    namesakes: SitePackages, keeps: str, other: str
) -> None:
    settings = read(Settings, {"prefer": ["query=one/sql", f"name:Warehouse={keeps}"]})
    types = {"one/sql": ["query", "load"], "two/sql": ["export"]}
    assert served(build_registry(load(namesakes), settings.prefer)) == {
        "Warehouse": (keeps, types[keeps]),
        f"Warehouse ({other})": (other, types[other]),
    }


def test_one_that_lost_all_of_its_task_types_needs_no_name(site: SitePackages) -> None:
    add_namesake(site, "one", "query", "load")
    add_namesake(site, "two", "query")
    registry = build_registry(load(site), {"query": "one/sql"})
    assert served(registry) == {"Warehouse": ("one/sql", ["query", "load"])}


def test_a_native_plugins_connector_may_keep_its_name_beside_a_bridged_one(site: SitePackages) -> None:
    add_namesake(site, "one", "query")
    hook = "\n    @hookimpl\n    def register_connectors(): return [job]\n"
    site.add("native", GOOD + "\n    job = Job('load')\n    job.name = 'Warehouse'\n" + hook)
    registry = build_registry(load(site), {"name:Warehouse": "native"})
    assert served(registry) == {"Warehouse": ("native", ["load"]), "Warehouse (one/sql)": ("one/sql", ["query"])}
    assert registry.get_connector_metadata("Warehouse (one/sql)").supported_task_types == ["query"]


def test_limits_may_be_set_for_a_bridged_connector_its_plugin_or_the_whole_bridge(bridge: SitePackages) -> None:
    connector = next(one for plugin in load(bridge).loaded for one in plugin.descriptions)
    for section in (f"bridge/good/{connector.name}", "bridge/good", "bridge"):
        settings = read(Settings, {"limits": {section: {"workers": 3}}})
        assert limits_of(settings, connector).workers == 3
    both = read(Settings, {"limits": {"bridge": {"workers": 3}, "bridge/good": {"workers": 4}}})
    assert limits_of(both, connector).workers == 4


@pytest.mark.parametrize("answer", ["'text'", "[1]", "3"])
def test_a_bridge_that_returns_something_else_fails_alone(site: SitePackages, answer: str) -> None:
    site.good("aaa")
    site.add("bridge", GOOD + f"\n    @hookimpl\n    def find_bridged_plugins(): return {answer}\n")
    result = load(site)
    assert names(result) == {"loaded": ["aaa"], "failed": ["bridge"], "skipped": []}
    assert "not a list of BridgedPlugin" in result.failed[0].reason


def test_two_bridged_plugins_of_one_name_fail_the_bridge(site: SitePackages) -> None:
    code = "\n    @hookimpl\n    def find_bridged_plugins(): return [BridgedPlugin('same', list)] * 2\n"
    site.add("bridge", GOOD + "\n    from connector_core.hookspecs import BridgedPlugin\n" + code)
    (failed,) = load(site).failed
    assert "'bridge/same' is taken by" in failed.reason


def test_a_module_without_hooks_brings_what_a_bridge_saw_it_register(bridge: SitePackages) -> None:
    (bridge.folder / "registers.py").write_text("import bridge_to_register_with as b\nb.SEEN += ['one', 'two']\n")
    result = load(bridge, "registers")
    (module,) = [plugin for plugin in result.loaded if plugin.identity.name == "registers"]
    assert [one.name.split()[1] for one in module.descriptions] == ["one", "two"]
    assert {str(one.plugin) for one in module.descriptions} == {"'registers'"}
    assert {one.plugin.bridge for one in module.descriptions} == {"bridge"}


def test_a_module_may_bring_connectors_of_both_kinds(bridge: SitePackages) -> None:
    (bridge.folder / "both.py").write_text(
        "from connector_core import hookimpl\nimport bridge_to_register_with as b\nb.SEEN.append('theirs')\n"
        "@hookimpl\ndef register_connectors(): return [b.Job('ours')]\n"
    )
    (module,) = [plugin for plugin in load(bridge, "both").loaded if plugin.identity.name == "both"]
    assert [one.name.split()[1] for one in module.descriptions] == ["ours", "theirs"]


def test_a_module_whose_connectors_another_plugin_serves_already_says_so(bridge: SitePackages) -> None:
    (bridge.folder / "known_already.py").write_text("")
    (module,) = [plugin for plugin in load(bridge, "known_already").loaded if plugin.identity.name == "known_already"]
    assert module.connectors == ()
    assert module.summary == "It is a good plugin's."


def test_a_module_in_which_a_bridge_saw_nothing_is_told_what_a_plugin_looks_like(bridge: SitePackages) -> None:
    (bridge.folder / "nothing.py").write_text("")
    failed = next(one for one in load(bridge, "nothing").failed if one.identity.name == "nothing")
    assert "has no function marked with @hookimpl, and plugin bridge saw it register no connector" in failed.reason
    assert "a plugin is a module with a function marked as a hook" in failed.reason


def test_without_a_bridge_a_module_without_hooks_is_told_how_bridges_are_named(site: SitePackages) -> None:
    (site.folder / "theirs.py").write_text("")
    (failed,) = load(site, "theirs").failed
    assert "are served by its bridge, which is named connector-plugin-PACKAGE" in failed.reason


def test_a_module_whose_package_is_missing_names_that_packages_bridge(
    site: SitePackages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flyte", None)  # as if it were not installed
    (site.folder / "theirs_too.py").write_text("import flyte.connectors\n")
    (failed,) = load(site, "theirs_too").failed
    assert failed.reason.endswith(
        "; install it, or its bridge connector-plugin-flyte if the module's connectors are written for it"
    )
