"""The outputs of a task: its result as inline values or as a table, by the outputs that it declares."""

import json
import math
import re
from decimal import Decimal
from typing import Any, NoReturn

from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, SimpleType

from connector_core import InvalidInputError
from connector_core.errors import LiteralError
from connector_core.literals import Schema, StructuredDataset, to_literal
from connector_plugin_postgres.columns import Column, to_python
from connector_plugin_postgres.config import SECTION, PostgresConfig
from connector_plugin_postgres.storage import Storage
from connector_plugin_postgres.tables import Rows, write_table

UNDECLARED = "result"
"""The output's name where a task has no interface."""

_SCHEMA_COLUMNS = frozenset({int, float, str, bool})


class Outputs:
    """Collects the outputs of one statement.

    Args:
        template: the task, which says what it declares.
        config: the limits of what is inline.
        storage: where tables are written.
        prefix: the task's output prefix.

    Raises:
        InvalidInputError: what is declared cannot be the result of a statement.
    """

    def __init__(self, template: TaskTemplate, config: PostgresConfig, storage: Storage, prefix: str) -> None:
        self._config = config
        self._storage = storage
        self._prefix = prefix.rstrip("/")
        self._has_interface = template.HasField("interface")
        variables = template.interface.outputs.variables
        self._declared: dict[str, LiteralType] = {name: variables[name].type for name in variables}
        self._table = next((name for name, kind in self._declared.items() if _is_table(kind)), None)
        self._check()

    def _check(self) -> None:
        for name in self._declared:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise InvalidInputError(f"the output name {name!r} cannot be used as the name of a folder")
        if self._table is not None:
            if len(self._declared) > 1:
                raise InvalidInputError(
                    f"the task declares the table {self._table!r} among several outputs ({', '.join(self._declared)}); "
                    "a statement has one result: declare the table alone"
                )
            self._storage.check(self._prefix)

    async def collect(self, rows: Rows | None) -> LiteralMap:
        """Return the outputs; tables are in their place when it returns.

        Raises:
            InvalidInputError: the result is not what is declared.
            ConnectorError: a table cannot be written.
        """
        if rows is None:
            if self._declared:
                names = ", ".join(self._declared)
                raise InvalidInputError(f"the task declares outputs ({names}), but the statement has no result")
            return LiteralMap()
        if self._has_interface and not self._declared:
            while await rows.batch():
                pass  # the server runs a statement only as far as its rows are fetched
            return LiteralMap()
        if self._table is not None:
            return await self._written(self._table, rows, [])
        first, is_complete = await self._first(rows)
        if not self._has_interface:
            return await self._undeclared(rows, first, is_complete=is_complete)
        literals = self._values(rows.columns, first, is_complete=is_complete)
        if (size := literals.ByteSize()) > self._config.inline_bytes:
            self._refuse(f"the result has {size} bytes as literals")
        return literals

    async def _first(self, rows: Rows) -> tuple[list[Any], bool]:
        """Return as many rows as can be inline, or a few more, and whether these are all."""
        first: list[Any] = []
        while len(first) <= self._config.inline_rows and rows.size <= 2 * self._config.inline_bytes:
            batch = await rows.batch()
            if not batch:
                return first, True
            first += batch
        return first, False

    async def _undeclared(self, rows: Rows, first: list[Any], *, is_complete: bool) -> LiteralMap:
        if is_complete and len(first) <= self._config.inline_rows:
            value = _everything(rows.columns, first)
            literals = LiteralMap(literals={UNDECLARED: _literal(UNDECLARED, _tidy(value), LiteralType())})
            if literals.ByteSize() <= self._config.inline_bytes:
                return literals
        return await self._written(UNDECLARED, rows, first)

    async def _written(self, name: str, rows: Rows, first: list[Any]) -> LiteralMap:
        uri = f"{self._prefix}/{name}"
        columns = tuple((column.name, column.python_type) for column in rows.columns)
        kind = self._declared.get(name, LiteralType())
        value: StructuredDataset | Schema = StructuredDataset(uri, "parquet", columns)
        if _variant(kind, "schema") is not None:
            value = Schema(uri, columns if all(one in _SCHEMA_COLUMNS for _name, one in columns) else ())
        literal = _literal(name, value, kind)  # first, since it may be refused
        await write_table(self._storage, uri, rows, first)
        return LiteralMap(literals={name: literal})

    def _values(self, columns: Any, rows: list[Any], *, is_complete: bool) -> LiteralMap:
        chosen = self._columns(columns)
        values = {}
        for name, column in chosen.items():
            kind = self._declared[name]
            is_whole = _list_depth(kind) > (1 if column is not None and column.is_array else 0)
            if len(rows) != 1 and not is_whole:
                raise InvalidInputError(
                    f"output {name!r} takes one row, but the result has {len(rows)}{'' if is_complete else ' or more'}: "
                    "aggregate or LIMIT it, or declare a list or a StructuredDataset"
                )
            if len(rows) > self._config.inline_rows or not is_complete:
                self._refuse(f"the result has {len(rows)} rows{'' if is_complete else ' or more'}")
            found = [_cell(columns, row, column) for row in rows]
            values[name] = _literal(name, found if is_whole else found[0], kind, column)
        return LiteralMap(literals=values)

    def _columns(self, columns: Any) -> dict[str, Column | None]:
        """Return the column for each output; `None` stands for whole rows, as dicts."""
        by_name = {column.name.casefold(): column for column in columns}
        if len(self._declared) == 1:
            ((name, kind),) = self._declared.items()
            if name.casefold() not in by_name:
                if len(columns) == 1:
                    return {name: columns[0]}
                if _takes_dicts(kind):
                    return {name: None}
        missing = [name for name in self._declared if name.casefold() not in by_name]
        if missing:
            known = ", ".join(repr(column.name) for column in columns)
            raise InvalidInputError(f"output {missing[0]!r} has no column of its name; the result has {known}")
        return {name: by_name[name.casefold()] for name in self._declared}

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidInputError(
            f"{what}; {SECTION} lets {self._config.inline_rows} rows and {self._config.inline_bytes} bytes be returned inline: "
            "declare a StructuredDataset",
            error_code="RESULT_TOO_LARGE",
        )


def _everything(columns: Any, rows: list[Any]) -> Any:
    if len(rows) == len(columns) == 1:
        return to_python(columns[0], rows[0][0])
    return [_as_dict(columns, row) for row in rows]


def _cell(columns: Any, row: Any, column: Column | None) -> Any:
    return _as_dict(columns, row) if column is None else to_python(column, row[list(columns).index(column)])


def _as_dict(columns: Any, row: Any) -> dict[str, Any]:
    named = {column.name: to_python(column, value) for column, value in zip(columns, row, strict=True)}
    if len(named) < len(columns):
        raise InvalidInputError("two columns have the same name; give them different ones with AS")
    return named


def _tidy(value: Any) -> Any:
    """Return a value that has a literal: a decimal becomes text, which keeps all of its digits."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if isinstance(value, dict):
        return {key: _tidy(item) for key, item in value.items()}
    return str(value) if isinstance(value, Decimal) else value


def _literal(name: str, value: Any, kind: LiteralType, column: Column | None = None) -> Literal:
    try:
        if kind.WhichOneof("type") is None:
            return to_literal(value)
        return to_literal(_fitted(value, kind, column), kind)
    except LiteralError as error:
        source = f" (column {column.name!r}, {column.sql_type})" if column is not None else ""
        raise InvalidInputError(f"output {name!r}{source}: {error}") from None


def _fitted(value: Any, kind: LiteralType, column: Column | None) -> Any:
    """Turn decimals and JSON into what is declared, as far as that is exact or asked for."""
    if isinstance(value, list) and (inner := _variant(kind, "collection_type")) is not None:
        return [_fitted(item, inner.collection_type, column) for item in value]
    if isinstance(value, dict) and (inner := _variant(kind, "map_value_type")) is not None:
        return {key: _fitted(item, inner.map_value_type, column) for key, item in value.items()}
    if isinstance(value, dict):
        return _tidy(value)
    simple = {one.simple for one in _variants(kind) if one.WhichOneof("type") == "simple"}
    if (
        isinstance(value, str)
        and column is not None
        and column.kind in {"json", "jsonb"}
        and SimpleType.STRING not in simple
    ):
        return json.loads(value)
    return _fitted_decimal(value, simple) if isinstance(value, Decimal) else value


def _fitted_decimal(value: Decimal, simple: set[Any]) -> Any:
    if SimpleType.INTEGER in simple and value.is_finite() and value == value.to_integral_value():
        return int(value)
    if SimpleType.FLOAT in simple:
        return math.nan if value.is_nan() else float(value)
    return str(value)


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
