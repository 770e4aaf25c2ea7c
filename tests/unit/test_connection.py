"""What a caller brings for a connector to reach its backend with."""

import copy
import pickle

import pytest

from connector_core import Connection
from connector_core.secrets import SecretStr

GIVEN = Connection({"token": SecretStr("s3cret")}, {"account": "sales"}, "warehouse_query")


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{0!r:.500}".format, lambda one: repr(vars_of(one))])
def test_no_way_to_show_it_shows_a_secret(show: object) -> None:
    assert callable(show)
    shown = show(GIVEN)
    assert "s3cret" not in shown
    assert "token" in shown, "which secrets there are may be seen"
    assert "sales" in shown


def vars_of(connection: Connection) -> dict[str, object]:
    """Return the attributes, as a debugger would show them."""
    return {name: getattr(connection, name) for name in ("secrets", "configs", "task_type")}


def test_a_secret_is_had_by_asking_for_it() -> None:
    assert GIVEN.secrets["token"].get_secret_value() == "s3cret"


def test_one_that_nobody_has_filled_is_empty() -> None:
    assert Connection() == Connection({}, {}, "")
    assert not Connection().secrets


def test_two_empty_ones_share_nothing() -> None:
    assert Connection().secrets is not Connection().secrets


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_is_equal(copied: object) -> None:
    assert callable(copied)
    assert copied(GIVEN) == GIVEN
