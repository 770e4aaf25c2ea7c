"""Picking values out of answers, and filling them into requests."""

import datetime as dt
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_core import InvalidInputError
from connector_plugin_http.failures import LONGEST_PAUSE, retry_after
from connector_plugin_http.picking import Answer, check_path, pick
from connector_plugin_http.rendering import render_body, render_path, render_text

BODY = b'{"a": {"b": [{"id": 1}, {"id": 2}, 3]}, "n": null}'


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b[0].id", 1),
        ("a.b[*].id", [1, 2, None]),
        ("a.b[*]", [{"id": 1}, {"id": 2}, 3]),
        ("a.b[7].id", None),
        ("a.x.y", None),
        ("n", None),
        ("n.deeper", None),
        ("a[0]", None),
        ("a[*].id", []),
        ("@status", 202),
        ("@header:X-Id", "7"),
        ("@text", BODY.decode()),
    ],
)
def test_what_stands_at_a_path_is_found_and_what_does_not_is_nothing(path: str, found: Any) -> None:
    assert check_path(path) == path
    assert pick(Answer(202, {"x-id": "7"}, BODY), path) == found


@pytest.mark.parametrize("path", ["", "@what", "a[x]", "a]", "[-1]"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"is not a path|is unknown"):
        check_path(path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("999999999999999999", LONGEST_PAUSE),
        ("Thu, 01 Jan 1970 00:01:10 GMT", 10),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0),
        ("-1", None),
        ("soon", None),
        ("٣", None),
        ("", None),
        ("Thu, 99 Jan 1970 00:00:10 GMT", None),
    ],
)
def test_a_pause_is_read_in_both_forms_and_bounded(text: str, seconds: float | None) -> None:
    assert retry_after(Answer(429, {"retry-after": text}, b""), now=lambda: 60.0) == seconds


def test_a_value_keeps_its_type_alone_and_is_text_among_text() -> None:
    values = {"n": 3, "yes": True, "day": dt.date(2024, 5, 1), "list": [1, {"a": 2}], "none": None}
    template = {"n": "{n}", "text": "{n} {yes} {day} {list}", "list": "{list}", "no": "{none?}", "null": "{none??}"}
    assert render_body(template, values) == {
        "n": 3,
        "text": '3 true 2024-05-01 [1,{"a":2}]',
        "list": [1, {"a": 2}],
        "null": None,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, b"bytes", object(), {1: 2}, {"a": [math.nan]}])
def test_a_value_without_a_form_in_json_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        render_body({"x": "{x}"}, {"x": value})


def test_a_value_that_is_missing_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidInputError, match="value 'dga' is missing; there are: dag"):
        render_path("/dags/{dga}", {"dag": "x"})


@given(st.text(min_size=1))
def test_no_value_makes_a_path_longer_than_one_segment(value: str) -> None:
    try:
        path = render_path("/a/{x}/b", {"x": value})
    except InvalidInputError:
        return
    assert path.count("/") == 3
    assert path.isascii()
    assert not set(path) & set("?#\\ \r\n")
    assert path.split("/")[2] not in {"", ".", ".."}


@given(st.text())
def test_no_value_makes_a_header_more_than_one_line(value: str) -> None:
    try:
        text = render_text("Bearer {x}", {"x": value})
    except InvalidInputError:
        return
    assert text is not None
    assert not set(text) & set("\r\n\0")
