"""Literals become the Python values that they stand for and the other way round, or an error says what is wrong."""

import datetime as dt
import math
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from types import GenericAlias, MappingProxyType, SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core import literals_pb2, types_pb2
from flyteidl.core.literals_pb2 import Literal, LiteralMap, Scalar
from flyteidl.core.types_pb2 import BlobType, LiteralType, SchemaType, SimpleType, StructuredDatasetType
from google.protobuf.struct_pb2 import Struct
from pydantic import BaseModel, RootModel

from connector_core.errors import LiteralError, OffloadedLiteralError
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

NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=dt.UTC)
INTEGER = LiteralType(simple=SimpleType.INTEGER)
FLOAT = LiteralType(simple=SimpleType.FLOAT)
STRING = LiteralType(simple=SimpleType.STRING)
BOOLEAN = LiteralType(simple=SimpleType.BOOLEAN)
DATETIME = LiteralType(simple=SimpleType.DATETIME)
DURATION = LiteralType(simple=SimpleType.DURATION)
NONE = LiteralType(simple=SimpleType.NONE)
BINARY = LiteralType(simple=SimpleType.BINARY)
ERROR = LiteralType(simple=SimpleType.ERROR)
STRUCT = LiteralType(simple=SimpleType.STRUCT)
MSGPACK_STRUCT = LiteralType(simple=SimpleType.STRUCT)
MSGPACK_STRUCT.annotation.annotations.update({"cache-key-metadata": {"serialization-format": "msgpack"}})
COLOURS = LiteralType(enum_type=types_pb2.EnumType(values=["red", "blue"]))
FILE = LiteralType(blob=BlobType(format="csv", dimensionality=BlobType.SINGLE))
DIRECTORY = LiteralType(blob=BlobType(dimensionality=BlobType.MULTIPART))


class Colour(Enum):
    RED = "red"


class Shade(str, Enum):  # noqa: UP042 - what workflow authors write
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Inner:
    n: int = 1


@dataclass
class Everything:
    when: dt.datetime
    day: dt.date
    at: dt.time
    wait: dt.timedelta
    colour: Colour
    price: Decimal
    key: UUID
    path: PurePosixPath
    raw: bytes
    pair: tuple[int, str]
    tags: frozenset[int]
    inner: Inner
    names: dict[int, str]
    file: File
    folder: Directory
    table: StructuredDataset
    old_table: Schema
    nothing: None


class NotATime(dt.datetime):
    """What pandas' NaT is like."""

    def utcoffset(self) -> dt.timedelta:
        return dt.timedelta()

    def __sub__(self, other: Any) -> Any:
        raise ValueError("NaT")


class Model(BaseModel):
    n: int
    when: dt.datetime


def collection_of(item: LiteralType) -> LiteralType:
    return LiteralType(collection_type=item)


def map_of(value: LiteralType) -> LiteralType:
    return LiteralType(map_value_type=value)


def union_of(*variants: LiteralType) -> LiteralType:
    return LiteralType(union_type=types_pb2.UnionType(variants=variants))


def nested_collections(levels: int) -> Literal:
    literal = Literal()
    innermost = literal
    for _ in range(levels):
        innermost = innermost.collection.literals.add()
    innermost.scalar.primitive.integer = 1
    return literal


def nested_lists(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def nested_list_type(levels: int) -> Any:
    column_type: Any = int
    for _ in range(levels):
        column_type = GenericAlias(list, (column_type,))
    return column_type


SAME_BOTH_WAYS: dict[str, Any] = {
    "zero": 0,
    "the least int": -(2**63),
    "the greatest int": 2**63 - 1,
    "float": 0.1,
    "infinity": float("-inf"),
    "empty str": "",
    "str": "päß\0鍵",
    "false": False,
    "true": True,
    "none": None,
    "datetime": NOON,
    "the epoch": dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    "before the epoch": dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC),
    "the first datetime": dt.datetime.min.replace(tzinfo=dt.UTC),
    "the last datetime": dt.datetime.max.replace(tzinfo=dt.UTC),
    "no time": dt.timedelta(),
    "timedelta": dt.timedelta(days=1, microseconds=1),
    "negative timedelta": dt.timedelta(microseconds=-1),
    "bytes": b"\x00\xff",
    "empty list": [],
    "list": [1, "two", [3.0, None]],
    "empty dict": {},
    "dict": {"a": 1, "b": [True, None, {"c": 2**64 - 1}]},
    "dict with numbers as keys": {1: "one", 2.5: "more"},
    "binary": Binary(b"\x00", "avro"),
    "file": File("s3://b/f", "csv"),
    "file without a format": File("s3://b/f"),
    "directory": Directory("s3://b/d"),
    "schema": Schema("s3://b/s", (("a", int), ("b", dt.datetime), ("a", str))),
    "structured dataset": StructuredDataset(
        "s3://b/t", "parquet", (("a", int), ("a", list[str]), ("m", dict[str, float]), ("d", dict)), "arrow", b"\x01"
    ),
    "structured dataset of unknown columns": StructuredDataset("s3://b/t"),
    "structured dataset with a column of another type": StructuredDataset("s3://b/t", columns=(("c", COLOURS),)),
    "error": ErrorValue("no luck", "n0"),
    "empty error": ErrorValue(""),
}


@pytest.mark.parametrize("value", SAME_BOTH_WAYS.values(), ids=SAME_BOTH_WAYS.keys())
def test_a_value_comes_back_as_it_was(value: object) -> None:
    on_the_wire = to_literal(value).SerializeToString()
    back = to_python(Literal.FromString(on_the_wire))
    assert back == value
    assert type(back) is type(value)


def test_nan_stays_nan() -> None:
    assert math.isnan(to_python(to_literal(float("nan"))))


def test_maps_convert_by_name() -> None:
    values = {"n": 1, "s": "x", "items": [1.5], "nothing": None}
    assert to_python_map(to_literal_map(values)) == values
    assert to_python_map(LiteralMap()) == {}


# --- literal to Python ---


def test_a_datetime_is_in_utc_to_the_microsecond() -> None:
    literal = Literal()
    literal.scalar.primitive.datetime.seconds = 1
    literal.scalar.primitive.datetime.nanos = 999_999_999
    value = to_python(literal)
    assert value == dt.datetime(1970, 1, 1, 0, 0, 1, 999999, tzinfo=dt.UTC)
    assert value.tzinfo is dt.UTC


def test_a_negative_duration_is_cut_off_towards_zero() -> None:
    literal = Literal()
    literal.scalar.primitive.duration.seconds = -1
    literal.scalar.primitive.duration.nanos = -500_000_001
    assert to_python(literal) == dt.timedelta(seconds=-1.5)


def test_a_union_is_the_value_of_its_variant() -> None:
    literal = Literal()
    literal.scalar.union.type.CopyFrom(STRING)
    literal.scalar.union.value.scalar.primitive.string_value = "x"
    assert to_python(literal) == "x"


def test_a_map_is_a_dict() -> None:
    literal = to_literal({"a": [1], "b": []}, map_of(collection_of(INTEGER)))
    assert literal.WhichOneof("value") == "map"
    assert to_python(literal) == {"a": [1], "b": []}


def test_whole_numbers_of_a_generic_struct_are_ints() -> None:
    literal = Literal()
    literal.scalar.generic.update({"n": 3, "x": 1.5, "big": 1e300, "list": [1, {"a": None, "b": True}], "s": "3"})
    back = to_python(literal)
    assert back == {"n": 3, "x": 1.5, "big": 1e300, "list": [1, {"a": None, "b": True}], "s": "3"}
    assert type(back["n"]) is int


def test_a_pickle_is_a_file_that_is_not_loaded() -> None:
    literal = Literal(metadata={"format": "pickle"})
    literal.scalar.generic.update({"pickle_file": "s3://b/p"})
    assert to_python(literal) == File("s3://b/p", "PythonPickle")


def test_an_offloaded_literal_is_an_error_that_names_where_it_is() -> None:
    literals = LiteralMap()
    literals.literals["x"].collection.literals.add().offloaded_metadata.uri = "s3://b/offloaded"
    with pytest.raises(OffloadedLiteralError, match=r"input 'x' at \[0\]: .*s3://b/offloaded") as caught:
        to_python_map(literals)
    assert caught.value.uri == "s3://b/offloaded"


def _datetime_literal(seconds: int) -> Literal:
    literal = Literal()
    literal.scalar.primitive.datetime.seconds = seconds
    return literal


def _duration_literal(seconds: int) -> Literal:
    literal = Literal()
    literal.scalar.primitive.duration.seconds = seconds
    return literal


def _msgpack_literal(data: bytes) -> Literal:
    return Literal(scalar=Scalar(binary=literals_pb2.Binary(value=data, tag="msgpack")))


def _deep_struct(levels: int) -> Literal:
    literal = Literal()
    innermost = literal.scalar.generic
    for _ in range(levels):
        innermost = innermost.fields["x"].struct_value
    return literal


def _deep_unions(levels: int) -> Literal:
    literal = Literal()
    innermost = literal
    for _ in range(levels):
        innermost = innermost.scalar.union.value
    innermost.scalar.none_type.SetInParent()
    return literal


def _schema_of_type(number: int) -> Literal:
    literal = Literal()
    literal.scalar.schema.type.columns.add(name="a", type=number)
    return literal


def _blob_of_dimensionality(number: int) -> Literal:
    literal = Literal()
    literal.scalar.blob.metadata.type.dimensionality = number  # type: ignore[assignment]
    return literal


MALFORMED: dict[str, tuple[Literal, str]] = {
    "empty": (Literal(), "empty"),
    "empty scalar": (Literal(scalar=Scalar()), "empty"),
    "empty primitive": (Literal(scalar=Scalar(primitive=literals_pb2.Primitive())), "primitive without a value"),
    "year 10000": (_datetime_literal(253_402_300_800), "years 1 to 9999"),
    "far past": (_datetime_literal(-(2**63)), "years 1 to 9999"),
    "endless duration": (_duration_literal(2**63 - 1), "longer than"),
    "no msgpack": (_msgpack_literal(b"\xc1"), "not valid msgpack"),
    "nothing packed": (_msgpack_literal(b""), "not valid msgpack"),
    "msgpack and more": (_msgpack_literal(b"\x01\x02"), "not valid msgpack"),
    "msgpack that is no UTF-8": (_msgpack_literal(b"\xa1\xff"), "utf-8"),
    "msgpack with a map as key": (_msgpack_literal(b"\x81\x80\x01"), "must be hashable"),
    "msgpack with an extension": (_msgpack_literal(b"\xd4\x05\x01"), "extension of type 5"),
    "msgpack nested too deep": (_msgpack_literal(b"\x91" * 100_000 + b"\x01"), "not valid msgpack"),
    "collections nested too deep": (nested_collections(10_000), "nested deeper than 100"),
    "unions nested too deep": (_deep_unions(10_000), "nested deeper than 100"),
    "struct nested too deep": (_deep_struct(10_000), "nested deeper than 100"),
    "blob of an unknown kind": (_blob_of_dimensionality(7), "unknown dimensionality 7"),
    "schema column of an unknown type": (_schema_of_type(77), "column 'a' has an unknown type"),
}


@pytest.mark.parametrize(("literal", "reason"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_literal_is_an_error_that_says_why(literal: Literal, reason: str) -> None:
    with pytest.raises(LiteralError, match=reason):
        to_python(literal)


def test_an_error_names_the_input_and_the_position_in_it() -> None:
    literals = to_literal_map({"good": 1})
    items = literals.literals["x"].map.literals["key"].collection.literals
    items.add().scalar.primitive.integer = 1
    items.add()
    with pytest.raises(LiteralError, match=r"^input 'x' at \['key'\]\[1\]: the literal is empty"):
        to_python_map(literals)
    with pytest.raises(LiteralError, match=r"^at \['key'\]\[1\]: "):
        to_python(literals.literals["x"])


def test_a_timestamp_in_msgpack_is_a_datetime() -> None:
    assert to_python(_msgpack_literal(b"\xd6\xff\x00\x00\x00\x01")) == dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)


# --- Python to literal, by value ---


def test_a_bool_is_no_int() -> None:
    assert to_literal(True).scalar.primitive.WhichOneof("value") == "boolean"
    assert to_literal(1).scalar.primitive.WhichOneof("value") == "integer"


def test_any_time_zone_becomes_utc() -> None:
    local = NOON.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30)))
    assert to_literal(local) == to_literal(NOON)


def test_a_date_is_midnight_utc() -> None:
    assert to_python(to_literal(dt.date(2024, 1, 2))) == dt.datetime(2024, 1, 2, tzinfo=dt.UTC)


@pytest.mark.parametrize(("member", "value"), [(Colour.RED, "red"), (Shade.RED, "red"), (Level.HIGH, 3)])
def test_an_enum_member_is_its_value(member: Enum, value: object) -> None:
    assert to_literal(member) == to_literal(value)


def test_a_dataclass_is_msgpack_in_the_forms_that_flytekit_writes() -> None:
    value = Everything(
        when=dt.datetime(2024, 1, 2, 3, 4),  # noqa: DTZ001 - text keeps what it is
        day=dt.date(2024, 1, 2),
        at=dt.time(3, 4),
        wait=dt.timedelta(seconds=1.5),
        colour=Colour.RED,
        price=Decimal("1.50"),
        key=UUID(int=1),
        path=PurePosixPath("a/b"),
        raw=b"\x00\xff",
        pair=(1, "x"),
        tags=frozenset({7}),
        inner=Inner(),
        names={1: "one"},
        file=File("s3://b/f"),
        folder=Directory("s3://b/d"),
        table=StructuredDataset("s3://b/t", "csv"),
        old_table=Schema("s3://b/s"),
        nothing=None,
    )
    literal = to_literal(value)
    assert literal.scalar.binary.tag == "msgpack"
    assert to_python(literal) == {
        "when": "2024-01-02T03:04:00",
        "day": "2024-01-02",
        "at": "03:04:00",
        "wait": 1.5,
        "colour": "red",
        "price": "1.50",
        "key": "00000000-0000-0000-0000-000000000001",
        "path": "a/b",
        "raw": b"\x00\xff",
        "pair": [1, "x"],
        "tags": [7],
        "inner": {"n": 1},
        "names": {1: "one"},
        "file": {"path": "s3://b/f"},
        "folder": {"path": "s3://b/d"},
        "table": {"uri": "s3://b/t", "file_format": "csv"},
        "old_table": {"remote_path": "s3://b/s"},
        "nothing": None,
    }


def test_a_pydantic_model_is_msgpack_of_its_json() -> None:
    assert to_python(to_literal(Model(n=1, when=NOON))) == {"n": 1, "when": "2024-02-29T12:00:00.123456Z"}
    assert to_python(to_literal([{"model": Model(n=1, when=NOON)}]))[0]["model"]["n"] == 1


def test_mappings_tuples_and_subclasses_are_taken_for_what_they_are() -> None:
    class Text(str):
        __slots__ = ()

    class Count(int):
        pass

    class Stamp(dt.datetime):
        pass

    assert to_python(to_literal(MappingProxyType({"a": (1, bytearray(b"x"))}))) == {"a": [1, b"x"]}
    assert to_python(to_literal((Text("x"), Count(3), Stamp(2024, 1, 1, tzinfo=dt.UTC)))) == [
        "x",
        3,
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    ]
    assert to_python(to_literal({"a": Text("x"), "b": Count(3)})) == {"a": "x", "b": 3}


@pytest.mark.parametrize(("kind", "item"), [("i", 3), ("b", True), ("f", 0.5), ("U", "x")])
def test_a_scalar_of_an_array_library_is_pythons(kind: str, item: object) -> None:
    scalar = SimpleNamespace(dtype=SimpleNamespace(kind=kind), shape=(), item=lambda: item)
    assert to_literal(scalar) == to_literal(item)
    assert to_python(to_literal({"a": scalar})) == {"a": item}


def test_a_literal_stays_as_it_is() -> None:
    given = Literal(scalar=Scalar(primitive=literals_pb2.Primitive(integer=1)), hash="abc")
    assert to_literal(given) == given
    assert to_literal([given]).collection.literals[0] == given
    assert to_literal(given, STRING) == given


def test_a_struct_message_is_a_generic_struct() -> None:
    struct = Struct()
    struct.update({"a": [1]})
    assert to_literal(struct).scalar.generic == struct
    assert to_python(to_literal({"deep": struct})) == {"deep": {"a": [1]}}


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append({"again": cycle})
    return cycle


REFUSED: dict[str, tuple[object, str]] = {
    "an int of 65 bits": (2**63, r"outside of 64 bits: 9223372036854775808"),
    "an int of many digits": (10**5000, "outside of 64 bits"),
    "an int of 65 bits in a struct": ({"a": 2**64}, r"at \['a'\]: an int outside of 64 bits"),
    "a naive datetime": (NOON.replace(tzinfo=None), "without a time zone"),
    "a datetime before the year 1": (
        dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))),
        "outside of the years 1 to 9999",
    ),
    "no point in time": (NotATime(2024, 1, 1), "not a point in time"),
    "a timedelta of a million years": (dt.timedelta.max, "longer than"),
    "a lone surrogate": ("\ud800", "surrogates"),
    "a lone surrogate in a struct": ({"a": ["\ud800"]}, "surrogates"),
    "a Decimal": (Decimal("1.5"), "a Decimal has no literal"),
    "a set": ({1}, "a set has no literal"),
    "an object": (object(), "an object has no literal"),
    "a class": (Inner, "has no literal"),
    "an object in a list": ([1, [object()]], r"^at \[1\]\[0\]: an object has no literal"),
    "an object in a struct": ({"a": [object()]}, r"^at \['a'\]\[0\]: an object has no form inside of a struct"),
    "an array": (SimpleNamespace(dtype=SimpleNamespace(kind="i"), shape=(3,), item=None), "has no literal"),
    "a tuple as a key": ({(1, 2): 3}, "a key that is a tuple"),
    "two keys that become one": ({"red": 1, Colour.RED: 2}, "two keys that both become 'red'"),
    "a cycle": (_cycle(), "containing itself"),
    "lists nested too deep": (nested_lists(10_000), "nested deeper than 28"),
    "a struct nested too deep": ({"a": nested_lists(10_000)}, "nested deeper than 100"),
    "a uri that is no str": (File(3), "field that does not fit"),  # type: ignore[arg-type]
    "a schema column of another type": (Schema("s3://b/s", (("a", dict),)), "column 'a' has type <class 'dict'>"),
    "a column type nested too deep": (
        StructuredDataset("s3://b/t", columns=(("a", nested_list_type(50)),)),
        "column 'a'",
    ),
    "a column type that none is": (StructuredDataset("s3://b/t", columns=(("a", set[int]),)), r"column 'a' has type"),
    "a column type that is none": (StructuredDataset("s3://b/t", columns=(("a", [int]),)), r"column 'a' has type"),
    "a model that cannot be dumped": (RootModel[object](object()), "cannot be dumped"),
}


@pytest.mark.parametrize(("value", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_value_without_a_literal_is_an_error_that_says_why(value: object, reason: str) -> None:
    with pytest.raises(LiteralError, match=reason):
        to_literal(value)


def test_an_error_names_the_output_and_the_position_in_it() -> None:
    with pytest.raises(LiteralError, match=r"^output 'rows' at \[1\]\['id'\]: an object"):
        to_literal_map({"n": 1, "rows": [{"id": 1}, {"id": object()}]})
    with pytest.raises(LiteralError, match="outputs are named by strings"):
        to_literal_map({1: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize("kind", ["lists", "maps", "unions"])
def test_what_is_made_can_be_read_again_by_protobuf(kind: str) -> None:
    value: Any = NOON
    literal_type = DATETIME
    for _ in range(28):
        value = {"lists": [value], "maps": {"a": value}, "unions": value}[kind]
        wrap = {"lists": collection_of, "maps": map_of, "unions": union_of}[kind]
        literal_type = wrap(literal_type)
    answer = agent_pb2.GetTaskResponse(
        resource=agent_pb2.Resource(outputs=to_literal_map({"x": value}, {"x": literal_type}))
    )
    assert agent_pb2.GetTaskResponse.FromString(answer.SerializeToString()) == answer
    with pytest.raises(LiteralError, match=r"nested deeper than 28"):
        to_literal([value], collection_of(literal_type))


# --- Python to literal, by type ---

TYPED: dict[str, tuple[object, LiteralType, object]] = {
    "int": (1, INTEGER, 1),
    "int as float": (1, FLOAT, 1.0),
    "str": ("x", STRING, "x"),
    "bool": (True, BOOLEAN, True),
    "datetime": (NOON, DATETIME, NOON),
    "date": (dt.date(2024, 1, 2), DATETIME, dt.datetime(2024, 1, 2, tzinfo=dt.UTC)),
    "timedelta": (dt.timedelta(1), DURATION, dt.timedelta(1)),
    "none": (None, NONE, None),
    "bytes": (b"x", BINARY, b"x"),
    "binary": (Binary(b"x", "avro"), BINARY, Binary(b"x", "avro")),
    "error": (ErrorValue("m"), ERROR, ErrorValue("m")),
    "enum member": (Colour.RED, COLOURS, "red"),
    "enum value": ("blue", COLOURS, "blue"),
    "enum member as str": (Colour.RED, STRING, "red"),
    "enum member as int": (Level.HIGH, INTEGER, 3),
    "struct": ({"a": 1, "b": [None, True, {"c": "x"}]}, STRUCT, {"a": 1, "b": [None, True, {"c": "x"}]}),
    "struct of a dataclass": (Inner(), STRUCT, {"n": 1}),
    "struct of a binary": (Binary(b"x", "avro"), STRUCT, Binary(b"x", "avro")),
    "msgpack struct": ({1: b"x"}, MSGPACK_STRUCT, {1: b"x"}),
    "list": ((1, 2.5), collection_of(FLOAT), [1.0, 2.5]),
    "map": ({"a": NOON, Colour.RED: NOON}, map_of(DATETIME), {"a": NOON, "red": NOON}),
    "optional": (None, union_of(INTEGER, NONE), None),
    "file takes the declared format": (File("s3://b/f"), FILE, File("s3://b/f", "csv")),
    "file": (File("s3://b/f", "csv"), LiteralType(blob=BlobType()), File("s3://b/f", "csv")),
    "directory": (Directory("s3://b/d"), DIRECTORY, Directory("s3://b/d")),
    "schema": (Schema("s3://b/s", (("a", int),)), LiteralType(schema=SchemaType()), Schema("s3://b/s", (("a", int),))),
    "schema takes the declared columns": (
        Schema("s3://b/s"),
        LiteralType(schema=SchemaType(columns=[SchemaType.SchemaColumn(name="a", type=SchemaType.SchemaColumn.FLOAT)])),
        Schema("s3://b/s", (("a", float),)),
    ),
    "structured dataset takes what is declared": (
        StructuredDataset("s3://b/t"),
        LiteralType(
            structured_dataset_type=StructuredDatasetType(
                format="parquet",
                columns=[StructuredDatasetType.DatasetColumn(name="a", literal_type=INTEGER)],
                external_schema_type="arrow",
                external_schema_bytes=b"\x01",
            )
        ),
        StructuredDataset("s3://b/t", "parquet", (("a", int),), "arrow", b"\x01"),
    ),
    "structured dataset may have more columns than declared": (
        StructuredDataset("s3://b/t", "csv", (("b", str), ("a", int))),
        LiteralType(
            structured_dataset_type=StructuredDatasetType(
                columns=[StructuredDatasetType.DatasetColumn(name="a", literal_type=INTEGER)]
            )
        ),
        StructuredDataset("s3://b/t", "csv", (("b", str), ("a", int))),
    ),
    "no type": (1, LiteralType(), 1),
}


@pytest.mark.parametrize(("value", "literal_type", "back"), TYPED.values(), ids=TYPED.keys())
def test_a_type_is_honoured(value: object, literal_type: LiteralType, back: object) -> None:
    given = literal_type.SerializeToString()
    literal = to_literal(value, literal_type)
    assert to_python(literal) == back
    assert type(to_python(literal)) is type(back)
    assert literal_type.SerializeToString() == given


def test_a_struct_is_msgpack_only_where_its_reader_knows_that() -> None:
    assert to_literal({"a": 1}, STRUCT).scalar.WhichOneof("value") == "generic"
    assert to_literal({}, STRUCT).scalar.WhichOneof("value") == "generic"
    assert to_literal({"a": 1}, MSGPACK_STRUCT).scalar.WhichOneof("value") == "binary"


def test_names_without_a_type_go_by_their_value() -> None:
    literals = to_literal_map({"a": 1, "b": 1}, {"a": FLOAT})
    assert to_python_map(literals) == {"a": 1.0, "b": 1}
    assert literals.literals["b"].scalar.primitive.WhichOneof("value") == "integer"


def _titled(title: str) -> LiteralType:
    literal_type = LiteralType()
    literal_type.CopyFrom(MSGPACK_STRUCT)
    literal_type.metadata.update({"title": title})
    literal_type.structure.tag = title
    return literal_type


UNIONS: dict[str, tuple[object, LiteralType, LiteralType]] = {
    "by kind": ("x", union_of(INTEGER, STRING), STRING),
    "an int is rather an int": (1, union_of(FLOAT, INTEGER), INTEGER),
    "but can be a float": (1, union_of(STRING, FLOAT), FLOAT),
    "a bool is no int": (True, union_of(INTEGER, BOOLEAN), BOOLEAN),
    "a str is rather a str": ("red", union_of(COLOURS, STRING), STRING),
    "an enum member is rather an enum": (Colour.RED, union_of(STRING, COLOURS), COLOURS),
    "in lists too": ([1, 2], union_of(collection_of(FLOAT), collection_of(INTEGER)), collection_of(INTEGER)),
    "a dataclass is the one of its name": (Inner(), union_of(_titled("Outer"), _titled("Inner")), _titled("Inner")),
    "a dict is rather no dataclass": ({}, union_of(_titled("Outer"), MSGPACK_STRUCT), MSGPACK_STRUCT),
    "a dict of what a struct cannot hold is rather a map": (
        {"a": NOON},
        union_of(MSGPACK_STRUCT, map_of(DATETIME)),
        map_of(DATETIME),
    ),
    "but can be a struct": ({"a": NOON}, union_of(INTEGER, MSGPACK_STRUCT), MSGPACK_STRUCT),
    "unions in unions": (1, union_of(STRING, union_of(INTEGER, NONE)), union_of(INTEGER, NONE)),
}


@pytest.mark.parametrize(("value", "literal_type", "variant"), UNIONS.values(), ids=UNIONS.keys())
def test_a_union_takes_the_variant_of_the_values_own_type(
    value: object, literal_type: LiteralType, variant: LiteralType
) -> None:
    assert to_literal(value, literal_type).scalar.union.type == variant


MISMATCHED: dict[str, tuple[object, LiteralType, str]] = {
    "str for int": ("1", INTEGER, r"^a str where an INTEGER is expected$"),
    "float for int": (1.0, INTEGER, "a float where an INTEGER"),
    "bool for int": (True, INTEGER, "a bool where an INTEGER"),
    "bool for float": (True, FLOAT, "a bool where a FLOAT"),
    "int for bool": (1, BOOLEAN, "an int where a BOOLEAN"),
    "int that no float equals": (2**53 + 1, FLOAT, "no float equals"),
    "int greater than all floats": (10**400, FLOAT, "no float equals"),
    "None for str": (None, STRING, r"nothing \(None\) where a STRING"),
    "str for None": ("x", NONE, "a str where a NONE"),
    "naive datetime": (NOON.replace(tzinfo=None), DATETIME, "without a time zone"),
    "object for str": (object(), STRING, "an object where a STRING"),
    "list for struct": ([1], STRUCT, "a list where a STRUCT"),
    "root model of a list for struct": (RootModel[list[int]]([1]), STRUCT, "where a struct is expected"),
    "a big int in a struct": ({"a": {"b": 2**53 + 1}}, STRUCT, r"at \['a'\]\['b'\]: 9007199254740993, which"),
    "NaN in a struct": ({"a": [float("nan")]}, STRUCT, r"at \['a'\]\[0\]: nan, which a generic struct cannot hold"),
    "bytes in a struct": ({"a": b"x"}, STRUCT, "bytes, which a generic struct cannot hold"),
    "numbers as keys of a struct": ({1: 2}, STRUCT, "a key that is an int"),
    "a surrogate in a struct": ({"a": "\ud800"}, STRUCT, "surrogates"),
    "a surrogate as a key of a struct": ({"\ud800": 1}, STRUCT, "surrogates"),
    "a struct nested too deep": ({"a": nested_lists(50)}, STRUCT, "nested deeper than 28"),
    "str for list": ("ab", collection_of(STRING), r"a str where a collection \(each item a STRING\)"),
    "item of a list": ([1, "2"], collection_of(INTEGER), r"^at \[1\]: a str where an INTEGER"),
    "list for map": ([1], map_of(INTEGER), r"a list where a map \(each value an INTEGER\)"),
    "value of a map": ({"a": {"b": 1}}, map_of(map_of(STRING)), r"^at \['a'\]\['b'\]: an int where a STRING"),
    "number as key of a map": ({1: 2}, map_of(INTEGER), "a key that is an int, where a map has strings only"),
    "two keys that become one": ({"red": 1, Colour.RED: 2}, map_of(INTEGER), "two keys that both become 'red'"),
    "a surrogate as a key of a map": ({"\ud800": 1}, map_of(INTEGER), "surrogates"),
    "no variant": (1.5, union_of(INTEGER, STRING), "a float where a union of an INTEGER, a STRING is expected"),
    "an optional's value": ([1, "2"], union_of(collection_of(INTEGER), NONE), r"^at \[1\]: a str where an INTEGER"),
    "not in the enum": ("green", COLOURS, "'green' where an enum of 'red', 'blue' is expected"),
    "number for an enum": (Level.HIGH, COLOURS, "a Level where an enum"),
    "None for an enum": (None, COLOURS, "where an enum"),
    "directory for file": (Directory("s3://b/d"), FILE, "a Directory where a File of format 'csv' is expected"),
    "file for directory": (File("s3://b/f"), DIRECTORY, "a File where a Directory is expected"),
    "str for file": ("s3://b/f", FILE, "a str where a File"),
    "another format": (File("s3://b/f", "json"), FILE, "format 'json' where a File of format 'csv'"),
    "file for structured dataset": (
        File("s3://b/f"),
        LiteralType(structured_dataset_type=StructuredDatasetType(format="csv")),
        "a File where a StructuredDataset of format 'csv' is expected",
    ),
    "dataset without a declared column": (
        StructuredDataset("s3://b/t", columns=(("b", int),)),
        LiteralType(
            structured_dataset_type=StructuredDatasetType(
                columns=[StructuredDatasetType.DatasetColumn(name="a", literal_type=INTEGER)]
            )
        ),
        r"a table without the declared column 'a'; it has \['b'\]",
    ),
    "dataset for schema": (
        StructuredDataset("s3://b/t"),
        LiteralType(schema=SchemaType()),
        "where a Schema is expected",
    ),
    "a type of many levels": (
        1,
        collection_of(collection_of(map_of(collection_of(collection_of(INTEGER))))),
        r"each item \.\.\.",
    ),
    "a union of many": (None, union_of(*[INTEGER] * 9), r"an INTEGER, \.\.\. is expected"),
    "an unknown type": (1, LiteralType(simple=99), r"a simple type .* \(number 99\)"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("value", "literal_type", "reason"), MISMATCHED.values(), ids=MISMATCHED.keys())
def test_a_mismatch_says_what_was_there_and_what_was_expected(
    value: object, literal_type: LiteralType, reason: str
) -> None:
    with pytest.raises(LiteralError, match=reason):
        to_literal(value, literal_type)


def test_the_module_needs_neither_grpc_nor_flytekit_nor_a_dataframe_library() -> None:
    unwanted = ["grpc", "flytekit", "pandas", "pyarrow", "polars", "numpy", "pydantic"]
    code = f"import sys, connector_core.literals; print([m for m in {unwanted} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
