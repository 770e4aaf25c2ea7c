"""Hypothesis over protobuf messages that JSON can carry, from their descriptors."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_INT32 = st.integers(-(2**31), 2**31 - 1)
_INT64 = st.integers(-(2**63), 2**63 - 1)
_UINT32 = st.integers(0, 2**32 - 1)
_UINT64 = st.integers(0, 2**64 - 1)
_DOUBLES = st.floats(allow_nan=False).map(lambda number: number + 0.0)  # -0.0 is 0 in a Struct's JSON

_SCALARS: Mapping[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: TEXT,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=12),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
    FieldDescriptor.TYPE_FLOAT: st.floats(allow_nan=False, width=32),
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
}

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | _DOUBLES.filter(lambda number: abs(number) < 1e300) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
_JSON_OF: Mapping[str, st.SearchStrategy[Any]] = {
    "google.protobuf.Struct": st.dictionaries(TEXT, JSON_VALUES, max_size=3),
    "google.protobuf.Value": JSON_VALUES,
    "google.protobuf.ListValue": st.lists(JSON_VALUES, max_size=3),
}


def _in_parts(whole: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, int]]:
    """Seconds and nanoseconds, which have one sign in a Duration."""
    return st.tuples(whole, st.integers(0, 999_999_999)).map(
        lambda parts: {"seconds": parts[0], "nanos": parts[1] if parts[0] >= 0 else 0}
    )


_PARTS_OF: Mapping[str, st.SearchStrategy[dict[str, int]]] = {
    "google.protobuf.Timestamp": _in_parts(st.integers(-62_135_596_800, 253_402_300_799)),
    "google.protobuf.Duration": _in_parts(st.integers(-315_576_000_000, 315_576_000_000)),
}


class Overrides(dict[str, st.SearchStrategy[Any]]):
    """What a field may hold, by the field's full name."""

    def __repr__(self) -> str:
        return "..."  # Hypothesis shows it in every failure, at every depth


def messages(
    kind: type[Message], overrides: Mapping[str, st.SearchStrategy[Any]] | None = None, depth: int = 4
) -> st.SearchStrategy[Any]:
    """Make messages.

    Args:
        kind: of what.
        overrides: what a field may hold, by the field's full name; such fields are always filled.
        depth: how many messages may lie within each other.
    """
    descriptor: Any = kind.DESCRIPTOR  # its stub has both of protobuf's implementations
    return _messages(descriptor, Overrides(overrides or {}), depth)


@st.composite
def _messages(draw: st.DrawFn, descriptor: Descriptor, overrides: Overrides, depth: int) -> Message:
    name = descriptor.full_name
    message: Message = GetMessageClass(descriptor)()
    if name in _JSON_OF:
        return ParseDict(draw(_JSON_OF[name]), message)
    if name in _PARTS_OF:
        return GetMessageClass(descriptor)(**draw(_PARTS_OF[name]))
    always = [field for field in descriptor.fields if field.full_name in overrides]
    others = [field for field in descriptor.fields if field not in always and (depth or not field.message_type)]
    chosen = draw(st.lists(st.sampled_from(others), unique_by=_place, max_size=4)) if others else []
    for field in always + chosen:
        _fill(draw, message, field, overrides, depth)
    return message


def _place(field: FieldDescriptor) -> str:
    """Fields of one `oneof` have one place."""
    return str((field.containing_oneof or field).full_name)


def _fill(draw: st.DrawFn, message: Message, field: FieldDescriptor, overrides: Overrides, depth: int) -> None:
    values = overrides[field.full_name] if field.full_name in overrides else _values(field, overrides, depth)
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        keys, of = inner.fields_by_name["key"], inner.fields_by_name["value"]
        for key in draw(st.lists(_values(keys, overrides, depth), max_size=3, unique=True)):
            value = draw(_values(of, overrides, depth - 1))
            if of.message_type is None:
                getattr(message, field.name)[key] = value
            else:
                getattr(message, field.name)[key].CopyFrom(value)
    elif isinstance(field.default_value, list):
        getattr(message, field.name).extend(draw(st.lists(values, max_size=3)))
    elif inner is not None:
        getattr(message, field.name).CopyFrom(draw(values))
    else:
        setattr(message, field.name, draw(values))


def _values(field: FieldDescriptor, overrides: Overrides, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return _messages(field.message_type, overrides, max(0, depth - 1))
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return _SCALARS[field.type]
