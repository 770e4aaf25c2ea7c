"""Columns of results: what a value of each of PostgreSQL's types is in Python and in Parquet, or that it is refused."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from types import GenericAlias
from typing import Any

from connector_core import InvalidInputError
from connector_plugin_postgres.client import OutOfRange

_PYTHON: Mapping[str, Any] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), int),
    **dict.fromkeys(("float4", "float8"), float),
    **dict.fromkeys(("timestamp", "timestamptz", "date"), datetime),
    "bool": bool,
    "bytea": bytes,
}
_TEXTS = (uuid.UUID, time, IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
_KEPT = (bool, int, float, str, bytes, Decimal)


@dataclass(frozen=True, slots=True)
class Column:
    """A result's column: its name, and its type's name, that of its items where it is an array."""

    name: str
    kind: str
    is_array: bool = False

    @property
    def sql_type(self) -> str:
        """The type as SQL writes it."""
        return f"{self.kind}[]" if self.is_array else self.kind

    @property
    def python_type(self) -> Any:
        """The type that describes the column in Flyte's terms; what has none of its own is text."""
        item = _PYTHON.get(self.kind, str)
        return GenericAlias(list, (item,)) if self.is_array else item


def columns_of(attributes: Sequence[Any]) -> tuple[Column, ...]:
    """Return the columns of a prepared statement."""
    return tuple(Column(one.name, one.type.name.removesuffix("[]"), one.type.kind == "array") for one in attributes)


def to_python(column: Column, value: Any) -> Any:
    """Return a value for an inline result; timestamps without a time zone count as UTC.

    Raises:
        InvalidInputError: Python has no equal value.
    """
    if value is None:
        return None
    if isinstance(value, list):
        return [to_python(column, item) for item in value]
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, OutOfRange):
        raise InvalidInputError(f"column {column.name!r}: {value} is not a moment that Python has; cast it to text")
    if type(value) in _KEPT or column.kind == "date":
        return value
    return to_text(column, value)


def to_text(column: Column, value: Any) -> str | None:
    """Return the text of a value that is one in results."""
    if value is None or type(value) is str:
        return value
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else str(value)
    if isinstance(value, _TEXTS):
        return str(value)
    raise InvalidInputError(
        f"column {column.name!r}: values of type {column.sql_type} are not returned; cast it to text"
    )


def arrow_schema(columns: Sequence[Column]) -> Any:
    """Return the schema of a Parquet file.

    Raises:
        InvalidInputError: two columns have one name.
    """
    import pyarrow as pa

    names = [column.name for column in columns]
    if len(set(names)) < len(names):
        raise InvalidInputError("two columns have the same name; give them different ones with AS")
    return pa.schema([(column.name, _arrow_type(column)) for column in columns])


def to_batch(schema: Any, columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> Any:
    """Return rows as a record batch.

    Raises:
        InvalidInputError: a value cannot be written as its column's type.
    """
    import pyarrow as pa

    arrays = []
    for index, (column, field) in enumerate(zip(columns, schema, strict=True)):
        values = [row[index] for row in rows]
        if column.kind not in _ARROW:
            values = [_texts(column, value) for value in values]
        try:
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowException, TypeError, OverflowError) as error:
            odd = next((value for value in values if isinstance(value, OutOfRange)), None)
            reason = str(error) if odd is None else f"{odd} is not a moment that Parquet has"
            raise InvalidInputError(f"column {column.name!r} ({column.sql_type}): {reason}; cast it to text") from None
    return pa.record_batch(arrays, schema=schema)


def _texts(column: Column, value: Any) -> Any:
    return [_texts(column, item) for item in value] if isinstance(value, list) else to_text(column, value)


def _arrow_type(column: Column) -> Any:
    import pyarrow as pa

    item = _ARROW[column.kind](pa) if column.kind in _ARROW else pa.string()
    return pa.list_(item) if column.is_array else item


_ARROW: Mapping[str, Callable[[Any], Any]] = {
    "int2": lambda pa: pa.int16(),
    "int4": lambda pa: pa.int32(),
    "int8": lambda pa: pa.int64(),
    "oid": lambda pa: pa.int64(),
    "float4": lambda pa: pa.float32(),
    "float8": lambda pa: pa.float64(),
    "bool": lambda pa: pa.bool_(),
    "bytea": lambda pa: pa.binary(),
    "date": lambda pa: pa.date32(),
    "timestamp": lambda pa: pa.timestamp("us"),
    "timestamptz": lambda pa: pa.timestamp("us", tz="UTC"),
}
