"""Protobuf's generic struct, as flytekit wrote data before 1.14 and as consoles and other SDKs write it."""

from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value

from connector_core.literals.kinds import name_of
from connector_core.literals.refusal import MAX_DEPTH, MAX_MESSAGE_DEPTH, Refusal, check_depth, check_text, shown

_MAX_EXACT = 2**53
"""Up to here a double tells whole numbers apart."""


def read_struct(struct: Struct, depth: int) -> dict[str, Any]:
    """Return a generic struct as a dict."""
    check_depth(depth, MAX_DEPTH)
    return {key: _read_value(value, depth + 1) for key, value in struct.fields.items()}


def _read_value(value: Value, depth: int) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return read_struct(value.struct_value, depth)
    if kind == "list_value":
        check_depth(depth, MAX_DEPTH)
        return [_read_value(item, depth + 1) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= _MAX_EXACT else number
    return None if kind in (None, "null_value") else getattr(value, kind)


def fill_struct(struct: Struct, data: dict[Any, Any], depth: int) -> None:
    """Write plain data into a generic struct."""
    check_depth(depth, MAX_MESSAGE_DEPTH)
    for key, item in data.items():
        if type(key) is not str:
            raise Refusal(f"a key that is {name_of(key)}, where a generic struct has strings only")
        check_text(key)
        try:
            _fill_value(struct.fields[key], item, depth + 1)
        except Refusal as refusal:
            raise refusal.within(key) from None


def _fill_items(target: Value, items: list[Any], depth: int) -> None:
    check_depth(depth, MAX_MESSAGE_DEPTH)
    target.list_value.SetInParent()
    for index, item in enumerate(items):
        try:
            _fill_value(target.list_value.values.add(), item, depth + 1)
        except Refusal as refusal:
            raise refusal.within(index) from None


def _fill_value(target: Value, value: Any, depth: int) -> None:
    if value is None:
        target.null_value = NULL_VALUE
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = _exact_double(value)
    elif isinstance(value, str):
        check_text(value)
        target.string_value = value
    elif isinstance(value, list):
        _fill_items(target, value, depth)
    elif isinstance(value, dict):
        target.struct_value.SetInParent()
        fill_struct(target.struct_value, value, depth)
    else:
        raise Refusal(f"{name_of(value)}, which a generic struct cannot hold")


def _exact_double(value: float) -> float:
    if isinstance(value, int) and abs(value) > _MAX_EXACT:
        raise Refusal(f"{shown(value)}, which a generic struct cannot hold exactly: its numbers are doubles")
    if value - value != 0:  # true for NaN and both infinities
        raise Refusal(f"{shown(value)}, which a generic struct cannot hold, since JSON has no such number")
    return value
