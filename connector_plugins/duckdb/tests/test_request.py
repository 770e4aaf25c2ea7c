"""What a task asks for."""

from collections.abc import Callable
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import Container, TaskTemplate

from connector_core import InvalidInputError
from connector_plugin_duckdb.request import Request, read_request

Make = Callable[..., TaskTemplate]


def test_the_query_is_the_sql_statement(template: Make) -> None:
    assert read_request(template("SELECT 1")) == Request("SELECT 1")


def test_the_query_may_be_in_custom(template: Make) -> None:
    assert read_request(template(custom={"query": "SELECT 1"})) == Request("SELECT 1")


def test_custom_may_have_set_up_statements_and_a_database(template: Make) -> None:
    custom = {"setup": ["A", " ", "B"], "database": "/d.duckdb", "read_only": False}
    assert read_request(template("SELECT 1", custom=custom)) == Request("SELECT 1", ("A", "B"), "/d.duckdb", False)


def test_set_up_may_be_one_text(template: Make) -> None:
    assert read_request(template("SELECT 1", custom={"setup": "A"})).setup == ("A",)


def test_the_same_query_twice_is_one(template: Make) -> None:
    assert read_request(template("SELECT 1", custom={"query": "SELECT 1"})).query == "SELECT 1"


@pytest.mark.parametrize(
    ("custom", "said"),
    [
        ({"query": "SELECT 2"}, "two queries that differ"),
        (
            {"databse": "x"},
            "unknown key 'databse' .did you mean 'database'.*known are database, query, read_only, setup",
        ),
        ({"setup": 3}, "custom.'setup'."),
        ({"setup": [3]}, "custom.'setup'."),
        ({"read_only": "no"}, "custom.'read_only'."),
    ],
)
def test_what_cannot_be_meant_is_an_error_that_names_it(template: Make, custom: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        read_request(template("SELECT 1", custom=custom))


@pytest.mark.parametrize("empty", [TaskTemplate(), TaskTemplate(container=Container(image="x"))])
def test_a_task_without_query_is_an_error(empty: TaskTemplate) -> None:
    with pytest.raises(InvalidInputError, match=r"no query: put SQL into sql.statement or custom\['query'\]"):
        read_request(empty)
