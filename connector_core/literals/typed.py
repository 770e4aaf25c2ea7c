"""From Python values to literals of a declared type."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from enum import Enum
from types import NoneType
from typing import Any

from flyteidl.core.literals_pb2 import Literal
from flyteidl.core.types_pb2 import BlobType, LiteralType, SimpleType
from google.protobuf.struct_pb2 import Struct

from connector_core.literals.describe import described
from connector_core.literals.generic import fill_struct
from connector_core.literals.infer import fill, fill_blob, fill_known
from connector_core.literals.kinds import Model, Record, known, name_of
from connector_core.literals.plain import plain
from connector_core.literals.refusal import MAX_MESSAGE_DEPTH, Refusal, check_depth, check_text, shown
from connector_core.literals.values import Binary, Columns, Directory, ErrorValue, File, Schema, StructuredDataset

_SIMPLE_KINDS: Mapping[int, frozenset[type]] = {
    SimpleType.NONE: frozenset({NoneType}),
    SimpleType.INTEGER: frozenset({int}),
    SimpleType.FLOAT: frozenset({float}),
    SimpleType.STRING: frozenset({str}),
    SimpleType.BOOLEAN: frozenset({bool}),
    SimpleType.DATETIME: frozenset({datetime, date}),
    SimpleType.DURATION: frozenset({timedelta}),
    SimpleType.BINARY: frozenset({bytes, Binary}),
    SimpleType.ERROR: frozenset({ErrorValue}),
}
_STRUCT_KINDS = frozenset({dict, Record, Model, Struct, Binary})


def fill_as(literal: Literal, value: Any, literal_type: LiteralType, depth: int, *, strict: bool = False) -> None:
    """Write a value into an empty literal of this type; `strict` allows only what needs no conversion."""
    if isinstance(value, Literal):
        literal.CopyFrom(value)
        return
    kind = literal_type.WhichOneof("type")
    if kind is None:
        fill(literal, value, depth)
    else:
        _FILLERS[kind](literal, value, literal_type, depth, strict)


def _simple(literal: Literal, value: Any, literal_type: LiteralType, depth: int, strict: bool) -> None:
    simple = literal_type.simple
    if simple == SimpleType.STRUCT:
        _struct(literal, value, literal_type, depth, strict)
        return
    value, kind = known(value)
    if kind is Enum and not strict:
        value, kind = known(value.value)
    if kind is int and simple == SimpleType.FLOAT and not strict:
        value, kind = _exact_float(value), float
    if kind is None or kind not in _SIMPLE_KINDS.get(simple, ()):
        raise _mismatch(value, literal_type)
    fill_known(literal, value, kind, depth)


def _exact_float(value: int) -> float:
    try:
        if int(float(value)) == value:
            return float(value)
    except OverflowError:
        pass
    raise Refusal(f"an int that no float equals where a FLOAT is expected: {shown(value)}")


def _struct(literal: Literal, value: Any, literal_type: LiteralType, depth: int, strict: bool) -> None:
    value, kind = known(value)
    if kind not in _STRUCT_KINDS or (strict and not _is_struct_of(value, kind, literal_type)):
        raise _mismatch(value, literal_type)
    if kind is Struct or kind is Binary or _is_msgpack(literal_type):
        fill(literal, value, depth)
    else:
        literal.scalar.generic.SetInParent()
        fill_struct(literal.scalar.generic, _fields(value), depth)


def _fields(value: Any) -> dict[Any, Any]:
    data = plain(value, 0)
    if not isinstance(data, dict):  # a pydantic root model of something else
        raise Refusal(f"{name_of(value)} where a struct is expected")
    return data


def _is_struct_of(value: Any, kind: type | None, literal_type: LiteralType) -> bool:
    """Say whether a struct of this type is what the value is, rather than what it can be turned into.

    The type that flytekit declares for a dataclass or model carries its JSON schema, whose title is the class's name.
    """
    title = literal_type.metadata.fields.get("title")
    if title is not None:
        return kind in (Record, Model) and title.string_value == type(value).__name__
    return kind is not dict or bool(plain(value, 0) == value)


def _is_msgpack(literal_type: LiteralType) -> bool:
    """Say whether flytekit 1.14 or later declared this struct; all others can read only a generic struct."""
    key = literal_type.annotation.annotations.fields.get("cache-key-metadata")
    form = None if key is None else key.struct_value.fields.get("serialization-format")
    return form is not None and form.string_value == "msgpack"


def _collection(literal: Literal, value: Any, literal_type: LiteralType, depth: int, strict: bool) -> None:
    value, kind = known(value)
    if kind is not list and kind is not tuple:
        raise _mismatch(value, literal_type)
    check_depth(depth, MAX_MESSAGE_DEPTH)
    literal.collection.SetInParent()
    literals, item_type = literal.collection.literals, literal_type.collection_type
    for index, item in enumerate(value):
        try:
            fill_as(literals.add(), item, item_type, depth + 1, strict=strict)
        except Refusal as refusal:
            raise refusal.within(index) from None


def _map(literal: Literal, value: Any, literal_type: LiteralType, depth: int, strict: bool) -> None:
    value, kind = known(value)
    if kind is not dict:
        raise _mismatch(value, literal_type)
    check_depth(depth, MAX_MESSAGE_DEPTH)
    literal.map.SetInParent()
    literals, value_type = literal.map.literals, literal_type.map_value_type
    for given, item in value.items():
        key = _map_key(given)
        if key in literals:
            raise Refusal(f"two keys that both become {shown(key)}")
        try:
            fill_as(literals[key], item, value_type, depth + 1, strict=strict)
        except Refusal as refusal:
            raise refusal.within(key) from None


def _map_key(given: Any) -> str:
    key = given.value if isinstance(given, Enum) else given
    if not isinstance(key, str):
        raise Refusal(f"a key that is {name_of(given)}, where a map has strings only")
    check_text(key)
    return key


def _union(literal: Literal, value: Any, literal_type: LiteralType, depth: int, strict: bool) -> None:
    check_depth(depth, MAX_MESSAGE_DEPTH)
    union = literal.scalar.union
    refusals: list[Refusal] = []
    # First the variant that has the value's own type, so that 1 is the integer of a union of float and integer.
    for how in (True,) if strict else (True, False):
        refusals.clear()
        for variant in literal_type.union_type.variants:
            try:
                fill_as(union.value, value, variant, depth + 1, strict=how)
            except Refusal as refusal:
                union.value.Clear()
                if not _is_none(variant):
                    refusals.append(refusal)
            else:
                union.type.CopyFrom(variant)
                return
    if value is not None and len(refusals) == 1:  # an optional: what it says is more to the point
        raise refusals[0]
    raise _mismatch(value, literal_type)


def _is_none(literal_type: LiteralType) -> bool:
    return literal_type.WhichOneof("type") == "simple" and literal_type.simple == SimpleType.NONE


def _enum(literal: Literal, value: Any, literal_type: LiteralType, _depth: int, strict: bool) -> None:
    text = value.value if isinstance(value, Enum) else None if strict else value
    if not isinstance(text, str):
        raise _mismatch(value, literal_type)
    if text not in literal_type.enum_type.values:
        raise Refusal(f"{shown(str(text))} where {described(literal_type)} is expected")
    literal.scalar.primitive.string_value = text


def _blob(literal: Literal, value: Any, literal_type: LiteralType, _depth: int, _strict: bool) -> None:
    wanted = literal_type.blob
    expected = Directory if wanted.dimensionality == BlobType.MULTIPART else File
    if type(value) is not expected:
        raise _mismatch(value, literal_type)
    fill_blob(literal, value, _one_format(value.format, wanted.format, literal_type), wanted.dimensionality)


def _one_format(given: str, wanted: str, literal_type: LiteralType) -> str:
    if given and wanted and given != wanted:
        raise Refusal(f"format {shown(given)} where {described(literal_type)} is expected")
    return given or wanted


def _schema(literal: Literal, value: Any, literal_type: LiteralType, depth: int, _strict: bool) -> None:
    if type(value) is not Schema:
        raise _mismatch(value, literal_type)
    fill(literal, value, depth)
    if value.columns:
        _check_columns(value.columns, [column.name for column in literal_type.schema.columns])
    else:
        literal.scalar.schema.type.CopyFrom(literal_type.schema)


def _structured_dataset(literal: Literal, value: Any, literal_type: LiteralType, depth: int, _strict: bool) -> None:
    if type(value) is not StructuredDataset:
        raise _mismatch(value, literal_type)
    fill(literal, value, depth)
    wanted = literal_type.structured_dataset_type
    kind = literal.scalar.structured_dataset.metadata.structured_dataset_type
    kind.format = _one_format(value.format, wanted.format, literal_type)
    if value.columns:
        _check_columns(value.columns, [column.name for column in wanted.columns])
    else:
        kind.columns.MergeFrom(wanted.columns)
    if not value.external_schema_type:
        kind.external_schema_type = wanted.external_schema_type
        kind.external_schema_bytes = wanted.external_schema_bytes


def _check_columns(given: Columns, wanted: Iterable[str]) -> None:
    """Refuse a table that lacks a declared column; more columns than declared are usual."""
    names = [name for name, _type in given]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise Refusal(f"a table without the declared column {shown(missing[0])}; it has {shown(names)}")


_FILLERS: Mapping[str, Callable[[Literal, Any, LiteralType, int, bool], None]] = {
    "simple": _simple,
    "collection_type": _collection,
    "map_value_type": _map,
    "union_type": _union,
    "enum_type": _enum,
    "blob": _blob,
    "schema": _schema,
    "structured_dataset_type": _structured_dataset,
}


def _mismatch(value: Any, literal_type: LiteralType) -> Refusal:
    return Refusal(f"{name_of(value)} where {described(literal_type)} is expected")
