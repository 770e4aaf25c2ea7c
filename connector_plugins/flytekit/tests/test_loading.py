"""Which of flytekit's plugins are served, and what becomes of those that cannot be."""

import logging
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from connector_core.errors import ConflictError
from connector_core.plugins import (
    LoadedPlugin,
    PluginLoadResult,
    PluginSelection,
    PluginSource,
    build_registry,
    load_plugins,
    module_plugin,
)
from connector_core.testing import running_server

Site = Any  # the fixture's class, which tests do not import


def load(bridge: PluginSource, *modules: str, **selection: Any) -> PluginLoadResult:
    return load_plugins([bridge, *map(module_plugin, modules)], PluginSelection(**selection))


def the(result: PluginLoadResult, name: str) -> LoadedPlugin:
    return next(plugin for plugin in result.loaded if plugin.identity.name == name)


def task_types(plugin: LoadedPlugin) -> dict[str, list[str]]:
    return {one.name: [str(category) for category in one.categories] for one in plugin.descriptions}


def test_what_flytekit_has_without_plugins_is_served(bridge: PluginSource) -> None:
    result = load(bridge)
    assert task_types(the(result, "flytekit/webhook")) == {"Webhook Connector": ["webhook"]}
    assert task_types(the(result, "flytekit/sensor")) == {"Sensor": ["sensor"]}
    assert the(result, "flytekit/webhook").identity.distribution == "flytekit"


def test_each_plugin_of_flytekits_is_one_of_the_host(bridge: PluginSource, site: Site) -> None:
    site.plugin("lake", "ConnectorRegistry.register(Jobs('lake')); ConnectorRegistry.register(Jobs('lake', 1))")
    plugin = the(load(bridge), "flytekit/lake")
    assert str(plugin.identity) == "'flytekit/lake' (distribution flytekitplugins-lake 1.0)"
    assert task_types(plugin) == {"Jobs": ["lake"], "Jobs (lake)": ["lake@1"]}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("ConnectorRegistry.register(Jobs('left'))\nraise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import sys; sys.exit(3)", "it calls sys.exit(3)"),
        ("def broken(:", "SyntaxError"),
        ("import not_installed_at_all", "ModuleNotFoundError: No module named 'not_installed_at_all'"),
        ("ConnectorRegistry.register(1)", "AttributeError"),
    ],
)
async def test_one_that_fails_at_import_leaves_the_others(
    bridge: PluginSource, site: Site, code: str, reason: str
) -> None:
    site.plugin("aaa", "ConnectorRegistry.register(Jobs('aaa_jobs'))")
    site.plugin("bad", code)
    site.plugin("zzz", "ConnectorRegistry.register(Jobs('zzz_jobs'))")
    async with running_server(plugins=[bridge]) as host:
        (failed,) = host.server.plugins.failed
        listed = {one for agent in await host.list_connectors() for one in agent.supported_task_types}
        meta = await host.create("zzz_jobs")
        assert (await host.get("zzz_jobs", meta)).message == "j-1"
    assert failed.identity.name == "flytekit/bad"
    assert failed.identity.distribution == "flytekitplugins-bad"
    assert reason in failed.reason
    assert {"aaa_jobs", "zzz_jobs", "sensor", "webhook"} <= listed
    assert "left" not in listed


def test_two_of_flytekits_plugins_that_claim_a_task_type_stop_the_start_naming_both(
    bridge: PluginSource, site: Site
) -> None:
    for name in ("one", "two"):
        site.plugin(name, "ConnectorRegistry.register(Jobs('contested'))")
    result = load(bridge)
    assert not result.failed
    with pytest.raises(ConflictError, match="--prefer contested=flytekit/one or --prefer contested=flytekit/two"):
        build_registry(result, {})
    assert build_registry(result, {"contested": "flytekit/two"}).lookup("contested").plugin.name == "flytekit/two"


def test_a_plugin_that_is_about_something_else_is_no_failure(bridge: PluginSource, site: Site) -> None:
    site.plugin("types", "")
    plugin = the(load(bridge), "flytekit/types")
    assert (plugin.connectors, plugin.summary) == ((), "It registers no connector with flytekit.")


def test_a_blocked_plugin_is_not_imported(bridge: PluginSource, site: Site) -> None:
    module = site.plugin("heavy", "ConnectorRegistry.register(Jobs('heavy'))")
    result = load(bridge, block=["flytekit/heavy"])
    assert [one.identity.name for one in result.skipped] == ["flytekit/heavy"]
    assert module not in sys.modules


def test_a_connector_is_its_own_plugins_whoever_imports_it_first(bridge: PluginSource, site: Site) -> None:
    needed = site.plugin("needed", "ConnectorRegistry.register(Jobs('needed'))")
    site.plugin("eager", f"import {needed}\nConnectorRegistry.register(Jobs('eager'))")
    result = load(bridge)
    assert list(task_types(the(result, "flytekit/needed")).values()) == [["needed"]]
    assert list(task_types(the(result, "flytekit/eager")).values()) == [["eager"]]


def test_two_entry_points_of_one_name_are_told_apart_by_their_distributions(bridge: PluginSource, site: Site) -> None:
    site.plugin("same", "ConnectorRegistry.register(Jobs('left_jobs'))", distribution="left-dist")
    site.plugin("same", "ConnectorRegistry.register(Jobs('right_jobs'))", distribution="right-dist")
    result = load(bridge)
    assert list(task_types(the(result, "flytekit/same-left-dist")).values()) == [["left_jobs"]]
    assert list(task_types(the(result, "flytekit/same-right-dist")).values()) == [["right_jobs"]]


def test_the_old_names_are_served_as_well(bridge: PluginSource, site: Site) -> None:
    site.plugin(
        "old",
        """
        from flytekit.extend.backend.base_agent import AgentRegistry, AsyncAgentBase, SyncAgentBase
        class OldAgent(SyncAgentBase):
            name = "Old Agent"
            def __init__(self): super().__init__(task_type_name="old")
            async def do(self, task_template, inputs=None, **kwargs): ...
        AgentRegistry.register(OldAgent())
        """,
    )
    (connector,) = the(load(bridge), "flytekit/old").descriptions
    assert (connector.name, connector.is_sync) == ("Old Agent", True)


def test_a_method_that_asks_for_what_flytekit_does_not_pass_is_refused_by_name(
    bridge: PluginSource, site: Site
) -> None:
    site.plugin("odd", "Jobs.delete = lambda self, context: None\nConnectorRegistry.register(Jobs('odd'))")
    (failed,) = load(bridge).failed
    assert "Jobs.delete() asks for 'context', which flytekit does not pass either" in failed.reason


def test_plugins_load_again_in_the_same_process(bridge: PluginSource, site: Site) -> None:
    site.plugin("again", "ConnectorRegistry.register(Jobs('again'))")
    first, second = (task_types(the(load(bridge), "flytekit/again")) for _time in range(2))
    assert first == second


class TestModules:
    """`--modules`, for modules that register with flytekit and know nothing of the host."""

    async def test_a_module_brings_what_it_registers(self, bridge: PluginSource, site: Site) -> None:
        module = site.module("mine", "ConnectorRegistry.register(Jobs('mine'))")
        async with running_server(plugins=[module, bridge]) as host:
            meta = await host.create("mine")
            assert (await host.get("mine", meta)).message == "j-1"
            assert host.server.registry.lookup("mine").plugin.name == module

    def test_a_package_brings_what_its_submodules_register(self, bridge: PluginSource, site: Site) -> None:
        inner = site.module("inner", "ConnectorRegistry.register(Jobs('inside'))")
        outer = site.module("outer", f"import {inner}")
        assert list(task_types(the(load(bridge, outer), outer)).values()) == [["inside"]]

    def test_a_module_that_is_a_plugin_already_says_whose_its_connectors_are(
        self, bridge: PluginSource, site: Site
    ) -> None:
        module = site.plugin("twice", "ConnectorRegistry.register(Jobs('twice'))")
        result = load(bridge, module)
        assert the(result, module).connectors == ()
        assert the(result, module).summary == "Its connectors are those of plugin flytekit/twice."
        assert build_registry(result, {}).lookup("twice").plugin.name == "flytekit/twice"

    def test_a_module_that_claims_what_a_plugin_serves_is_a_conflict(self, bridge: PluginSource, site: Site) -> None:
        module = site.module("mine", "ConnectorRegistry.register(Jobs('webhook'))")
        with pytest.raises(ConflictError, match=f"--prefer webhook=flytekit/webhook or --prefer webhook={module}"):
            build_registry(load(bridge, module), {})

    def test_a_module_that_registers_nothing_is_told_so(self, bridge: PluginSource, site: Site) -> None:
        module = site.module("empty", "")
        (failed,) = load(bridge, module).failed
        assert "plugin flytekit saw it register no connector" in failed.reason


def in_a_process_of_its_own(code: str, site: Site) -> "subprocess.CompletedProcess[str]":
    """Run code where nothing has imported flytekit yet."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": str(site.folder), "HOME": str(site.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_another_plugin_could_not_import_is_served_all_the_same(site: Site) -> None:
    """A plugin of the host's that imports flytekit fails with any of flytekit's plugins; the bridge comes after it."""
    site.plugin("bad", "raise RuntimeError('no licence')")
    site.plugin("good", "ConnectorRegistry.register(Jobs('good_jobs'))")
    code = """
        try:
            import flytekit
        except RuntimeError:
            pass
        else:
            raise AssertionError("flytekit imports one plugin after the other now")
        from connector_core.plugins import installed_plugins, load_plugins
        result = load_plugins([one for one in installed_plugins() if one.identity.name == "flytekit"])
        print(*(str(one) for plugin in result.loaded for entry in plugin.descriptions for one in entry.categories))
        print(*(plugin.identity.name for plugin in result.failed))
    """
    result = in_a_process_of_its_own(code, site)
    assert result.stdout == "sensor webhook good_jobs\nflytekit/bad\n", result.stderr


def test_importing_flytekit_leaves_the_process_as_it_was(site: Site) -> None:
    site.plugin("noisy", "import logging, signal, sys\nprint('hello')\nsys.excepthook = None\nlogging.basicConfig()\n")
    site.plugin("bad", "raise RuntimeError('no licence')")
    code = """
        import io, logging, os, signal, sys
        logging.basicConfig(stream=(log := io.StringIO()), format="%(name)s: %(message)s")
        def state():
            root = logging.getLogger()
            handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
            return sys.excepthook, handlers, list(root.handlers), root.level, dict(os.environ)
        before = state()
        from connector_core.plugins import installed_plugins, load_plugins
        result = load_plugins([one for one in installed_plugins() if one.identity.name == "flytekit"])
        assert state() == before, (before, state())
        assert [one.identity.name for one in result.failed] == ["flytekit/bad"], result.failed
        logging.getLogger("flytekit").warning("a word")
        logging.getLogger("user_space").warning("another")
        said = [line for line in log.getvalue().splitlines() if "is still loading" not in line]
        assert said == ["flytekit: a word", "user_space: another"], log.getvalue()
    """
    result = in_a_process_of_its_own(code, site)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "hello" in result.stderr
    assert "Traceback" not in result.stderr


async def test_a_call_never_takes_ctrl_c_from_the_host(bridge: PluginSource, served: Path) -> None:
    taken = signal.getsignal(signal.SIGINT)  # flytekit itself may have run in this process before
    before = signal.default_int_handler
    signal.signal(signal.SIGINT, before)
    async with running_server(
        plugins=[bridge, "their_connectors"], settings={"in_place": ["their_connectors"]}
    ) as host:
        await host.execute("their_answers", {"n": 1})  # on this thread, the only one that may take signals
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, taken)
    assert logging.getLogger("flytekit").handlers == []


@pytest.mark.parametrize("value", ["my-plugin.connector", "", "two words"])
def test_an_entry_point_that_names_no_module_fails_alone(bridge: PluginSource, site: Site, value: str) -> None:
    site.plugin("good", "ConnectorRegistry.register(Jobs('good_jobs'))")
    site.entry_point("odd", value)
    result = load(bridge)
    (failed,) = result.failed
    assert str(failed.identity) == "'flytekit/odd' (distribution flytekitplugins-odd 1.0)"
    assert f"entry point odd = {value!r} of distribution flytekitplugins-odd names no module" in failed.reason
    assert {"flytekit/good", "flytekit/sensor"} <= {plugin.identity.name for plugin in result.loaded}


def test_a_plugin_of_a_distribution_without_metadata_fails_alone(bridge: PluginSource, site: Site) -> None:
    module = site.plugin("damaged", "ConnectorRegistry.register(Jobs('damaged'))")
    (site.folder / "flytekitplugins_damaged-1.0.dist-info" / "METADATA").unlink()
    (failed,) = load(bridge).failed
    assert "METADATA is missing or empty; reinstall the distribution" in failed.reason
    assert module not in sys.modules


def test_one_that_hangs_fails_alone_and_leaves_the_process_as_it_was(bridge: PluginSource, site: Site) -> None:
    code = "ConnectorRegistry.register(Jobs('left'))\nimport threading\nNEVER = threading.Event()\nNEVER.wait()"
    module = site.plugin("bad", code)
    site.plugin("good", "ConnectorRegistry.register(Jobs('good_jobs'))")
    before = sys.stdout, logging.getLogger().handlers[:]
    result = load(bridge, load_timeout=3)
    sys.modules[module].NEVER.set()  # its thread holds the module's lock
    assert [plugin.identity.name for plugin in result.failed] == ["flytekit/bad"]
    assert result.failed[0].hangs
    assert {"flytekit/good", "flytekit/sensor"} <= {plugin.identity.name for plugin in result.loaded}
    assert "left" not in {
        str(one) for plugin in result.loaded for entry in plugin.descriptions for one in entry.categories
    }
    assert (sys.stdout, logging.getLogger().handlers[:]) == before


def test_a_damaged_distribution_of_somebody_else_does_not_keep_flytekit_from_being_imported(site: Site) -> None:
    """fsspec, which flytekit imports, asks Python for the entry points of all distributions."""
    site.plugin("good", "ConnectorRegistry.register(Jobs('good_jobs'))")
    files = {"entry_points.txt": b"[console_scripts]\njust-a-word\n", "METADATA": b"Name: caf\xe9\n"}
    for name, data in files.items():
        (site.folder / f"damaged_{name}-1.0.dist-info").mkdir()
        (site.folder / f"damaged_{name}-1.0.dist-info" / name).write_bytes(data)
    (site.folder / ".dist-info").mkdir()
    code = """
        from connector_core.plugins import installed_plugins, load_plugins
        result = load_plugins([one for one in installed_plugins() if one.identity.name == "flytekit"])
        print(*(str(one) for plugin in result.loaded for entry in plugin.descriptions for one in entry.categories))
        print(*(plugin.reason for plugin in result.failed))
    """
    result = in_a_process_of_its_own(code, site)
    assert result.stdout == "sensor webhook good_jobs\n\n", result.stderr
