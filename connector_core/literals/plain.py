"""Values as dicts, lists and scalars, in the forms that flytekit gives them inside of structs."""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any
from uuid import UUID

from google.protobuf.struct_pb2 import Struct

from connector_core.literals.generic import read_struct
from connector_core.literals.kinds import Model, Record, known, name_of
from connector_core.literals.refusal import MAX_DEPTH, Refusal, check_depth, shown
from connector_core.literals.values import Directory, ErrorValue, File, Schema, StructuredDataset


def plain(value: Any, depth: int) -> Any:
    """Return a value as dicts, lists and scalars, in the forms that flytekit gives them inside of structs."""
    value, kind = known(value)
    convert = _PLAIN.get(kind)
    if convert is None:
        raise Refusal(
            f"{name_of(value)} has no form inside of a struct: give plain data, a dataclass or a pydantic model"
        )
    return convert(value, depth)


def _unchanged(value: Any, _depth: int) -> Any:
    return value


def _int(value: int, _depth: int) -> int:
    if not -(2**63) <= value < 2**64:
        raise Refusal(f"an int outside of 64 bits: {shown(value)}")
    return int(value)


def _iso(value: datetime | date | time, _depth: int) -> str:
    return value.isoformat()


def _text(value: Any, _depth: int) -> str:
    return str(value)


def _enum(value: Enum, depth: int) -> Any:
    return plain(value.value, depth)


def _list(value: Any, depth: int) -> list[Any]:
    check_depth(depth, MAX_DEPTH)
    items: list[Any] = []
    try:
        for item in value:
            items.append(plain(item, depth + 1))  # noqa: PERF401 - its length says where a failure was
    except Refusal as refusal:
        raise refusal.within(len(items)) from None
    return items


def _dict(value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
    check_depth(depth, MAX_DEPTH)
    items: dict[Any, Any] = {}
    for given, item in value.items():
        key = given if type(given) is str else _key(given, depth)
        if key in items:
            raise Refusal(f"two keys that both become {shown(key)}")
        try:
            items[key] = plain(item, depth + 1)
        except Refusal as refusal:
            raise refusal.within(key) from None
    return items


def _key(given: Any, depth: int) -> Any:
    key = plain(given, depth + 1)
    if type(key) not in _KEYS:
        raise Refusal(f"a key that is {name_of(given)}: keys are strings, numbers, bytes or what becomes one of these")
    return key


_KEYS = frozenset({str, int, float, bool, bytes})


def _record(value: Any, depth: int) -> dict[Any, Any]:
    return _dict({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, depth)


def _model(value: Any, depth: int) -> Any:
    try:
        dumped = value.model_dump(mode="json")
    except (ValueError, TypeError) as error:  # pydantic's own errors of serialisation are ValueErrors
        raise Refusal(f"{name_of(value)} cannot be dumped: {error}") from None
    return plain(dumped, depth)


_PLAIN: Mapping[type | None, Callable[[Any, int], Any]] = {
    NoneType: _unchanged,
    bool: _unchanged,
    int: _int,
    float: lambda value, _depth: float(value),
    str: lambda value, _depth: str.__str__(value),
    bytes: lambda value, _depth: bytes(value),
    Enum: _enum,
    list: _list,
    tuple: _list,
    set: _list,
    frozenset: _list,
    dict: _dict,
    Record: _record,
    Model: _model,
    datetime: _iso,
    date: _iso,
    time: _iso,
    timedelta: lambda value, _depth: value.total_seconds(),
    Decimal: _text,
    UUID: _text,
    PurePath: _text,
    File: lambda value, _depth: {"path": value.uri},
    Directory: lambda value, _depth: {"path": value.uri},
    Schema: lambda value, _depth: {"remote_path": value.uri},
    StructuredDataset: lambda value, _depth: {"uri": value.uri, "file_format": value.format},
    ErrorValue: _record,
    Struct: read_struct,
}
