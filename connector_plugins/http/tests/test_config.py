"""The operator's section, and what the plugin brings because of it."""

from typing import Any

import pytest

from connector_core.errors import SettingsError
from connector_plugin_http import plugin
from connector_plugin_http.config import load_config

URL = {"url": "http://api.example.org"}


def test_nothing_comes_unless_an_endpoint_is_named() -> None:
    assert list(plugin.register_connectors({})) == []
    assert list(plugin.register_connectors({"webhook": True})) == []
    assert "[plugins.http.endpoints.NAME]" in (plugin.__doc__ or "")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"endpoints": {"x": {}}}, "endpoints.x.url"),
        ({"endpoints": {"x": {**URL, "recipee": "dbt"}}}, "recipee"),
        ({"endpoints": {"x": {**URL, "recipe": "airflw"}}}, "unknown recipe 'airflw' (did you mean 'airflow'?)"),
        ({"endpoints": {"x": {**URL, "calls": ["/x"]}}}, "not a method and a path"),
        ({"endpoints": {"x": {**URL, "private_networks": ["10.0.0.1/8"]}}}, "has host bits set"),
        ({"endpoints": {"x": {**URL, "headers": {"A": {"secrt": "x"}}}}}, "headers.A"),
        ({"endpoints": {"x": {**URL, "timeout": 0}}}, "timeout"),
        ({"endpoints": {"x": URL}, "inline": {"api.example.org": "y"}}, "unknown endpoint 'y'"),
        ({"endpoints": {"x": URL}, "inline": {"other.example.org": "x"}}, "is at api.example.org"),
        ({"recipes": {"own": {"create": {}, "status": {}, "state": ["s"], "phases": {"a": "DONE"}}}}, "'DONE' is not"),
        ({"recipes": {"own": {"create": {}, "status": {}, "state": ["a b."], "phases": {"a": "FAILED"}, "x": 1}}}, "x"),
        ({"recipes": {"own": {"create": {}, "status": {}, "state": ["@x"], "phases": {}}}}, "'@x' is unknown"),
    ],
)
def test_a_mistake_is_named_with_its_place(section: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_config(section)
    assert "[plugins.http]" in caught.value.message
    assert said in caught.value.message


def test_a_recipe_of_the_operators_own_goes_before_one_that_ships() -> None:
    own = {"create": {"path": "/mine"}, "status": {"path": "/{id}"}, "state": ["s"], "phases": {"ok": "SUCCEEDED"}}
    config = load_config({"recipes": {"dbt": own}})
    found = config.recipe("dbt")
    assert found is not None
    assert found.create.path == "/mine"
    assert config.recipe("airflow") is not None
    assert config.recipe("unknown") is None
