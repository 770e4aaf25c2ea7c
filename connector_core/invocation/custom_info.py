"""A job's `custom_info` as the protocol's struct: whatever an author puts there, no poll fails of it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value

from connector_core.literals.plain import plain
from connector_core.literals.refusal import MAX_MESSAGE_DEPTH, Refusal
from connector_core.texts import writable

Note = Callable[[str, str], None]
"""Called once for each kind of value that could not be sent as it is: with the kind and a sentence."""

_MAX_EXACT = 2**53
_MAX_ITEMS = 100_000
"""A bound on nodes, far above what fits into an answer: a list that contains itself would never end."""


def to_struct(values: Any, note: Note) -> Struct | None:
    """Return what an author gave as the protocol's struct; `None` where nothing of it can be sent.

    Numbers that JSON has not, and whole numbers that a double cannot hold, become texts; so does what is not plain data.
    """
    try:
        if isinstance(values, Struct):
            struct = Struct()
            struct.CopyFrom(values)
            make_sendable(struct, note)
            return struct
        return _Writer(note).struct(values if isinstance(values, Mapping) else _as_mapping(values))
    except Exception as error:  # noqa: BLE001 - an author's objects may raise anything where they are read
        note("unreadable", f"custom_info is left out: it cannot be read ({type(error).__name__})")
        return None


def make_sendable(struct: Struct, note: Note) -> None:
    """Turn the numbers of a struct that JSON has not into texts, in place."""
    for name, value in struct.fields.items():
        _make_value_sendable(value, name, note)


def _make_value_sendable(value: Value, name: str, note: Note) -> None:
    kind = value.WhichOneof("kind")
    if kind == "number_value" and not math.isfinite(value.number_value):
        value.string_value = _not_finite(value.number_value, name, note)
    elif kind == "struct_value":
        make_sendable(value.struct_value, note)
    elif kind == "list_value":
        for item in value.list_value.values:
            _make_value_sendable(item, name, note)


def _as_mapping(values: Any) -> Mapping[Any, Any]:
    try:
        data = plain(values, 0)  # a dataclass, a model
    except Refusal:
        data = values
    return data if isinstance(data, Mapping) else dict(data)


class _Writer:
    """Writes one struct."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._left = _MAX_ITEMS

    def struct(self, values: Mapping[Any, Any]) -> Struct:
        """Return a struct of the values."""
        struct = Struct()
        self._fill_struct(struct, values, 0)
        return struct

    def _fill_struct(self, struct: Struct, values: Mapping[Any, Any], depth: int) -> None:
        for key in values:
            name = writable(key if isinstance(key, str) else _printed(key))
            self._fill(struct.fields[name], values[key], name, depth + 1)

    def _fill_items(self, target: Value, items: Iterable[Any], name: str, depth: int) -> None:
        target.list_value.SetInParent()
        for item in items:
            if self._left <= 0:
                return
            self._fill(target.list_value.values.add(), item, name, depth + 1)

    def _fill(self, target: Value, value: Any, name: str, depth: int) -> None:
        self._left -= 1
        if value is None:
            target.null_value = NULL_VALUE
        elif isinstance(value, bool):
            target.bool_value = value
        elif isinstance(value, int | float):
            self._fill_number(target, value, name)
        elif isinstance(value, str):
            target.string_value = writable(value)
        elif isinstance(value, Mapping | Sequence | AbstractSet) and not isinstance(
            value, bytes | bytearray | memoryview
        ):
            self._fill_container(target, value, name, depth)
        else:
            self._fill_other(target, value, name, depth)

    def _fill_number(self, target: Value, value: float, name: str) -> None:
        if isinstance(value, int) and abs(value) > _MAX_EXACT:
            target.string_value = _printed(int(value))
            self._note(
                "large number",
                f"custom_info: {name!r} is a whole number over 2**53, sent as text: numbers are doubles there",
            )
        elif not math.isfinite(value):
            target.string_value = _not_finite(value, name, self._note)
        else:
            target.number_value = value

    def _fill_container(self, target: Value, value: Any, name: str, depth: int) -> None:
        if depth >= MAX_MESSAGE_DEPTH or self._left <= 0:
            target.string_value = "..."
            self._note(
                "too deep", f"custom_info: {name!r} is cut: nested too deep, containing itself, or of too many parts"
            )
        elif isinstance(value, Mapping):
            target.struct_value.SetInParent()
            self._fill_struct(target.struct_value, value, depth)
        else:
            self._fill_items(target, value, name, depth)

    def _fill_other(self, target: Value, value: Any, name: str, depth: int) -> None:
        try:
            data = plain(value, 0)  # a date, a path, an enum's member, a dataclass, NumPy's number
        except Refusal:
            data = value
        if isinstance(data, str | int | float | Mapping | list) or data is None:
            self._fill(target, data, name, depth)
            return
        target.string_value = writable(data.decode(errors="replace") if isinstance(data, bytes) else _printed(data))
        self._note("other", f"custom_info: {name!r} is a {type(value).__name__}, sent as text: give plain data")


def _not_finite(number: float, name: str, note: Note) -> str:
    note("not finite", f"custom_info: {name!r} is {number}, sent as text: JSON has no such number")
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _printed(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - an author's object may not even be printable
        return (
            hex(value)
            if isinstance(value, int)
            else f"(a {type(value).__name__}, not printable: {type(error).__name__})"
        )
