"""Tables of settings: what may be written for a value, and every mistake with its place."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from connector_core.errors import SettingsError
from connector_core.secrets import SecretStr
from connector_core.tables import After, Before, Meta, Table, TableError, described, finite, read, read_table


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("it is odd")
    return value


class Inner(Table, frozen=True):
    name: str
    sizes: tuple[Annotated[int, After(_even)], ...] = ()


class Outer(Table, frozen=True):
    count: Annotated[int, Meta(gt=0, le=10), "How many there are."] = 1
    share: Annotated[float, Meta(ge=0, lt=1), After(finite)] = 0.5
    sure: bool = False
    kind: Literal["one", "two"] = "one"
    folder: Path | None = None
    token: SecretStr = SecretStr("")
    texts: str | list[str] = ""
    words: Annotated[tuple[str, ...], Before(str.split)] = ()
    inner: Inner = Inner("default")
    by_name: dict[Literal["a", "b"], Inner] = {}
    anything: Any = None


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"count": "3"}, {"count": 3}),
        ({"count": 3.0}, {"count": 3}),
        ({"share": " 0.25 "}, {"share": 0.25}),
        ({"share": 0}, {"share": 0.0}),
        ({"sure": "Yes"}, {"sure": True}),
        ({"sure": "off"}, {"sure": False}),
        ({"sure": 1}, {"sure": True}),
        ({"folder": "/x"}, {"folder": Path("/x")}),
        ({"folder": None}, {"folder": None}),
        ({"token": "hush"}, {"token": SecretStr("hush")}),
        ({"texts": ["a"]}, {"texts": ["a"]}),
        ({"words": "a b"}, {"words": ("a", "b")}),
        ({"inner": {"name": "x", "sizes": [2, "4"]}}, {"inner": Inner("x", (2, 4))}),
        ({"inner": Inner("made")}, {"inner": Inner("made")}),
        ({"by_name": {"a": {"name": "x"}}}, {"by_name": {"a": Inner("x")}}),
        ({"anything": [{}]}, {"anything": [{}]}),
    ],
    ids=str,
)
def test_a_value_may_be_written_as_its_type_or_as_a_variable_can_hold_it(
    given: dict[str, Any], meant: dict[str, Any]
) -> None:
    assert read(Outer, given) == Outer(**meant)


@pytest.mark.parametrize(
    ("given", "where", "said"),
    [
        ({"count": True}, "count", "a whole number"),
        ({"count": 1.5}, "count", "a whole number"),
        ({"count": "one"}, "count", "a whole number"),
        ({"count": float("inf")}, "count", "a whole number"),
        ({"count": None}, "count", "a whole number"),
        ({"count": 0}, "count", "greater than 0"),
        ({"count": 11}, "count", "at most 10"),
        ({"share": False}, "share", "a number"),
        ({"share": []}, "share", "a number"),
        ({"share": -1}, "share", "at least 0"),
        ({"share": 1}, "share", "less than 1"),
        ({"share": "nan"}, "share", "at least 0"),
        ({"sure": "perhaps"}, "sure", "true or false"),
        ({"sure": 2}, "sure", "true or false"),
        ({"sure": []}, "sure", "true or false"),
        ({"kind": "three"}, "kind", "'one' or 'two'"),
        ({"kind": []}, "kind", "'one' or 'two'"),
        ({"folder": 3}, "folder", "a text"),
        ({"texts": [3]}, "texts.0", "a text"),
        ({"inner": {}}, "inner.name", "is missing"),
        ({"inner": 3}, "inner", "a table"),
        ({"inner": {"name": "x", "sizes": [2, 3]}}, "inner.sizes.1", "it is odd"),
        ({"inner": {"name": "x", "sizes": "24"}}, "inner.sizes", "a list"),
        ({"by_name": {"c": {"name": "x"}}}, "by_name.c", "'a' or 'b'"),
        ({"by_name": {"a": {"nam": "x", "name": "y"}}}, "by_name.a.nam", "not a key"),
        ({"by_name": ["a"]}, "by_name", "a table"),
    ],
    ids=str,
)
def test_a_mistake_is_named_with_its_place(given: dict[str, Any], where: str, said: str) -> None:
    with pytest.raises(TableError) as caught:
        read(Outer, given)
    (mistake,) = caught.value.mistakes
    assert mistake.where == where
    assert said in mistake.message


def test_all_mistakes_are_told_at_once_and_none_repeats_a_value() -> None:
    with pytest.raises(SettingsError) as caught:
        read_table(Outer, {"count": "hush", "cuont": "hush", "inner": {"nmae": "hush"}}, "[plugins.x]")
    assert caught.value.message == (
        "[plugins.x]: count: must be a whole number; "
        "unknown key 'cuont' (did you mean 'count'?); known are anything, by_name, count, folder, inner, kind, share, sure, "
        "texts, token, words; inner.name: is missing; inner: unknown key 'nmae' (did you mean 'name'?); known are name, sizes"
    )


def test_what_is_no_table_at_all_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^x: must be a table$"):
        read_table(Outer, ["count"], "x")  # type: ignore[arg-type]


def test_two_tables_share_no_default() -> None:
    assert Outer().by_name is not Outer().by_name


def test_a_field_says_what_it_is() -> None:
    field = described(Outer)["count"]
    assert (field.annotation, field.default, field.description) == (int, 1, "How many there are.")
    assert described(Outer)["by_name"].default == {}
