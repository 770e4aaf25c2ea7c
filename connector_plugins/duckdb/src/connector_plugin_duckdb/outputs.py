"""The outputs of a task: its result as inline values or as a table, by the outputs that it declares."""

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, Protocol

from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, SimpleType

from connector_core.errors import InvalidInputError, LiteralError
from connector_core.literals import Schema, StructuredDataset, to_literal
from connector_plugin_duckdb.config import SECTION, DuckDBConfig
from connector_plugin_duckdb.session import Result
from connector_plugin_duckdb.values import Column, python_type

UNDECLARED = "result"
"""The output's name where a task has no interface."""

_SCHEMA_COLUMNS = frozenset({"int", "float", "str", "bool", "datetime", "timedelta"})


class TableStore(Protocol):
    """The place for tables."""

    def uri(self, name: str) -> str:
        """Return the URI of an output's table."""

    def put(self, uri: str, write: Callable[[Path], None]) -> None:
        """Put the file that `write` writes to a path there."""


class Outputs:
    """Collects the outputs of one query.

    Args:
        template: the task, which says what it declares.
        config: the limits of what is inline.
        tables: where tables go.
    """

    def __init__(self, template: TaskTemplate, config: DuckDBConfig, tables: TableStore) -> None:
        self._config = config
        self._store = tables
        self._has_interface = template.HasField("interface")
        variables = template.interface.outputs.variables
        self._declared: dict[str, LiteralType] = {name: variables[name].type for name in variables}
        self._tables = [name for name, kind in self._declared.items() if _is_table(kind)]
        self._check()

    def _check(self) -> None:
        for name in self._declared:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise InvalidInputError(f"the output name {name!r} cannot be used as the name of a folder")
        if self._tables and len(self._declared) > 1:
            raise InvalidInputError(
                f"the task declares the table {self._tables[0]!r} among several outputs ({', '.join(self._declared)}); "
                "a query has one result: declare the table alone"
            )

    def collect(self, result: Result | None) -> LiteralMap:
        """Return the outputs.

        Raises:
            InvalidInputError: the result is not what is declared.
            ConnectorError: a table cannot be written.
        """
        if not self._has_interface:
            return LiteralMap() if result is None else self._undeclared(result)
        if not self._declared:
            return LiteralMap()
        if result is None:
            names = ", ".join(self._declared)
            raise InvalidInputError(f"the task declares outputs ({names}), but the last statement has no result")
        if self._tables:
            return self._table(self._tables[0], result)
        literals = self._values(result)
        if (size := literals.ByteSize()) > self._config.inline_bytes:
            self._refuse(f"the result has {size} bytes as literals")
        return literals

    def _undeclared(self, result: Result) -> LiteralMap:
        if self._is_small(result):
            literals = LiteralMap(literals={UNDECLARED: to_literal(_tidy(_everything(result)))})
            if literals.ByteSize() <= self._config.inline_bytes:
                return literals
        return self._table(UNDECLARED, result)

    def _is_small(self, result: Result) -> bool:
        return result.rows <= self._config.inline_rows and result.size() <= self._config.inline_bytes

    def _table(self, name: str, result: Result) -> LiteralMap:
        uri = self._store.uri(name)
        columns = tuple((column.name, python_type(column.type)) for column in result.columns)
        kind = self._declared.get(name, LiteralType())
        value: StructuredDataset | Schema = StructuredDataset(uri, "parquet", columns)
        if _variant(kind, "schema") is not None:
            known = all(getattr(one, "__name__", "") in _SCHEMA_COLUMNS for _name, one in columns)
            value = Schema(uri, columns if known else ())
        literal = _literal(name, value, kind)  # first, since it may be refused
        self._store.put(uri, result.write_parquet)
        return LiteralMap(literals={name: literal})

    def _values(self, result: Result) -> LiteralMap:
        columns = self._columns(result)
        whole = {name: _wants_all_rows(self._declared[name], column) for name, column in columns.items()}
        for name, is_whole in whole.items():
            if not is_whole and result.rows != 1:
                raise InvalidInputError(
                    f"output {name!r} takes one row, but the result has {result.rows}: "
                    "aggregate or LIMIT it, or declare a list or a StructuredDataset"
                )
        if not self._is_small(result):
            self._refuse(f"the result has {result.rows} rows and some {result.size()} bytes")
        rows = result.fetch()
        values = {}
        for name, column in columns.items():
            found = [_cell(result, row, column) for row in rows]
            values[name] = _literal(name, found if whole[name] else found[0], self._declared[name], column)
        return LiteralMap(literals=values)

    def _columns(self, result: Result) -> dict[str, Column | None]:
        """Return the column for each output; `None` stands for whole rows, as dicts."""
        by_name = {column.name.casefold(): column for column in result.columns}
        if len(self._declared) == 1:
            ((name, kind),) = self._declared.items()
            if name.casefold() not in by_name:
                if len(result.columns) == 1:
                    return {name: result.columns[0]}
                if _takes_dicts(kind):
                    return {name: None}
        missing = [name for name in self._declared if name.casefold() not in by_name]
        if missing:
            known = ", ".join(repr(column.name) for column in result.columns)
            raise InvalidInputError(f"output {missing[0]!r} has no column of its name; the result has {known}")
        return {name: by_name[name.casefold()] for name in self._declared}

    def _refuse(self, what: str) -> NoReturn:
        rows, size = self._config.inline_rows, int(self._config.inline_bytes)
        raise InvalidInputError(
            f"{what}; {SECTION} lets {rows} rows and {size} bytes be returned inline: declare a StructuredDataset",
            error_code="RESULT_TOO_LARGE",
        )


def _everything(result: Result) -> Any:
    rows = result.fetch()
    if len(rows) == len(result.columns) == 1:
        return rows[0][0]
    return [_as_dict(result, row) for row in rows]


def _cell(result: Result, row: tuple[Any, ...], column: Column | None) -> Any:
    return _as_dict(result, row) if column is None else row[list(result.columns).index(column)]


def _as_dict(result: Result, row: tuple[Any, ...]) -> dict[str, Any]:
    named = dict(zip((column.name for column in result.columns), row, strict=True))
    if len(named) < len(row):
        raise InvalidInputError("two columns have the same name; give them different ones with AS")
    return named


def _tidy(value: Any) -> Any:
    """Return a value that has a literal: a decimal alone becomes text, which keeps all of its digits."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    return str(value) if isinstance(value, Decimal) else value


def _literal(name: str, value: Any, kind: LiteralType, column: Column | None = None) -> Literal:
    try:
        return to_literal(_fitted(value, kind), kind)
    except LiteralError as error:
        source = f" (column {column.name!r}, {column.type.text})" if column is not None else ""
        raise InvalidInputError(f"output {name!r}{source}: {error}") from None


def _fitted(value: Any, kind: LiteralType) -> Any:
    """Turn decimals into what is declared, as far as that is exact or asked for by declaring a float."""
    if isinstance(value, list) and (inner := _variant(kind, "collection_type")) is not None:
        return [_fitted(item, inner.collection_type) for item in value]
    if isinstance(value, dict) and (inner := _variant(kind, "map_value_type")) is not None:
        return {key: _fitted(item, inner.map_value_type) for key, item in value.items()}
    if not isinstance(value, Decimal):
        return value
    simple = {one.simple for one in _variants(kind) if one.WhichOneof("type") == "simple"}
    if SimpleType.INTEGER in simple and value == value.to_integral_value():
        return int(value)
    return float(value) if SimpleType.FLOAT in simple else str(value)


def _wants_all_rows(kind: LiteralType, column: Column | None) -> bool:
    """Say whether an output is the list of a column's values, and not the value (which may be a list) of one row."""
    return _list_depth(kind) > (0 if column is None else column.type.list_depth)


def _list_depth(kind: LiteralType) -> int:
    inner = _variant(kind, "collection_type")
    return 0 if inner is None else 1 + _list_depth(inner.collection_type)


def _takes_dicts(kind: LiteralType) -> bool:
    inner = _variant(kind, "collection_type")
    item = kind if inner is None else inner.collection_type
    return _variant(item, "map_value_type") is not None or any(
        one.WhichOneof("type") == "simple" and one.simple == SimpleType.STRUCT for one in _variants(item)
    )


def _is_table(kind: LiteralType) -> bool:
    return _variant(kind, "structured_dataset_type") is not None or _variant(kind, "schema") is not None


def _variant(kind: LiteralType, wanted: str) -> LiteralType | None:
    return next((one for one in _variants(kind) if one.WhichOneof("type") == wanted), None)


def _variants(kind: LiteralType) -> list[LiteralType]:
    return list(kind.union_type.variants) if kind.WhichOneof("type") == "union_type" else [kind]
