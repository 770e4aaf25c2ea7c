"""Filling in what a recipe leaves open: `{name}` in paths, queries, headers and bodies.

`{name?}` may be missing, and is left out then; `{name??}` is null then.

Values come from callers and from backends, so they are data: in a path a value is one percent-encoded segment, in a query
one encoded value, in a body a value of JSON, and never a piece of any of these.
"""

import datetime as dt
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from connector_core import InvalidInputError

_PLACEHOLDER = re.compile(r"\{(?P<raw>\+?)(?P<name>[A-Za-z_]\w*)(?P<optional>\?{0,2})\}")
_MISSING = object()

Scalar = str | int | float | bool


class MissingValueError(InvalidInputError):
    """A value that a request needs was not given."""


def names_in(template: Any) -> set[str]:
    """Return the names of all placeholders in a text, list or table."""
    if isinstance(template, str):
        return {found["name"] for found in _PLACEHOLDER.finditer(template)}
    if isinstance(template, Mapping):
        return set().union(*(names_in(value) for value in template.values()))
    if isinstance(template, list | tuple):
        return set().union(*(names_in(value) for value in template))
    return set()


def render_path(template: str, values: Mapping[str, Any]) -> str:
    """Fill in a path; each value is one segment or a part of one, `{+name}` a whole path that was checked before.

    Raises:
        InvalidInputError: a value is missing, or would be another path than the one that is meant.
    """

    def segment(match: re.Match[str]) -> str:
        value = _text(match["name"], _value(match, values))
        if match["raw"]:
            return value
        if value in {"", ".", ".."} or not value.isprintable():
            raise InvalidInputError(f"{match['name']!r} is {value!r}, which cannot stand in a URL")
        return quote(value, safe="")

    return _PLACEHOLDER.sub(segment, template)


def render_text(template: str, values: Mapping[str, Any]) -> str | None:
    """Fill in a header or a value of a query; None where an optional value is missing.

    Raises:
        InvalidInputError: a value is missing or not one line of text.
    """
    filled = _fill(template, values)
    if filled is _MISSING or filled is None:
        return None
    text = _text(template, filled)
    if any(character in text for character in "\r\n\0"):
        raise InvalidInputError(f"{template!r} would be more than one line")
    return text


def render_body(template: Any, values: Mapping[str, Any]) -> Any:
    """Fill in a body: a placeholder alone in a text becomes its value as JSON; optional ones that are missing go.

    Raises:
        InvalidInputError: a value is missing or cannot be written as JSON.
    """
    filled = _render(template, values)
    return None if filled is _MISSING else filled


def _render(template: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(template, str):
        return _fill(template, values)
    if isinstance(template, Mapping):
        filled = {key: _render(value, values) for key, value in template.items()}
        return {key: value for key, value in filled.items() if value is not _MISSING}
    if isinstance(template, list | tuple):
        return [value for value in (_render(item, values) for item in template) if value is not _MISSING]
    return template


def _fill(template: str, values: Mapping[str, Any]) -> Any:
    alone = _PLACEHOLDER.fullmatch(template)
    if alone is not None:
        if alone["optional"] and values.get(alone["name"]) is None:
            return _MISSING if alone["optional"] == "?" else None
        return to_json(alone["name"], _value(alone, values))
    return _PLACEHOLDER.sub(lambda match: _text(match["name"], _value(match, values)), template)


def _value(match: re.Match[str], values: Mapping[str, Any]) -> Any:
    name = match["name"]
    if values.get(name) is None:
        if match["optional"]:
            return ""
        known = ", ".join(sorted(values)) or "none"
        raise MissingValueError(f"value {name!r} is missing; there are: {known}")
    return values[name]


def _text(name: str, value: Any) -> str:
    value = to_json(name, value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return msgspec.json.encode(value).decode()


def to_json(name: str, value: Any) -> Any:
    """Return a value as JSON has it.

    Raises:
        InvalidInputError: it cannot be written as JSON.
    """
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: to_json(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(f"{name}[{place}]", item) for place, item in enumerate(value)]
    raise InvalidInputError(
        f"{name!r} is a {type(value).__name__}"
        + (f" ({value})" if isinstance(value, float) else "")
        + "; a request can carry texts, finite numbers, booleans, dates, lists and dicts of them"
    )
