"""From entry points to loaded plugins; each bad one is named and stops nobody else."""

from typing import Any

import pytest

from connector_core.errors import ConflictError, PluginLoadError
from connector_core.plugins import (
    Discovered,
    FailedPlugin,
    PluginSelection,
    build_registry,
    check_required,
    load_discovered,
    load_plugins,
    module_plugin,
    refuse_shared_names,
)
from connector_core.settings import Settings
from connector_core.tables import read
from tests.support.distributions import GOOD, SitePackages

HOOK = "\n    @hookimpl\n    def register_connectors(): "


def load_one_bad(site: SitePackages, code: str, entry_point: str | None = None) -> FailedPlugin:
    """Load a bad plugin between two good ones; return how it failed, once it is sure that they did not."""
    site.good("aaa")
    site.add("bad", code, entry_point=entry_point)
    site.good("zzz")
    result = load_plugins(site.sources())
    assert [plugin.identity.name for plugin in result.loaded] == ["aaa", "zzz"]
    (failed,) = result.failed
    assert failed.identity.distribution == "connector-plugin-bad"
    assert failed.identity.version == "1.0"
    return failed


def test_installed_plugins_are_found_with_distribution_and_version(site: SitePackages) -> None:
    site.good("one", version="2.3")
    (plugin,) = load_plugins(site.sources()).loaded
    assert str(plugin.identity) == "'one' (distribution connector-plugin-one 2.3)"
    assert [str(category) for category in plugin.descriptions[0].categories] == ["one"]
    assert plugin.seconds > 0


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "METADATA",
            "Metadata-Version: 2.1\nName: a-plugin\nVersion: 2.3\nSummary: of\n  Name: folded\n\nName: body\nVersion: 0\n",
        ),
        ("METADATA", "Metadata-Version: 2.1\r\nname:  a-plugin\r\nVERSION: 2.3\r\n\r\nVersion: 0\r\n"),
        ("PKG-INFO", "Metadata-Version: 2.1\nVersion: 2.3\nName: a-plugin\n"),
    ],
    ids=["a body like a head", "other spellings", "an egg"],
)
def test_name_and_version_are_those_of_the_metadatas_head(site: SitePackages, file: str, text: str) -> None:
    site.good("one")
    (folder,) = site.folder.glob("*.dist-info")
    (folder / "METADATA").unlink()
    (folder / file).write_bytes(text.encode())
    if file == "PKG-INFO":
        folder.rename(folder.with_suffix(".egg-info"))
    (source,) = site.sources()
    assert (source.identity.distribution, source.identity.version) == ("a-plugin", "2.3")


def test_finding_plugins_imports_nothing(site: SitePackages) -> None:
    site.add("bad", "raise RuntimeError('imported')")
    (source,) = site.sources()
    assert source.identity.name == "bad"


def test_a_plugin_that_raises_at_import_fails_alone_with_its_traceback(site: SitePackages) -> None:
    failed = load_one_bad(site, "raise RuntimeError('no licence found')")
    assert failed.reason == "RuntimeError: no licence found"
    assert "Traceback" in failed.traceback
    assert "no licence found" in failed.traceback


def test_a_plugin_that_exits_at_import_fails_alone(site: SitePackages) -> None:
    assert load_one_bad(site, "import sys; sys.exit(4)").reason == "it calls sys.exit(4)"


def test_a_plugin_that_raises_what_is_no_ordinary_exception_at_import_fails_alone(site: SitePackages) -> None:
    assert load_one_bad(site, "import asyncio; raise asyncio.CancelledError").reason.startswith("CancelledError")


def test_a_plugin_whose_exception_cannot_be_printed_fails_alone(site: SitePackages) -> None:
    code = "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd"
    assert load_one_bad(site, code).reason == "Odd: (its text cannot be read)"


def test_a_plugin_with_a_syntax_error_fails_alone(site: SitePackages) -> None:
    assert load_one_bad(site, "def broken(:").reason.startswith("SyntaxError")


def test_an_entry_point_without_its_module_or_attribute_fails_alone(site: SitePackages) -> None:
    assert "not_there" in load_one_bad(site, "", entry_point="{module}:not_there").reason


def test_a_misspelt_hook_is_named_with_the_right_spelling(site: SitePackages) -> None:
    code = GOOD + "\n    @hookimpl\n    def register_connector(): return []\n"
    assert (
        "register_connector() that does not exist; did you mean register_connectors?" in load_one_bad(site, code).reason
    )


def test_a_hook_that_asks_for_an_argument_that_does_not_exist_is_named(site: SitePackages) -> None:
    code = GOOD + "\n    @hookimpl\n    def register_connectors(settings): return []\n"
    assert "settings" in load_one_bad(site, code).reason


def test_a_module_without_hooks_is_told_what_a_plugin_looks_like(site: SitePackages) -> None:
    reason = load_one_bad(site, GOOD).reason
    assert "no function marked with @hookimpl" in reason
    assert "def register_connectors():" in reason


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 5", "returned int, not a list of connectors"),
        ("return Job('x')", "returned Job, not a list of connectors"),
        ("return [5]", "brings 5: not an AsyncConnectorBase or SyncConnectorBase"),
        ("return [Job]", "brings the class Job; make an instance"),
        ("return [Job('x'), Job('x')]", "task type 'x' is claimed by connector"),
        ("raise ValueError('no url')", "ValueError: no url"),
    ],
)
def test_a_hook_that_brings_something_else_than_connectors_is_refused(
    site: SitePackages, body: str, message: str
) -> None:
    assert message in load_one_bad(site, GOOD + HOOK + body + "\n").reason


def test_a_method_that_asks_for_an_unknown_argument_is_named_with_what_it_can_have(site: SitePackages) -> None:
    code = GOOD + "\n    class Odd(Job):\n        def create(self, inptus): pass\n" + HOOK + "return [Odd('x')]\n"
    reason = load_one_bad(site, code).reason
    assert "Odd.create() asks for an argument 'inptus' that does not exist (did you mean 'inputs'?)" in reason
    assert "task_template, inputs, literals" in reason


def test_an_abstract_method_that_is_left_out_is_named(site: SitePackages) -> None:
    code = (
        GOOD
        + "\n    class Half(AsyncConnectorBase[ResourceMeta]):\n        name = task_type_name = 'half'\n"
        + "        def create(self): pass\n        def get(self): pass\n"
        + HOOK
        + "return [Half()]\n"
    )
    reason = load_one_bad(site, code).reason
    assert "Half" in reason
    assert "delete" in reason


def test_a_connector_that_does_not_say_its_resource_meta_is_refused(site: SitePackages) -> None:
    code = (
        GOOD
        + "\n    class Bare(AsyncConnectorBase):\n        name = task_type_name = 'bare'\n"
        + "        def create(self): pass\n        def get(self): pass\n        def delete(self): pass\n"
        + HOOK
        + "return [Bare()]\n"
    )
    assert "does not say which ResourceMeta it uses" in load_one_bad(site, code).reason


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("confg", "has an argument 'confg' that the hook does not offer; did you mean 'config'?"),
        ("config, zebra", "has an argument 'zebra' that the hook does not offer; it offers 'config', 'places'"),
    ],
)
def test_a_hook_with_an_argument_that_there_is_not_is_refused(site: SitePackages, arguments: str, reason: str) -> None:
    code = GOOD + f"\n    @hookimpl\n    def register_connectors({arguments}): return []\n"
    refused = load_one_bad(site, code).reason
    assert refused.startswith("register_connectors() in 'fake_bad_")
    assert refused.endswith(reason)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [("3", "brings 3: not an AsyncConnectorBase or SyncConnectorBase"), ("Job(None)", "task_type_name")],
)
def test_the_reason_does_not_say_the_plugins_name_again(site: SitePackages, bad: str, reason: str) -> None:
    refused = load_one_bad(site, GOOD + HOOK + f"return [{bad}]\n").reason
    assert reason in refused
    assert "plugin 'bad'" not in refused


def test_an_entry_point_that_is_a_class_is_refused(site: SitePackages) -> None:
    assert "is the class Job" in load_one_bad(site, GOOD, entry_point="{module}:Job").reason


def test_an_entry_point_may_be_an_object_with_hooks(site: SitePackages) -> None:
    code = (
        GOOD
        + "\n    class Plugin:\n        @hookimpl\n        def register_connectors(self): return [Job('x')]\n"
        + "    it = Plugin()\n"
    )
    site.add("object", code, entry_point="{module}:it")
    (plugin,) = load_plugins(site.sources()).loaded
    assert len(plugin.connectors) == 1


def test_a_plugin_gets_its_own_section_of_the_settings(site: SitePackages) -> None:
    site.add(
        "chosen", GOOD + "\n    @hookimpl\n    def register_connectors(config): return [Job(config['task_type'])]\n"
    )
    selection = PluginSelection(configs={"chosen": {"task_type": "configured"}})
    (plugin,) = load_plugins(site.sources(), selection).loaded
    assert str(plugin.descriptions[0].categories[0]) == "configured"


def test_a_plugin_that_asks_for_the_places_of_a_local_run_gets_them(site: SitePackages) -> None:
    code = GOOD + "\n    @hookimpl\n    def register_connectors(places): return [Job(p) for p in places]\n"
    site.add("placed", code)
    selection = PluginSelection(places=["file:///a", "s3://b"])
    (plugin,) = load_plugins(site.sources(), selection).loaded
    assert [str(one.categories[0]) for one in plugin.descriptions] == ["file:///a", "s3://b"]
    (plugin,) = load_plugins(site.sources()).loaded
    assert plugin.descriptions == ()


def test_a_section_that_a_variable_names_reaches_a_plugin_with_capitals_and_dashes(site: SitePackages) -> None:
    code = (
        GOOD + "\n    @hookimpl\n    def register_connectors(config): return [Job(config.get('task_type', 'unset'))]\n"
    )
    site.add("My-Plugin", code)
    site.add("my_plugin", code, distribution="another")
    sources = [source for source in site.sources() if source.identity.name == "My-Plugin"]
    settings = read(Settings, {"plugins": {"my_plugin": {"task_type": "chosen"}}})
    (plugin,) = load_discovered(Discovered(tuple(sources)), settings).loaded
    assert str(plugin.descriptions[0].categories[0]) == "chosen"
    both = load_discovered(site.found(), settings).loaded
    chosen = {plugin.identity.name: str(plugin.descriptions[0].categories[0]) for plugin in both}
    assert chosen == {"My-Plugin": "unset", "my_plugin": "chosen"}


def one_that_loads_and_two_that_do_not(site: SitePackages) -> None:
    site.add("one", GOOD.replace('f"{__name__} {task_type}"', '"Job"') + HOOK + "return [Job('spark')]\n")
    site.good("shut", "ray")
    site.add("bad", "raise RuntimeError('no')")


@pytest.mark.parametrize(
    ("written", "warning"),
    [
        ({"plugins": {"on": {}}}, "[plugins.on]: unknown plugin 'on'; did you mean 'one'?"),
        ({"plugins": {"zebra": {}}}, "[plugins.zebra]: unknown plugin 'zebra'; there are bad, one, shut"),
        ({"block_plugin": ["shut", "on"]}, "--block-plugin on: unknown plugin 'on'; did you mean 'one'?"),
        ({"in_place": ["on"]}, "in_place on: unknown plugin 'on'; did you mean 'one'?"),
        ({"limits": {"on": {}}}, "[limits.on]: unknown plugin 'on'; did you mean 'one'?"),
        (
            {"limits": {"one/Jog": {}}},
            "[limits.\"one/Jog\"]: plugin 'one' has no connector 'Jog'; did you mean 'Job'?",
        ),
        ({"prefer": {"x": "on"}}, "prefer x=on: unknown plugin 'on'; did you mean 'one'?"),
        (
            {"prefer": {"spork": "one"}},
            "prefer spork=one: plugin 'one' has no task type 'spork'; did you mean 'spark'?",
        ),
        (
            {"prefer": {"name:Jog": "one"}},
            "prefer name:Jog=one: plugin 'one' has no connector 'Jog'; did you mean 'Job'?",
        ),
    ],
    ids=str,
)
def test_a_name_that_nothing_here_has_is_a_warning_with_a_near_one(
    site: SitePackages, written: dict[str, Any], warning: str
) -> None:
    one_that_loads_and_two_that_do_not(site)
    settings = read(Settings, {"block_plugin": ["shut"], **written})
    assert warning in load_discovered(site.found(), settings).warnings


def test_names_that_are_here_or_cannot_be_known_are_no_warnings(site: SitePackages) -> None:
    one_that_loads_and_two_that_do_not(site)
    names = ("one", "one/Job", "one_job", "shut", "shut/Any", "bad/Any")
    written = {
        "block_plugin": ["shut", "bad/brought"],
        "in_place": ["one", "bad", "shut"],
        "limits": {key: {} for key in names},
        "plugins": {key: {} for key in ("one", "bad", "shut/brought")},
        "prefer": {"spark": "one", "ray": "shut", "any": "bad", "name:Job": "one", "name:Any": "bad"},
    }
    assert load_discovered(site.found(), read(Settings, written)).warnings == ()


def test_blocked_and_not_allowed_plugins_are_skipped_with_the_reason_and_not_imported(site: SitePackages) -> None:
    site.good("one")
    site.add("two", "raise RuntimeError('imported')")
    site.add("three", "raise RuntimeError('imported')")
    result = load_plugins(site.sources(), PluginSelection(allow=["one", "two"], block=["two"]))
    assert [plugin.identity.name for plugin in result.loaded] == ["one"]
    assert {plugin.identity.name: plugin.reason for plugin in result.skipped} == {
        "two": "blocked by --block-plugin",
        "three": "not among --allow-plugin one, two",
    }


def test_two_distributions_with_one_entry_point_name_stop_the_start(site: SitePackages) -> None:
    site.good("same", "x", distribution="first-dist")
    site.good("same", "y", distribution="second-dist", version="3.0")
    with pytest.raises(ConflictError) as raised:
        refuse_shared_names(site.sources())
    assert "first-dist 1.0" in str(raised.value)
    assert "second-dist 3.0" in str(raised.value)


def test_two_plugins_for_one_task_type_stop_the_start_naming_both_and_the_setting(site: SitePackages) -> None:
    site.good("one", "spark", "left")
    site.good("two", "spark")
    with pytest.raises(ConflictError) as raised:
        build_registry(load_plugins(site.sources()), {})
    message = str(raised.value)
    assert "connector-plugin-one 1.0" in message
    assert "connector-plugin-two 1.0" in message
    assert "--prefer spark=one or --prefer spark=two" in message


def test_a_preference_settles_who_serves_a_task_type_and_leaves_the_rest(site: SitePackages) -> None:
    several = (
        GOOD
        + HOOK
        + "\n        job = Job('spark')\n        job.task_categories = ['spark', 'left']\n        return [job]\n"
    )
    site.add("one", several)
    site.good("two", "spark")
    registry = build_registry(load_plugins(site.sources()), {"spark": "two"})
    assert registry.lookup("spark").plugin.name == "two"
    assert registry.lookup("left").plugin.name == "one"
    assert [list(agent.supported_task_types) for agent in registry.list_connectors()] == [["left"], ["spark"]]


def test_a_preference_for_a_plugin_that_does_not_claim_the_task_type_settles_nothing(site: SitePackages) -> None:
    site.good("one", "spark")
    site.good("two", "spark")
    with pytest.raises(ConflictError, match="prefer spark=three names neither"):
        build_registry(load_plugins(site.sources()), {"spark": "three"})


def test_a_module_is_a_plugin_like_an_installed_one(site: SitePackages) -> None:
    (site.folder / "my_connectors.py").write_text(
        "from connector_core import hookimpl\n@hookimpl\ndef register_connectors(): return []\n"
    )
    (plugin,) = load_plugins([module_plugin("my_connectors")]).loaded
    assert plugin.identity.name == "my_connectors"
    assert plugin.identity.distribution is None


def test_a_required_plugin_that_failed_is_fatal_and_so_is_any_with_strict(site: SitePackages) -> None:
    site.add("bad", "raise RuntimeError('no licence')")
    result = load_plugins(site.sources())
    check_required(result, Settings())
    for settings in (Settings(require=("bad",)), Settings(strict=True)):
        with pytest.raises(PluginLoadError, match=r"plugin 'bad' .* failed to load: RuntimeError: no licence"):
            check_required(result, settings)


def test_a_required_plugin_that_is_not_there_or_skipped_is_fatal(site: SitePackages) -> None:
    site.good("one")
    with pytest.raises(PluginLoadError, match="'on' is required, but not installed \\(there are one\\)"):
        check_required(load_plugins(site.sources()), Settings(require=("on",)))
    skipped = load_plugins(site.sources(), PluginSelection(block=["one"]))
    with pytest.raises(PluginLoadError, match="blocked by --block-plugin"):
        check_required(skipped, Settings(require=("one",)))
