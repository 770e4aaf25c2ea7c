"""From literals to Python values."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flyteidl.core.literals_pb2 import Literal, LiteralMap, Primitive
from flyteidl.core.types_pb2 import BlobType
from google.protobuf.struct_pb2 import Struct

from connector_core.literals import columns
from connector_core.literals.generic import read_struct
from connector_core.literals.packed import read_msgpack
from connector_core.literals.refusal import MAX_DEPTH, Refusal, check_depth, shown
from connector_core.literals.values import (
    MSGPACK,
    PICKLE_FORMAT,
    Binary,
    Directory,
    ErrorValue,
    File,
    Schema,
    StructuredDataset,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_python(literal: Literal) -> Any:
    """Return a literal's Python value; `connector_core.literals` says which.

    Raises:
        OffloadedLiteralError: the engine stored the value elsewhere.
        LiteralError: the literal is empty, malformed or nested too deep.
    """
    try:
        return _decode(literal, 0)
    except Refusal as refusal:
        raise refusal.to_error() from None


def to_python_map(literals: LiteralMap) -> dict[str, Any]:
    """Return Python values by name.

    Raises:
        OffloadedLiteralError: the engine stored a value elsewhere.
        LiteralError: as in `to_python`; the message names the input and the position in it.
    """
    values: dict[str, Any] = {}
    name = ""
    try:
        by_name = literals.literals
        for name in by_name:  # its `items()` is a generator in Python
            values[name] = _decode(by_name[name], 0)
    except Refusal as refusal:
        raise refusal.to_error(f"input {shown(name)}") from None
    return values


def to_python_dict(struct: Struct) -> dict[str, Any]:
    """Return a generic struct, such as a task template's `custom`, as a dict; whole numbers are ints.

    Raises:
        LiteralError: it is nested too deep.
    """
    try:
        return read_struct(struct, 0)
    except Refusal as refusal:
        raise refusal.to_error("custom") from None


def _decode(literal: Literal, depth: int) -> Any:
    return _LITERALS[literal.WhichOneof("value")](literal, depth)


def _refuse_empty(_literal: Literal, _depth: int) -> Any:
    raise Refusal("the literal is empty, or of a kind that is newer than this host's flyteidl")


def _offloaded(literal: Literal, _depth: int) -> Any:
    uri = literal.offloaded_metadata.uri
    raise Refusal(
        f"the value was too large for the engine to pass on and is stored at {uri}: read it there, or have the "
        "task take a file or a structured dataset",
        offloaded_to=uri,
    )


def _collection(literal: Literal, depth: int) -> list[Any]:
    check_depth(depth, MAX_DEPTH)
    values: list[Any] = []
    try:
        for item in literal.collection.literals:
            values.append(_decode(item, depth + 1))  # noqa: PERF401 - its length says where a failure was
    except Refusal as refusal:
        raise refusal.within(len(values)) from None
    return values


def _map(literal: Literal, depth: int) -> dict[str, Any]:
    check_depth(depth, MAX_DEPTH)
    values: dict[str, Any] = {}
    key = ""
    try:
        items = literal.map.literals
        for key in items:
            values[key] = _decode(items[key], depth + 1)
    except Refusal as refusal:
        raise refusal.within(key) from None
    return values


def _scalar(literal: Literal, depth: int) -> Any:
    scalar = literal.scalar
    kind = scalar.WhichOneof("value")
    return _primitive(scalar.primitive) if kind == "primitive" else _SCALARS[kind](literal, depth)


def _primitive(primitive: Primitive) -> Any:
    kind = primitive.WhichOneof("value")
    return _PRIMITIVES[kind](primitive) if kind in _PRIMITIVES else getattr(primitive, kind)


def _refuse_empty_primitive(_primitive: Primitive) -> Any:
    raise Refusal("the literal is a primitive without a value")


def _datetime(primitive: Primitive) -> datetime:
    stamp = primitive.datetime
    try:
        return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    except OverflowError:
        raise Refusal(f"a time {stamp.seconds} s from 1970, which is outside of the years 1 to 9999") from None


def _timedelta(primitive: Primitive) -> timedelta:
    duration = primitive.duration
    # Not nanos // 1000: a duration's nanos have its sign, and cutting off goes towards zero.
    micros = abs(duration.nanos) // 1000
    try:
        return timedelta(seconds=duration.seconds, microseconds=micros if duration.nanos >= 0 else -micros)
    except OverflowError:
        raise Refusal(f"a duration of {duration.seconds} s, which is longer than Python's timedelta can be") from None


def _none(_literal: Literal, _depth: int) -> None:
    return None


def _union(literal: Literal, depth: int) -> Any:
    check_depth(depth, MAX_DEPTH)
    return _decode(literal.scalar.union.value, depth + 1)


def _generic(literal: Literal, depth: int) -> Any:
    struct = literal.scalar.generic
    # How flytekit passes on a dict that it had to pickle.
    if literal.metadata.get("format") == "pickle" and "pickle_file" in struct.fields:
        return File(struct.fields["pickle_file"].string_value, PICKLE_FORMAT)
    return read_struct(struct, depth)


def _binary(literal: Literal, _depth: int) -> Any:
    binary = literal.scalar.binary
    return read_msgpack(binary.value) if binary.tag == MSGPACK else Binary(binary.value, binary.tag)


def _blob(literal: Literal, _depth: int) -> File | Directory:
    blob = literal.scalar.blob
    kind = _BLOBS.get(blob.metadata.type.dimensionality)
    if kind is None:
        raise Refusal(f"a blob of unknown dimensionality {blob.metadata.type.dimensionality}")
    return kind(blob.uri, blob.metadata.type.format)


def _schema(literal: Literal, _depth: int) -> Schema:
    schema = literal.scalar.schema
    return Schema(schema.uri, columns.schema_columns(schema.type))


def _structured_dataset(literal: Literal, _depth: int) -> StructuredDataset:
    dataset = literal.scalar.structured_dataset
    kind = dataset.metadata.structured_dataset_type
    return StructuredDataset(
        dataset.uri, kind.format, columns.dataset_columns(kind), kind.external_schema_type, kind.external_schema_bytes
    )


def _error(literal: Literal, _depth: int) -> ErrorValue:
    error = literal.scalar.error
    return ErrorValue(error.message, error.failed_node_id)


_LITERALS: Mapping[str | None, Callable[[Literal, int], Any]] = {
    "scalar": _scalar,
    "collection": _collection,
    "map": _map,
    "offloaded_metadata": _offloaded,
    None: _refuse_empty,
}
_SCALARS: Mapping[str | None, Callable[[Literal, int], Any]] = {
    "none_type": _none,
    "union": _union,
    "generic": _generic,
    "binary": _binary,
    "blob": _blob,
    "schema": _schema,
    "structured_dataset": _structured_dataset,
    "error": _error,
    None: _refuse_empty,
}
_PRIMITIVES: Mapping[str | None, Callable[[Primitive], Any]] = {
    "datetime": _datetime,
    "duration": _timedelta,
    None: _refuse_empty_primitive,
}
_BLOBS: Mapping[int, type[File] | type[Directory]] = {BlobType.SINGLE: File, BlobType.MULTIPART: Directory}
