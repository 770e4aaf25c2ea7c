"""From Python values to literals whose kind the value alone decides."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from types import NoneType
from typing import Any

from flyteidl.core.literals_pb2 import Literal
from flyteidl.core.types_pb2 import BlobType
from google.protobuf.struct_pb2 import Struct

from connector_core.literals import columns
from connector_core.literals.kinds import Model, Record, known, name_of
from connector_core.literals.packed import fill_msgpack
from connector_core.literals.refusal import MAX_MESSAGE_DEPTH, Refusal, check_depth, shown
from connector_core.literals.values import Binary, Directory, ErrorValue, File, Schema, StructuredDataset

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_DURATION = timedelta(seconds=315_576_000_000)  # what protobuf says of its Duration: about 10,000 years
_SECOND = timedelta(seconds=1)


def fill(literal: Literal, value: Any, depth: int) -> None:
    """Write a value into an empty literal."""
    filler = _FILLERS.get(type(value))
    if filler is None:
        value, kind = known(value)
        filler = _FILLERS.get(kind)
        if filler is None:
            raise Refusal(_no_literal(value))
    filler(literal, value, depth)


def fill_known(literal: Literal, value: Any, kind: type, depth: int) -> None:
    """Write a value whose kind has been found already."""
    _FILLERS[kind](literal, value, depth)


def _no_literal(value: Any) -> str:
    return (
        f"{name_of(value)} has no literal: give a number, text, time, list, dict, dataclass or pydantic model, or for "
        "data in storage a File, Directory or StructuredDataset with its uri"
    )


@contextmanager
def as_refusal(value: Any) -> Iterator[None]:
    """Turn protobuf's complaints about a field's value into a refusal."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise Refusal(f"{name_of(value)} with a field that does not fit: {error}") from None


def _none(literal: Literal, _value: None, _depth: int) -> None:
    literal.scalar.none_type.SetInParent()


def _bool(literal: Literal, value: bool, _depth: int) -> None:
    literal.scalar.primitive.boolean = value


def _int(literal: Literal, value: int, _depth: int) -> None:
    try:
        literal.scalar.primitive.integer = value
    except ValueError:
        raise Refusal(f"an int outside of 64 bits: {shown(value)}") from None


def _float(literal: Literal, value: float, _depth: int) -> None:
    literal.scalar.primitive.float_value = value


def _str(literal: Literal, value: str, _depth: int) -> None:
    try:
        literal.scalar.primitive.string_value = value
    except ValueError:
        raise Refusal("text with lone surrogates, which UTF-8 cannot encode") from None


def _datetime(literal: Literal, value: datetime, _depth: int) -> None:
    try:
        if value.utcoffset() is None:
            raise Refusal(
                f"a datetime without a time zone, {value.isoformat()}: give it one, such as tzinfo=datetime.UTC"
            )
        seconds, rest = divmod(value - _EPOCH, _SECOND)
        stamp = literal.scalar.primitive.datetime
        stamp.seconds, stamp.nanos = seconds, rest.microseconds * 1000
        stamp.SetInParent()
    except (ValueError, TypeError, OverflowError):  # such as pandas' NaT, which calls itself a datetime
        raise Refusal(f"{name_of(value)} that is not a point in time: {shown(value)}") from None
    if not -62_135_596_800 <= seconds < 253_402_300_800:
        raise Refusal(f"a datetime that is outside of the years 1 to 9999 in UTC: {value.isoformat()}")


def _date(literal: Literal, value: date, depth: int) -> None:
    _datetime(literal, datetime.combine(value, time(), UTC), depth)


def _timedelta(literal: Literal, value: timedelta, _depth: int) -> None:
    if abs(value) > _MAX_DURATION:
        raise Refusal(f"a timedelta of {value.days} days, which is longer than protobuf's 10,000 years")
    seconds, rest = divmod(abs(value), _SECOND)
    sign = -1 if value < timedelta() else 1  # both of a duration's fields have its sign
    duration = literal.scalar.primitive.duration
    duration.seconds, duration.nanos = sign * seconds, sign * rest.microseconds * 1000
    duration.SetInParent()


def _enum(literal: Literal, value: Enum, depth: int) -> None:
    fill(literal, value.value, depth)


def _collection(literal: Literal, value: Any, depth: int) -> None:
    check_depth(depth, MAX_MESSAGE_DEPTH)
    literal.collection.SetInParent()
    literals = literal.collection.literals
    for index, item in enumerate(value):
        try:
            fill(literals.add(), item, depth + 1)
        except Refusal as refusal:
            raise refusal.within(index) from None


def _packed(literal: Literal, value: Any, _depth: int) -> None:
    fill_msgpack(literal.scalar.binary, value)


def _struct(literal: Literal, value: Struct, _depth: int) -> None:
    literal.scalar.generic.CopyFrom(value)


def _literal(literal: Literal, value: Literal, _depth: int) -> None:
    literal.CopyFrom(value)


def _file(literal: Literal, value: File, _depth: int) -> None:
    fill_blob(literal, value, value.format, BlobType.SINGLE)


def _directory(literal: Literal, value: Directory, _depth: int) -> None:
    fill_blob(literal, value, value.format, BlobType.MULTIPART)


def fill_blob(
    literal: Literal, value: File | Directory, blob_format: str, dimensionality: BlobType.BlobDimensionality
) -> None:
    """Write a blob in this format."""
    blob = literal.scalar.blob
    with as_refusal(value):
        blob.uri = value.uri
        blob.metadata.type.format = blob_format
    blob.metadata.type.dimensionality = dimensionality


def _schema(literal: Literal, value: Schema, _depth: int) -> None:
    schema = literal.scalar.schema
    schema.type.SetInParent()
    with as_refusal(value):
        schema.uri = value.uri
        columns.fill_schema_columns(schema.type, value.columns)


def _structured_dataset(literal: Literal, value: StructuredDataset, _depth: int) -> None:
    dataset = literal.scalar.structured_dataset
    kind = dataset.metadata.structured_dataset_type
    kind.SetInParent()
    with as_refusal(value):
        dataset.uri = value.uri
        kind.format = value.format
        kind.external_schema_type = value.external_schema_type
        kind.external_schema_bytes = value.external_schema_bytes
        columns.fill_dataset_columns(kind, value.columns)


def _binary(literal: Literal, value: Binary, _depth: int) -> None:
    with as_refusal(value):
        literal.scalar.binary.value = value.value
        literal.scalar.binary.tag = value.tag


def _error(literal: Literal, value: ErrorValue, _depth: int) -> None:
    with as_refusal(value):
        literal.scalar.error.message = value.message
        literal.scalar.error.failed_node_id = value.failed_node_id
    literal.scalar.error.SetInParent()


_FILLERS: Mapping[type | None, Callable[[Literal, Any, int], None]] = {
    NoneType: _none,
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    datetime: _datetime,
    date: _date,
    timedelta: _timedelta,
    Enum: _enum,
    list: _collection,
    tuple: _collection,
    dict: _packed,
    Record: _packed,
    Model: _packed,
    bytes: _packed,
    Struct: _struct,
    Literal: _literal,
    File: _file,
    Directory: _directory,
    Schema: _schema,
    StructuredDataset: _structured_dataset,
    Binary: _binary,
    ErrorValue: _error,
}
