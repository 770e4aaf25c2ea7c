"""Whose word holds for a connector's limits: the operator's for it, for its plugin, the author's, then the general one."""

import math
from typing import Any

from connector_core import AsyncConnectorBase, Phase, Resource, ResourceMeta
from connector_core.description import ConnectorDescription, PluginIdentity
from connector_core.inspection import inspect_connector
from connector_core.limits import limits_of
from connector_core.settings import Settings
from connector_core.tables import read


class Connector(AsyncConnectorBase[ResourceMeta]):
    name = "Query"
    task_type_name = "query"
    deadlines = {"create": 11, "get": 12}

    async def create(self) -> ResourceMeta:
        return ResourceMeta()

    async def get(self) -> Resource:
        return Resource(Phase.SUCCEEDED)

    async def delete(self) -> None:
        pass


def connector() -> ConnectorDescription:
    return inspect_connector(Connector(), PluginIdentity("warehouse")).description


def settings(**values: Any) -> Settings:
    return read(Settings, values)


def test_the_general_settings_hold_where_nothing_else_is_said() -> None:
    limits = limits_of(settings(workers=3, queue=4, in_flight=5), connector())
    assert (limits.workers, limits.queue, limits.in_flight, limits.wait, limits.in_place) == (3, 4, 5, math.inf, False)
    assert limits.deadlines["delete"] == 60


def test_an_authors_deadlines_go_before_the_general_ones() -> None:
    limits = limits_of(settings(deadlines={"create": 1, "delete": 2}), connector())
    assert [limits.deadlines[name] for name in ("create", "get", "delete")] == [11, 12, 2]


def test_the_operators_word_for_a_plugin_goes_before_the_authors() -> None:
    chosen = settings(limits={"warehouse": {"workers": 7, "wait": 0.5, "deadlines": {"create": 21}}})
    limits = limits_of(chosen, connector())
    assert (limits.workers, limits.wait) == (7, 0.5)
    assert (limits.deadlines["create"], limits.deadlines["get"]) == (21, 12)


def test_the_operators_word_for_a_connector_goes_before_the_one_for_its_plugin() -> None:
    chosen = settings(
        limits={
            "warehouse": {"workers": 7, "queue": 8, "deadlines": {"create": 21, "get": 22}},
            "warehouse/Query": {"workers": 9, "deadlines": {"create": 31}},
            "another": {"workers": 1},
        }
    )
    limits = limits_of(chosen, connector())
    assert (limits.workers, limits.queue) == (9, 8)
    assert (limits.deadlines["create"], limits.deadlines["get"]) == (31, 22)


def test_a_plugin_is_vouched_for_by_its_name() -> None:
    assert limits_of(settings(in_place=["warehouse"]), connector()).in_place


def test_a_section_that_a_variable_names_is_found_by_the_names_spelling() -> None:
    chosen = settings(limits={"warehouse_query": {"workers": 7}})
    assert limits_of(chosen, connector()).workers == 7
    assert limits_of(chosen, connector(), plugins={"warehouse", "warehouse_query"}).workers == 10


def test_names_of_sections_are_told_apart_by_letters_alone() -> None:
    for name in ("WAREHOUSE", "Warehouse/query", "warehouse.query", "warehouse-QUERY"):
        assert limits_of(settings(limits={name: {"workers": 7}}), connector()).workers == 7
    exact = settings(limits={"WAREHOUSE": {"workers": 7}, "warehouse": {"workers": 8}})
    assert limits_of(exact, connector()).workers == 8
