"""A query's result where DuckDB is, before it is decided in which form it goes back."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from connector_plugin_duckdb.values import NESTED, Column, SqlType, cast, fetched_type, parquet_type, quoted, text
from connector_plugin_duckdb.wire import RefusalError

_LONG = NESTED | {"varchar", "blob", "bit", "bignum", "variant", "union", "geometry", "enum"}


class Kept(Protocol):
    """The result of a query's last statement, kept until it is known what to do with it."""

    columns: Sequence[Column]
    rows: int

    def size(self) -> int:
        """Return about how many bytes the values that can be long take as text."""

    def fetch(self) -> Sequence[tuple[Any, ...]]:
        """Return all rows, with values in their `fetched_type`."""

    def write_parquet(self, path: str) -> None:
        """Write all rows to a file."""


class Connection(Protocol):
    """The interface of a session that a result in a table needs."""

    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        """Return a statement's rows."""

    def columns(self, sql: str) -> tuple[Column, ...]:
        """Return a statement's columns."""


class TableResult:
    """A result in a temporary table."""

    def __init__(self, connection: Connection, table: str) -> None:
        self._connection = connection
        self._table = f"temp.main.{quoted(table)}"
        self.columns: Sequence[Column] = connection.columns(f"FROM {self._table} LIMIT 0")
        self.rows: int = connection.fetch(f"FROM {self._table} SELECT count(*)")[0][0]

    def size(self) -> int:
        """Return about how many bytes the values that can be long take as text."""
        long = [
            f"coalesce(strlen(CAST({quoted(one.name)} AS VARCHAR)), 0)" for one in self.columns if one.type.id in _LONG
        ]
        if not long:
            return 0
        total = f"FROM {self._table} SELECT coalesce(sum({' + '.join(long)}), 0)::BIGINT"
        return int(self._connection.fetch(total)[0][0])

    def fetch(self) -> Sequence[tuple[Any, ...]]:
        """Return all rows, with values in their `fetched_type`."""
        return self._connection.fetch(f"FROM {self._table} SELECT {self._selected(fetched_type)}")

    def write_parquet(self, path: str) -> None:
        """Write all rows to a file."""
        selected = f"FROM {self._table} SELECT {self._selected(parquet_type)}"
        self._connection.fetch(f"COPY ({selected}) TO {text(path)} (FORMAT parquet)")

    def _selected(self, target: Callable[[SqlType], str]) -> str:
        return ", ".join(cast(column, target) for column in self.columns)


class RowsResult:
    """A short result that was read at once."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[tuple[Any, ...]]) -> None:
        self.columns = columns
        self.rows = len(rows)
        self._rows = rows

    def size(self) -> int:
        """Return about how many bytes the values take as text."""
        return sum(len(str(value)) for row in self._rows for value in row)

    def fetch(self) -> Sequence[tuple[Any, ...]]:
        """Return all rows, with values in their `fetched_type`."""
        return self._rows

    def write_parquet(self, path: str) -> None:
        """Refuse: DuckDB has no table of it."""
        raise RefusalError(
            "invalid",
            f"the last statement is none whose result can be written to {path.rpartition('.')[2]}; end with a SELECT",
        )
