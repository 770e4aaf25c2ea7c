"""The column types of tables: Python types for users, `LiteralType`s on the wire."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import GenericAlias, NoneType
from typing import Any, get_args, get_origin

from flyteidl.core.types_pb2 import LiteralType, SchemaType, SimpleType, StructuredDatasetType

from connector_core.literals.refusal import MAX_MESSAGE_DEPTH, Refusal, shown
from connector_core.literals.values import Columns

_Column = SchemaType.SchemaColumn

_SIMPLE_TYPES: Mapping[Any, int] = {
    int: SimpleType.INTEGER,
    float: SimpleType.FLOAT,
    str: SimpleType.STRING,
    bool: SimpleType.BOOLEAN,
    datetime: SimpleType.DATETIME,
    timedelta: SimpleType.DURATION,
    None: SimpleType.NONE,
    NoneType: SimpleType.NONE,
    bytes: SimpleType.BINARY,
    dict: SimpleType.STRUCT,
}
_PYTHON_TYPES: Mapping[int, Any] = {simple: python for python, simple in _SIMPLE_TYPES.items()}

_SCHEMA_TYPES: Mapping[Any, int] = {
    int: _Column.INTEGER,
    float: _Column.FLOAT,
    str: _Column.STRING,
    bool: _Column.BOOLEAN,
    datetime: _Column.DATETIME,
    timedelta: _Column.DURATION,
}
_SCHEMA_PYTHON_TYPES: Mapping[int, Any] = {column: python for python, column in _SCHEMA_TYPES.items()}


def schema_columns(schema: SchemaType) -> Columns:
    """Return a schema's columns with Python types."""
    return tuple((column.name, _schema_python_type(column)) for column in schema.columns)


def fill_schema_columns(schema: SchemaType, columns: Iterable[tuple[str, Any]]) -> None:
    """Write columns into a schema's type."""
    for name, python_type in columns:
        column = _find(_SCHEMA_TYPES, python_type)
        if column is None:
            known = ", ".join(one.__name__ for one in _SCHEMA_TYPES)
            raise Refusal(f"column {shown(name)} has type {shown(python_type)}; a schema's column has one of {known}")
        schema.columns.add(name=name, type=column)


def dataset_columns(dataset_type: StructuredDatasetType) -> Columns:
    """Return a structured dataset's columns with Python types where they say all, else with the `LiteralType`."""
    return tuple((column.name, _dataset_python_type(column.literal_type)) for column in dataset_type.columns)


def fill_dataset_columns(dataset_type: StructuredDatasetType, columns: Iterable[tuple[str, Any]]) -> None:
    """Write columns into a structured dataset's type."""
    for name, column_type in columns:
        literal_type = _literal_type(column_type, 0)
        if literal_type is None:
            raise Refusal(
                f"column {shown(name)} has type {shown(column_type)}; a column has one of int, float, str, bool, "
                "datetime, timedelta, bytes, dict, None, a list[...] or dict[str, ...] of these, or a LiteralType"
            )
        dataset_type.columns.add(name=name, literal_type=literal_type)


def _schema_python_type(column: SchemaType.SchemaColumn) -> Any:
    if column.type not in _SCHEMA_PYTHON_TYPES:
        raise Refusal(f"column {shown(column.name)} has an unknown type, number {column.type}")
    return _SCHEMA_PYTHON_TYPES[column.type]


def _dataset_python_type(literal_type: LiteralType) -> Any:
    python_type = _python_type(literal_type, 0)
    if python_type is not None and _literal_type(python_type, 0) == literal_type:
        return python_type
    kept = LiteralType()
    kept.CopyFrom(literal_type)
    return kept


def _python_type(literal_type: LiteralType, depth: int) -> Any:
    """Return the Python type (`NoneType` for NONE), or `None` where no Python type says the same."""
    kind = literal_type.WhichOneof("type")
    if kind == "simple":
        return _PYTHON_TYPES.get(literal_type.simple)
    if kind == "collection_type" and depth < MAX_MESSAGE_DEPTH:
        item = _python_type(literal_type.collection_type, depth + 1)
        return None if item is None else GenericAlias(list, (item,))
    if kind == "map_value_type" and depth < MAX_MESSAGE_DEPTH:
        value = _python_type(literal_type.map_value_type, depth + 1)
        return None if value is None else GenericAlias(dict, (str, value))
    return None


def _literal_type(column_type: Any, depth: int) -> LiteralType | None:
    if isinstance(column_type, LiteralType):
        return column_type
    if depth > MAX_MESSAGE_DEPTH:
        return None
    simple = _find(_SIMPLE_TYPES, column_type)
    if simple is not None:
        return LiteralType(simple=simple)
    origin, arguments = get_origin(column_type), get_args(column_type)
    if origin is list:
        item = _literal_type(arguments[0], depth + 1)
        return None if item is None else LiteralType(collection_type=item)
    if origin is dict and arguments[0] is str:
        value = _literal_type(arguments[1], depth + 1)
        return None if value is None else LiteralType(map_value_type=value)
    return None


def _find(table: Mapping[Any, int], column_type: Any) -> Any:
    try:
        return table.get(column_type)
    except TypeError:  # a value that cannot be hashed is not a type
        return None
