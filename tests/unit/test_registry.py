"""The registry says which connector serves what, and refuses what cannot be served."""

from typing import Any

import pytest
from flyteidl.admin import agent_pb2

from connector_core import ConnectorRegistry, TaskCategory
from connector_core.description import PluginIdentity
from connector_core.errors import (
    ConflictError,
    InvalidConnectorError,
    NotRegisteredError,
    PluginLoadError,
    UnsupportedOperationError,
)
from connector_core.inspection import inspect_connector
from tests.fakes import Answers, JobMeta, Jobs

WAREHOUSE = PluginIdentity("warehouse", "connector-plugin-warehouse", "1.2")
LAKE = PluginIdentity("lake", "connector-plugin-lake", "0.3")


@pytest.fixture
def registry() -> ConnectorRegistry:
    return ConnectorRegistry()


class TestLookup:
    def test_a_connector_is_found_by_its_task_type(self, registry: ConnectorRegistry) -> None:
        connector = Jobs("spark")
        registry.register(connector)
        assert registry.get_connector("spark") is connector
        assert registry.get_connector("spark", 0) is connector
        assert registry.get_agent("spark") is connector

    def test_a_connector_is_found_by_each_of_its_categories(self, registry: ConnectorRegistry) -> None:
        connector = Jobs(task_categories=["spark", "spark@2", "hive"])
        registry.register(connector)
        for category in (("spark", 0), ("spark", 2), ("hive", 0)):
            assert registry.get_connector(*category) is connector

    def test_versions_of_a_task_type_may_have_different_connectors(self, registry: ConnectorRegistry) -> None:
        old, new = Jobs(name="old", task_categories=["spark"]), Jobs(name="new", task_categories=["spark@1"])
        registry.register(old)
        registry.register(new)
        assert (registry.get_connector("spark", 0), registry.get_connector("spark", 1)) == (old, new)

    def test_an_unknown_task_type_is_answered_with_near_names_and_all(self, registry: ConnectorRegistry) -> None:
        registry.register(Jobs("bigquery"))
        registry.register(Jobs("spark"))
        message = r"no connector serves task type 'bigqery' \(near names: 'bigquery'\); this host has bigquery, spark"
        with pytest.raises(NotRegisteredError, match=message):
            registry.get_connector("bigqery")

    def test_another_version_is_near(self, registry: ConnectorRegistry) -> None:
        registry.register(Jobs("spark"))
        with pytest.raises(NotRegisteredError, match=r"'spark@7' \(near names: 'spark'\)"):
            registry.get_connector("spark", 7)

    def test_nothing_near_is_nothing_named(self, registry: ConnectorRegistry) -> None:
        registry.register(Jobs("spark"))
        with pytest.raises(NotRegisteredError, match=r"'qqq'; this host has spark$"):
            registry.get_connector("qqq")

    def test_an_empty_registry_says_so(self, registry: ConnectorRegistry) -> None:
        with pytest.raises(NotRegisteredError, match="this host has none"):
            registry.get_connector("spark")

    def test_a_huge_name_is_not_repeated_in_full(self, registry: ConnectorRegistry) -> None:
        """Names come from clients, and searching for near ones takes time by their length."""
        registry.register(Jobs("spark"))
        with pytest.raises(NotRegisteredError) as caught:
            registry.get_connector("spark" * 200_000)
        assert len(str(caught.value)) < 1000


class TestMetadata:
    def test_both_lists_of_task_types_are_filled(self, registry: ConnectorRegistry) -> None:
        registry.register(Jobs(name="Spark", task_categories=["spark", "spark@1", "hive"]))
        assert registry.get_connector_metadata("Spark") == agent_pb2.Agent(
            name="Spark",
            is_sync=False,
            supported_task_types=["spark", "hive"],
            supported_task_categories=[
                agent_pb2.TaskCategory(name="spark", version=0),
                agent_pb2.TaskCategory(name="spark", version=1),
                agent_pb2.TaskCategory(name="hive", version=0),
            ],
        )

    def test_a_sync_connector_is_marked(self, registry: ConnectorRegistry) -> None:
        registry.register(Answers("ask"))
        assert registry.get_connector_metadata("ask connector").is_sync

    def test_an_unknown_name_is_answered_with_near_names_and_all(self, registry: ConnectorRegistry) -> None:
        registry.register(Jobs(name="Warehouse"))
        message = r"no connector is named 'warehouse' \(near names: 'Warehouse'\); this host has Warehouse"
        with pytest.raises(NotRegisteredError, match=message):
            registry.get_connector_metadata("warehouse")

    def test_connectors_are_listed_as_they_were_registered(self, registry: ConnectorRegistry) -> None:
        for name in ("c", "a", "b"):
            registry.register(Jobs(name))
        assert [agent.supported_task_types[0] for agent in registry.list_connectors()] == ["c", "a", "b"]
        assert len(registry) == 3

    def test_registries_share_nothing(self) -> None:
        one, other = ConnectorRegistry(), ConnectorRegistry()
        one.register(Jobs())
        assert other.list_connectors() == []

    def test_a_registry_may_grow_while_it_is_walked(self, registry: ConnectorRegistry) -> None:
        registry.register(Jobs("a"))
        for entry in registry:
            registry.register(Jobs(f"{entry.name}b".replace(" ", "")))
        assert len(registry) == 2


class TestConflicts:
    def test_a_taken_task_type_is_refused_with_both_owners(self, registry: ConnectorRegistry) -> None:
        registry.register(Jobs("spark", name="One"), plugin=WAREHOUSE)
        with pytest.raises(ConflictError) as caught:
            registry.register(Jobs("spark", name="Two"), plugin=LAKE)
        for culprit in ("'spark'", "'One'", "'Two'", "connector-plugin-warehouse 1.2", "connector-plugin-lake 0.3"):
            assert culprit in str(caught.value)

    def test_a_taken_name_is_refused_with_both_owners(self, registry: ConnectorRegistry) -> None:
        registry.register(Jobs("a", name="Same"), plugin=WAREHOUSE)
        with pytest.raises(ConflictError, match=r"name 'Same'.*plugin-lake.*plugin-warehouse"):
            registry.register(Jobs("b", name="Same"), plugin=LAKE)

    def test_a_refused_connector_leaves_nothing_behind(self, registry: ConnectorRegistry) -> None:
        first = Jobs("spark", name="One")
        registry.register(first)
        with pytest.raises(ConflictError):
            registry.register(Jobs(name="Two", task_categories=["new", "spark"]))
        assert registry.get_connector("spark") is first
        with pytest.raises(NotRegisteredError):
            registry.get_connector("new")
        assert len(registry) == 1

    def test_override_takes_a_task_type_over(self, registry: ConnectorRegistry) -> None:
        registry.register(Jobs("spark", name="One"))
        second = Jobs("spark", name="Two")
        registry.register(second, override=True)
        assert registry.get_connector("spark") is second
        assert [agent.name for agent in registry.list_connectors()] == ["Two"]

    def test_who_loses_one_of_several_types_keeps_and_lists_the_others(self, registry: ConnectorRegistry) -> None:
        """Engines route by the list, and a type that two connectors list goes to the one that is last in it."""
        first = Jobs(name="One", task_categories=["spark", "hive"])
        registry.register(first)
        registry.register(Jobs("spark", name="Two"), override=True)
        assert registry.get_connector("hive") is first
        listed = {agent.name: list(agent.supported_task_types) for agent in registry.list_connectors()}
        assert listed == {"One": ["hive"], "Two": ["spark"]}

    def test_who_takes_over_a_name_leaves_nobody_unlisted(self, registry: ConnectorRegistry) -> None:
        """A connector that serves, but is not listed, is never asked by an engine."""
        registry.register(Jobs("spark", name="Same"))
        second = Jobs("hive", name="Same")
        registry.register(second, override=True)
        assert registry.get_connector("hive") is second
        with pytest.raises(NotRegisteredError):
            registry.get_connector("spark")
        assert [list(agent.supported_task_types) for agent in registry.list_connectors()] == [["hive"]]

    def test_override_without_a_conflict_is_a_plain_registration(self, registry: ConnectorRegistry) -> None:
        registry.register(Jobs("a"), override=True)
        registry.register(Jobs("b"), override=True)
        assert len(registry) == 2


class TestRefusals:
    @pytest.mark.parametrize("thing", [object(), None, "Jobs", 5])
    def test_what_is_no_connector_is_refused(self, registry: ConnectorRegistry, thing: Any) -> None:
        with pytest.raises(
            InvalidConnectorError, match=r"'warehouse' .*not an AsyncConnectorBase or SyncConnectorBase"
        ):
            registry.register(thing, plugin=WAREHOUSE)

    def test_a_class_is_refused_with_what_to_do(self, registry: ConnectorRegistry) -> None:
        with pytest.raises(InvalidConnectorError, match="the class Jobs; make an instance"):
            registry.register(Jobs)  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["", None, 5])
    def test_a_connector_without_a_name_is_refused(self, registry: ConnectorRegistry, name: object) -> None:
        with pytest.raises(InvalidConnectorError, match=r"tests\.fakes\.Jobs has no name: set `name`"):
            registry.register(Jobs(name=name))

    def test_a_name_that_the_protocol_cannot_carry_is_refused(self, registry: ConnectorRegistry) -> None:
        """One such connector would otherwise stop ListAgents, and with it every task type of the host."""
        with pytest.raises(InvalidConnectorError, match="cannot be listed"):
            registry.register(Jobs(name="\udcff"), plugin=WAREHOUSE)

    @pytest.mark.parametrize(
        ("connector", "said"),
        [
            (
                Jobs(deadlines={"craete": 5}),
                r"deadlines has 'craete', which is not an operation .*: create, get, get_many, del",
            ),
            (
                Jobs(deadlines={"do": 5}),
                r"deadlines has 'do', which is not an operation that may have one here: create, get",
            ),
            (Answers(deadlines={"create": 5}), r"deadlines has 'create', which is not an operation .* here: do"),
            (Jobs(deadlines={"start": 5}), r"deadlines has 'start', which is not an operation"),
            (Jobs(deadlines={5: 5}), r"deadlines has 5, which is not an operation"),
            (Jobs(deadlines={"get": "5"}), r"deadlines\['get'\] is '5'; it is a number of seconds above 0"),
            (Jobs(deadlines={"get": True}), r"deadlines\['get'\] is True; it is a number of seconds above 0"),
            (Jobs(deadlines={"get": None}), r"deadlines\['get'\] is None; it is a number of seconds above 0"),
            (Jobs(deadlines={"get": 0}), r"deadlines\['get'\] is 0; it is a number of seconds above 0"),
            (Jobs(deadlines={"get": -1.5}), r"deadlines\['get'\] is -1.5; it is a number of seconds above 0"),
            (Jobs(deadlines={"get": float("nan")}), r"deadlines\['get'\] is nan; it is a number of seconds above 0"),
            (Jobs(deadlines={"get": float("inf")}), r"deadlines\['get'\] is inf; it is .* and not without end"),
            (Jobs(deadlines=[("get", 5)]), r"deadlines is \[\('get', 5\)\]; write operations with their seconds"),
            (Jobs(deadlines=60), r"deadlines is 60; write operations with their seconds"),
        ],
    )
    def test_deadlines_that_are_none_are_refused(
        self, registry: ConnectorRegistry, connector: Jobs | Answers, said: str
    ) -> None:
        message = rf"plugin 'warehouse' .*: connector '{connector.name}': {said}"
        with pytest.raises(InvalidConnectorError, match=message):
            registry.register(connector, plugin=WAREHOUSE)

    def test_every_refusal_names_plugin_and_method(self) -> None:
        with pytest.raises(PluginLoadError, match=r"plugin 'warehouse' \(distribution .*\.Jobs\.get\(\)") as caught:
            inspect_connector(Jobs(get=lambda wrong: None), WAREHOUSE)
        assert caught.value.plugin == "warehouse"


class TestInspectedConnector:
    def test_it_knows_all_that_serving_needs(self) -> None:
        inspected = inspect_connector(Jobs("spark"), WAREHOUSE)
        described = inspected.description
        assert (described.name, described.plugin, described.categories) == (
            "spark connector",
            WAREHOUSE,
            (TaskCategory("spark"),),
        )
        assert described.implementation == "tests.fakes:Jobs"
        assert inspected.metadata_type is JobMeta
        assert not described.is_sync
        assert inspect_connector(Answers()).metadata_type is None

    def test_its_deadlines_are_those_of_its_registration(self) -> None:
        connector = Jobs(deadlines={"create": 5, "get": 0.5, "get_logs": 100})
        described = inspect_connector(connector, WAREHOUSE).description
        connector.deadlines = {"create": -1}
        assert described.deadlines == {"create": 5, "get": 0.5, "get_logs": 100}

    def test_a_category_named_twice_counts_once(self) -> None:
        assert inspect_connector(Jobs(task_categories=["a", "a@0"])).description.categories == (TaskCategory("a"),)

    def test_an_operation_that_is_not_there_is_answered_with_those_that_are(self) -> None:
        described = inspect_connector(Jobs("spark"), WAREHOUSE).description
        message = r"connector 'spark connector' of plugin 'warehouse' has no get_logs\(\); it has create, delete, get"
        with pytest.raises(UnsupportedOperationError, match=message) as caught:
            described.require("get_logs")
        assert (caught.value.plugin, caught.value.operation) == ("warehouse", "get_logs")


def test_an_identity_names_the_distribution_where_there_is_one() -> None:
    assert str(WAREHOUSE) == "'warehouse' (distribution connector-plugin-warehouse 1.2)"
    assert str(PluginIdentity("a.module")) == "'a.module'"
