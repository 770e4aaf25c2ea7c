"""DuckDB's types: in which form a value leaves the database, and what it is in Python then.

DuckDB's own conversion to Python and to Parquet changes some values without a word: an infinite timestamp becomes the year
9999, nanoseconds are cut off, a month becomes 30 days, a 128-bit integer a double. So such values leave the database as
text, or as what holds them exactly, and what has no exact counterpart is refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import GenericAlias
from typing import Any

INTEGERS = frozenset(
    {"tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint", "hugeint", "uhugeint"}
)
_FLOATS = frozenset({"float", "double"})
_AS_THEY_ARE = INTEGERS | _FLOATS | {"boolean", "varchar", "blob", "null"}
_TIMESTAMPS = frozenset(
    {"timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone", "timestamptz_ns"}
)
_LISTS = frozenset({"list", "array"})
NESTED = _LISTS | {"struct", "map"}
_PARQUET: Mapping[str, str] = {
    "hugeint": "BIGINT",
    "uhugeint": "BIGINT",
    "interval": "VARCHAR",
    "time with time zone": "VARCHAR",
    "bit": "VARCHAR",
    "union": "VARCHAR",
    "variant": "VARCHAR",
}
_INTERVAL = re.compile(
    r"(?P<months>(?:-?\d+ (?:years?|months?) ?)*)(?:(?P<days>-?\d+) days? ?)?"
    r"(?:(?P<sign>-?)(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d)(?:\.(?P<fraction>\d{1,6}))?)?"
)


@dataclass(frozen=True, slots=True)
class SqlType:
    """A DuckDB type: what kind it is, how SQL writes it, and the types inside (a list's is its item's)."""

    id: str
    text: str
    children: tuple[tuple[str, "SqlType"], ...] = ()

    @property
    def list_depth(self) -> int:
        """The number of lists around the items."""
        return 1 + self.children[0][1].list_depth if self.id in _LISTS else 0


@dataclass(frozen=True, slots=True)
class Column:
    """A result's column."""

    name: str
    type: SqlType


def quoted(name: str) -> str:
    """Write an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Write a string in SQL."""
    return "'" + value.replace("'", "''") + "'"


def fetched_type(kind: SqlType) -> str:
    """Return the type in which values are fetched for Python."""
    if kind.id in _AS_THEY_ARE:
        return kind.text
    return _rebuilt(kind, fetched_type, key="VARCHAR") or "VARCHAR"


def parquet_type(kind: SqlType) -> str:
    """Return the type in which values are written to Parquet."""
    if kind.id in _PARQUET:
        return _PARQUET[kind.id]
    return _rebuilt(kind, parquet_type) or ("VARCHAR" if kind.id == "struct" else kind.text)


def _rebuilt(kind: SqlType, inner: Callable[[SqlType], str], key: str | None = None) -> str | None:
    parts = [(name, inner(child)) for name, child in kind.children]
    if kind.id in _LISTS:
        return f"{parts[0][1]}[]"
    if kind.id == "map":
        return f"MAP({key or parts[0][1]}, {parts[1][1]})"
    if kind.id == "struct" and parts:
        return f"STRUCT({', '.join(f'{quoted(name)} {part}' for name, part in parts)})"
    return None


def cast(column: Column, target: Callable[[SqlType], str]) -> str:
    """Write a column of a SELECT list that has its value in the target's type."""
    name, wanted = quoted(column.name), target(column.type)
    return name if wanted == column.type.text else f"CAST({name} AS {wanted}) AS {name}"


def read(kind: SqlType, value: Any) -> Any:
    """Return the Python value of one that was fetched in `fetched_type`.

    Raises:
        ValueError: Python and Flyte have no equal value.
    """
    if value is None or kind.id in _AS_THEY_ARE:
        return value
    if kind.id in _LISTS:
        item = kind.children[0][1]
        return [read(item, one) for one in value]
    if kind.id == "struct":
        return {name: read(child, value[name]) for name, child in kind.children}
    if kind.id == "map":
        return {name: read(kind.children[1][1], one) for name, one in value.items()}
    if kind.id in _TIMESTAMPS:
        return _read_timestamp(value)
    return _READERS.get(kind.id, str)(value)


def _read_timestamp(value: str) -> datetime:
    fraction = re.search(r"\.\d{6}(\d+)", value)
    if fraction and fraction[1].strip("0"):
        raise ValueError(f"{value} is finer than microseconds; cast it to TIMESTAMP, or to VARCHAR")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value} is outside of the years 1 to 9999; cast it to VARCHAR") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _read_date(value: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value} is outside of the years 1 to 9999; cast it to VARCHAR") from None


def _read_interval(value: str) -> timedelta:
    match = _INTERVAL.fullmatch(value)
    if match is None or match["months"]:
        raise ValueError(f"an interval of {value} has no fixed length, since months differ; cast it to VARCHAR")
    clock = timedelta(
        hours=int(match["hours"] or 0),
        minutes=int(match["minutes"] or 0),
        seconds=int(match["seconds"] or 0),
        microseconds=int((match["fraction"] or "").ljust(6, "0")),
    )
    return timedelta(days=int(match["days"] or 0)) + (-clock if match["sign"] else clock)


_READERS: Mapping[str, Callable[[str], Any]] = {"date": _read_date, "interval": _read_interval, "decimal": Decimal}


def python_type(kind: SqlType) -> Any:
    """Return the Python type that describes a column of Parquet in Flyte's terms: the nearest that Flyte has."""
    if kind.id in _LISTS:
        return GenericAlias(list, (python_type(kind.children[0][1]),))
    if kind.id in INTEGERS:
        return int
    if kind.id in _TIMESTAMPS:
        return datetime
    return _PYTHON_TYPES.get(kind.id, str)


_PYTHON_TYPES: Mapping[str, Any] = {
    "boolean": bool,
    "float": float,
    "double": float,
    "decimal": float,
    "date": datetime,
    "blob": bytes,
    "struct": dict,
    "map": dict,
}
