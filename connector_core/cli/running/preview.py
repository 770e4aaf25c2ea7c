"""The first rows of a table in local storage, by pyarrow or DuckDB, whichever is here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

ROWS = 20
"""How many rows are shown of a table."""

_READERS = {"": "read_parquet", "parquet": "read_parquet", "csv": "read_csv", "json": "read_json"}


@dataclass(frozen=True, slots=True)
class Preview:
    """The first rows of a table, and whether there are more of them."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    has_more: bool


def first_rows(uri: str, form: str) -> Preview | None:
    """Return a table's first rows; `None` where it is not on this machine, or nothing here can read it."""
    path = _local_path(uri)
    if path is None or not path.exists():
        return None
    for read in (_by_pyarrow, _by_duckdb):
        try:
            return read(path, form.lower())
        except Exception:  # noqa: BLE001, S112 - it is a courtesy, and each library has errors of its own
            continue
    return None


def _local_path(uri: str) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(uri) if not parts.scheme else None


def _by_pyarrow(path: Path, form: str) -> Preview:
    from pyarrow import dataset

    table = dataset.dataset(path, format=form or "parquet").head(ROWS + 1)
    rows = [list(row.values()) for row in table.to_pylist()]
    return Preview(table.column_names, rows[:ROWS], len(rows) > ROWS)


def _by_duckdb(path: Path, form: str) -> Preview:
    import duckdb

    files = [str(path)] if path.is_file() else sorted(str(one) for one in path.rglob("*") if _is_data(one))
    with duckdb.connect() as connection:
        cursor = connection.execute(f"SELECT * FROM {_READERS[form]}(?) LIMIT {ROWS + 1}", [files])  # noqa: S608 - our own words
        columns = [column[0] for column in cursor.description or ()]
        rows = [list(row) for row in cursor.fetchall()]
    return Preview(columns, rows[:ROWS], len(rows) > ROWS)


def _is_data(file: Path) -> bool:
    return file.is_file() and not file.name.startswith((".", "_"))
