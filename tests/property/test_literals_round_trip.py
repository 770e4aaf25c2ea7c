"""Values survive the way through literals and the wire, and whatever is no value is refused in one way only."""

import datetime as dt
from contextlib import suppress
from typing import Any

from flyteidl.core import literals_pb2, types_pb2
from flyteidl.core.literals_pb2 import Literal, LiteralCollection, LiteralMap, Scalar
from flyteidl.core.types_pb2 import BlobType, LiteralType, SimpleType
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from connector_core.errors import LiteralError
from connector_core.literals import (
    Binary,
    Directory,
    ErrorValue,
    File,
    Schema,
    StructuredDataset,
    to_literal,
    to_literal_map,
    to_python,
    to_python_map,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False)
ZONES = st.builds(
    dt.timezone, st.timedeltas(min_value=dt.timedelta(hours=-23), max_value=dt.timedelta(hours=23)), st.just("there")
)
# A day away from the ends, where another time zone's year is 0 or 10000.
DATETIMES = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=ZONES)  # noqa: DTZ001
TIMEDELTAS = st.timedeltas(dt.timedelta(days=-3_652_500), dt.timedelta(days=3_652_500))

COLUMN_TYPES = st.recursive(
    st.sampled_from([int, float, str, bool, dt.datetime, dt.timedelta, bytes, dict]),
    lambda inner: st.builds(lambda one: list[one], inner) | st.builds(lambda one: dict[str, one], inner),  # type: ignore[valid-type]
    max_leaves=3,
)
SCHEMA_TYPES = st.sampled_from([int, float, str, bool, dt.datetime, dt.timedelta])
REFERENCES = st.one_of(
    st.builds(File, TEXT, TEXT),
    st.builds(Directory, TEXT, TEXT),
    st.builds(Schema, TEXT, st.lists(st.tuples(TEXT, SCHEMA_TYPES), max_size=3).map(tuple)),
    st.builds(
        StructuredDataset,
        TEXT,
        TEXT,
        st.lists(st.tuples(TEXT, COLUMN_TYPES), max_size=3).map(tuple),
        TEXT,
        st.binary(max_size=8),
    ),
    st.builds(Binary, st.binary(max_size=8), TEXT.filter(lambda tag: tag != "msgpack")),
    st.builds(ErrorValue, TEXT, TEXT),
)
DATA = st.recursive(
    st.none() | st.booleans() | INTS | FLOATS | TEXT | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | INTS, inner, max_size=4),
    max_leaves=8,
)
VALUES = st.recursive(
    DATA | DATETIMES | TIMEDELTAS | REFERENCES, lambda inner: st.lists(inner, max_size=4), max_leaves=8
)


def _simple(number: int, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[LiteralType, Any]]:
    return st.tuples(st.just(LiteralType(simple=number)), values)  # type: ignore[arg-type]


def _blob(dimensionality: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[LiteralType, Any]]:
    return st.tuples(st.just(LiteralType(blob=BlobType(dimensionality=dimensionality))), values)


@st.composite
def _collections(
    draw: st.DrawFn, inner: st.SearchStrategy[tuple[LiteralType, Any]]
) -> tuple[LiteralType, list[Any] | dict[str, Any]]:
    literal_type, value = draw(inner)
    if draw(st.booleans()):
        return LiteralType(collection_type=literal_type), [value] * draw(st.integers(0, 3))
    return LiteralType(map_value_type=literal_type), dict.fromkeys(draw(st.lists(TEXT, max_size=3)), value)


@st.composite
def _unions(draw: st.DrawFn, inner: st.SearchStrategy[tuple[LiteralType, Any]]) -> tuple[LiteralType, Any]:
    variants = draw(st.lists(inner, min_size=1, max_size=3))
    union = types_pb2.UnionType(variants=[literal_type for literal_type, _value in variants])
    return LiteralType(union_type=union), draw(st.sampled_from([value for _literal_type, value in variants]))


PLAIN_STRUCTS = st.dictionaries(
    TEXT,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
TYPED = st.recursive(
    st.one_of(
        _simple(SimpleType.INTEGER, INTS),
        _simple(SimpleType.FLOAT, FLOATS),
        _simple(SimpleType.STRING, TEXT),
        _simple(SimpleType.BOOLEAN, st.booleans()),
        _simple(SimpleType.DATETIME, DATETIMES),
        _simple(SimpleType.DURATION, TIMEDELTAS),
        _simple(SimpleType.NONE, st.none()),
        _simple(SimpleType.BINARY, st.binary(max_size=8)),
        _simple(SimpleType.STRUCT, PLAIN_STRUCTS),
        _simple(SimpleType.ERROR, st.builds(ErrorValue, TEXT, TEXT)),
        _blob(BlobType.SINGLE, st.builds(File, TEXT, TEXT)),
        _blob(BlobType.MULTIPART, st.builds(Directory, TEXT, TEXT)),
    ),
    lambda inner: _collections(inner) | _unions(inner),
    max_leaves=6,
)

INT64, INT32 = st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1)
ANY_SCALAR = st.one_of(
    st.builds(
        lambda seconds, nanos: Scalar(primitive={"datetime": Timestamp(seconds=seconds, nanos=nanos)}), INT64, INT32
    ),
    st.builds(
        lambda seconds, nanos: Scalar(primitive={"duration": Duration(seconds=seconds, nanos=nanos)}), INT64, INT32
    ),
    st.builds(lambda value: Scalar(binary=literals_pb2.Binary(value=value, tag="msgpack")), st.binary(max_size=30)),
    st.builds(lambda value: Scalar(primitive=literals_pb2.Primitive(float_value=value)), st.floats()),
    st.builds(lambda fields: Scalar(generic=_struct(fields)), PLAIN_STRUCTS),
    st.just(Scalar()),
    st.just(Scalar(primitive=literals_pb2.Primitive())),
)
ANY_LITERAL = st.recursive(
    st.just(Literal()) | st.builds(lambda scalar: Literal(scalar=scalar), ANY_SCALAR),
    lambda inner: st.one_of(
        st.builds(lambda items: Literal(collection=LiteralCollection(literals=items)), st.lists(inner, max_size=3)),
        st.builds(lambda items: Literal(map=LiteralMap(literals=items)), st.dictionaries(TEXT, inner, max_size=3)),
        st.builds(lambda one: Literal(scalar=Scalar(union=literals_pb2.Union(value=one))), inner),
    ),
    max_leaves=5,
)


def _struct(fields: dict[str, Any]) -> Struct:
    struct = Struct()
    struct.update(fields)
    return struct


def _sent(literal: Literal) -> Literal:
    return Literal.FromString(literal.SerializeToString())


@given(VALUES)
def test_any_value_survives(value: Any) -> None:
    assert to_python(_sent(to_literal(value))) == value


@given(TYPED)
def test_any_value_of_a_type_survives(typed: tuple[LiteralType, Any]) -> None:
    literal_type, value = typed
    assert to_python(_sent(to_literal(value, literal_type))) == value


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_any_named_values_survive(values: dict[str, Any]) -> None:
    assert to_python_map(LiteralMap.FromString(to_literal_map(values).SerializeToString())) == values


@given(DATETIMES)
def test_a_datetime_comes_back_as_the_same_moment_in_utc(value: dt.datetime) -> None:
    back = to_python(to_literal(value))
    assert back == value
    assert back.utcoffset() == dt.timedelta()


@given(ANY_LITERAL)
def test_any_literal_is_read_or_refused_with_a_literal_error(literal: Literal) -> None:
    with suppress(LiteralError):
        to_python(literal)


@given(TYPED, VALUES | st.sampled_from([object(), {1}, float("nan"), "\ud800", 2**64]))
def test_any_value_fits_a_type_or_is_refused_with_a_literal_error(typed: tuple[LiteralType, Any], value: Any) -> None:
    literal_type, _value = typed
    before = literal_type.SerializeToString(deterministic=True)
    with suppress(LiteralError):
        to_literal(value, literal_type)
    assert literal_type.SerializeToString(deterministic=True) == before
