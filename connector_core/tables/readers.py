"""Readers of values, each made once for its type."""

import operator
import os
import types
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from connector_core.tables.declaring import After, Before, Table
from connector_core.tables.mistakes import Mistake, TableError, wrong

Reader = Callable[[Any], Any]
"""Returns a value of its type, or raises `TableError`."""


@cache
def reader(annotation: Any) -> Reader:
    """Return what reads values of a type."""
    origin = get_origin(annotation)
    if origin is None:
        return _plain(annotation)
    return _ORIGINS[origin](annotation)


def _plain(kind: Any) -> Reader:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if issubclass(kind, Table):
        return _table(kind)

    def read_text(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if isinstance(value, str):
            return kind(file_name(value) if issubclass(kind, PurePath) else value)
        raise wrong("must be a text")

    return read_text


def file_name(text: str) -> str:
    """Return a path's text as this process spells it: files' names are UTF-8, whatever the locale."""
    return os.fsdecode(text.encode(errors="surrogateescape"))


def _table(kind: type[Table]) -> Reader:
    fields = msgspec.structs.fields(kind)
    types_, known = {one.name: one.type for one in fields}, tuple(sorted(one.name for one in fields))
    required = [one.name for one in fields if one.required]

    def read_fields(given: Any) -> Any:
        if isinstance(given, kind):
            return given
        if not isinstance(given, Mapping):
            raise wrong("must be a table")
        values, mistakes = {}, [Mistake((name,), "is missing") for name in required if name not in given]
        for name, value in given.items():
            if name not in types_:
                mistakes.append(Mistake((name,), "is not a key of this table", known))
                continue
            try:
                values[name] = reader(types_[name])(value)
            except TableError as error:
                mistakes += error.within(name)
        if mistakes:
            raise TableError(*mistakes)
        return kind(**values)

    return read_fields


def _annotated(annotation: Any) -> Reader:
    inner, notes = reader(annotation.__origin__), annotation.__metadata__
    first = [one.function for one in notes if isinstance(one, Before)]
    last = [one.function for one in notes if isinstance(one, After)]
    bounds = [one for one in notes if isinstance(one, Meta)]

    def read_noted(value: Any) -> Any:
        try:
            for function in first:
                value = function(value)
            value = inner(value)
            for bound in bounds:
                _hold(value, bound)
            for function in last:
                value = function(value)
        except TableError:
            raise
        except ValueError as error:
            raise wrong(str(error)) from None
        return value

    return read_noted


def _hold(value: Any, bound: Meta) -> None:
    for limit, holds, words in (
        (bound.ge, operator.ge, "at least"),
        (bound.gt, operator.gt, "greater than"),
        (bound.le, operator.le, "at most"),
        (bound.lt, operator.lt, "less than"),
    ):
        if limit is not None and not holds(value, limit):
            raise ValueError(f"must be {words} {limit}")


def _union(annotation: Any) -> Reader:
    readers = [reader(one) for one in get_args(annotation) if one is not types.NoneType]
    takes_none = len(readers) < len(get_args(annotation))

    def read_one_of(value: Any) -> Any:
        if value is None and takes_none:
            return None
        for number, one in enumerate(readers, 1):
            try:
                return one(value)
            except TableError:
                if number == len(readers):
                    raise
        raise AssertionError("a union has members")

    return read_one_of


def _literal(annotation: Any) -> Reader:
    allowed = get_args(annotation)
    words = " or ".join(filter(None, [", ".join(map(repr, allowed[:-1])), repr(allowed[-1])]))

    def read_literal(value: Any) -> Any:
        if value not in allowed:
            raise wrong(f"must be {words}")
        return value

    return read_literal


def _sequence(annotation: Any) -> Reader:
    kind, item = get_origin(annotation), reader(get_args(annotation)[0])

    def read_items(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise wrong("must be a list")
        return kind(_each(((number, one, item) for number, one in enumerate(value))).values())

    return read_items


def _dict(annotation: Any) -> Reader:
    key_reader, item = map(reader, get_args(annotation))

    def read_dict(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise wrong("must be a table")
        _each((key, key, key_reader) for key in value)
        return _each((key, one, item) for key, one in value.items())

    return read_dict


def _each(items: Iterator[tuple[Any, Any, Reader]]) -> dict[Any, Any]:
    values: dict[Any, Any] = {}
    mistakes: list[Mistake] = []
    for key, value, read in items:
        try:
            values[key] = read(value)
        except TableError as error:
            mistakes += error.within(key)
    if mistakes:
        raise TableError(*mistakes)
    return values


_BOOLEANS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on", 1), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off", 0), False),
}


def _bool(value: Any) -> bool:
    key = value.lower() if isinstance(value, str) else value
    if not isinstance(key, str | int) or key not in _BOOLEANS:
        raise wrong("must be true or false")
    return _BOOLEANS[key]


def _int(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or isinstance(value, bool) or (not isinstance(value, str) and number != value):
        raise wrong("must be a whole number")
    return number


def _float(value: Any) -> float:
    try:
        if not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise wrong("must be a number")


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong("must be a text")
    return value


def _any(value: Any) -> Any:
    return value


_PLAIN: Mapping[Any, Reader] = {bool: _bool, int: _int, float: _float, str: _str, Any: _any}
_ORIGINS: Mapping[Any, Callable[[Any], Reader]] = {
    Annotated: _annotated,
    Union: _union,
    types.UnionType: _union,
    Literal: _literal,
    tuple: _sequence,
    list: _sequence,
    dict: _dict,
}
