"""Inputs that are tables: Parquet, copied into temporary tables of the statement's own transaction."""

import asyncio
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

from connector_core import BackendUnavailableError, InvalidInputError
from connector_core.literals import Schema, StructuredDataset
from connector_plugin_postgres.statement import Statement
from connector_plugin_postgres.storage import Storage

_BATCH_ROWS = 5000
_LONGEST_NAME = 63


class _Part(NamedTuple):
    """Some rows of a table, and the table's columns: pairs of name and SQL type."""

    columns: tuple[tuple[str, str], ...]
    rows: list[tuple[Any, ...]]


def tables_of(inputs: Mapping[str, Any], statement: Statement, storage: Storage) -> dict[str, str]:
    """Return the URIs of the inputs that are tables, by name.

    Raises:
        InvalidInputError: one cannot be a table of the statement's.
        PermissionDeniedError: the operator does not allow its place.
    """
    tables = {}
    for name, value in inputs.items():
        if not isinstance(value, StructuredDataset | Schema):
            continue
        if name in statement.names:
            raise InvalidInputError(
                f"input {name!r} is a table; write it as one in the statement, {name} and not ${name}"
            )
        if isinstance(value, StructuredDataset) and value.format not in {"", "parquet"}:
            raise InvalidInputError(f"input {name!r} is a table of format {value.format!r}; Parquet is read")
        if len(name.encode()) > _LONGEST_NAME:
            raise InvalidInputError(f"the name of the table {name!r} is longer than PostgreSQL's names are")
        storage.check(value.uri)
        tables[name] = value.uri
    return tables


async def load_tables(connection: Any, storage: Storage, tables: Mapping[str, str], check: Callable[[], None]) -> None:
    """Copy tables into temporary ones that go with the transaction.

    Raises:
        ConnectorError: one is not there, or has columns that are not read.
    """
    for name, uri in tables.items():
        parts = _parts(name, storage, uri)
        try:
            is_made = False
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                check()
                if not is_made:
                    columns = ", ".join(f"{_quoted(column)} {kind}" for column, kind in part.columns)
                    await connection.execute(f"CREATE TEMPORARY TABLE {_quoted(name)} ({columns}) ON COMMIT DROP")
                    is_made = True
                if part.rows:
                    names = [column for column, _kind in part.columns]
                    await connection.copy_records_to_table(
                        name, records=part.rows, columns=names, schema_name="pg_temp"
                    )
        finally:
            await asyncio.to_thread(parts.close)


def _parts(name: str, storage: Storage, uri: str) -> Generator[_Part, None, None]:
    """Yield a table's rows, a part without any first; runs in threads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = None
    for file in storage.files(uri):
        with file:
            try:
                parquet = pq.ParquetFile(file)
                columns = tuple((field.name, _sql_type(name, field)) for field in parquet.schema_arrow)
                if columns != (known or columns):
                    raise InvalidInputError(f"input {name!r}: the files of the table have different columns")
                known = columns
                yield _Part(columns, [])
                for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
                    yield _Part(columns, _rows(batch))
            except pa.ArrowException as error:
                raise InvalidInputError(f"input {name!r}: {uri} cannot be read: {error}") from None
            except OSError as error:
                raise BackendUnavailableError(f"input {name!r}: {uri} cannot be read: {error}") from error


def _rows(batch: Any) -> list[tuple[Any, ...]]:
    import pyarrow as pa

    values = []
    for column in batch.columns:
        if pa.types.is_timestamp(column.type):
            # Finer digits than PostgreSQL has are refused, and not cut off.
            column = column.cast(pa.timestamp("us", column.type.tz))  # noqa: PLW2901 - the same column
        values.append(column.to_pylist())
    return list(zip(*values, strict=True))


def _sql_type(table: str, field: Any) -> str:
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    for is_such, name in (
        (pa.types.is_boolean, "bool"),
        (pa.types.is_int8, "int2"),
        (pa.types.is_int16, "int2"),
        (pa.types.is_uint8, "int2"),
        (pa.types.is_int32, "int4"),
        (pa.types.is_uint16, "int4"),
        (pa.types.is_uint64, "numeric"),
        (pa.types.is_integer, "int8"),
        (pa.types.is_float32, "float4"),
        (pa.types.is_floating, "float8"),
        (pa.types.is_decimal, "numeric"),
        (pa.types.is_string, "text"),
        (pa.types.is_large_string, "text"),
        (pa.types.is_binary, "bytea"),
        (pa.types.is_large_binary, "bytea"),
        (pa.types.is_date, "date"),
        (pa.types.is_null, "text"),
    ):
        if is_such(kind):
            return name
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    raise InvalidInputError(f"input {table!r}: column {field.name!r} is of type {kind}, which is not read")


def _quoted(name: str) -> str:
    if "\0" in name or not name:
        raise InvalidInputError("a table or a column has a name that PostgreSQL cannot have")
    return '"' + name.replace('"', '""') + '"'
