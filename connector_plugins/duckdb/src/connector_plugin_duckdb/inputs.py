"""A task's inputs as the SQL sees them: named parameters, and views of the tables and files among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from connector_core.errors import InvalidInputError
from connector_core.literals import Directory, File, Schema, StructuredDataset
from connector_plugin_duckdb.stop import Stop
from connector_plugin_duckdb.storage import Storage

_READERS: Mapping[str, str] = {
    "parquet": "read_parquet",
    "csv": "read_csv",
    "tsv": "read_csv",
    "json": "read_json",
    "jsonl": "read_json",
    "ndjson": "read_json",
}
_COMPRESSED = frozenset({".gz", ".zst"})


@dataclass(frozen=True, slots=True)
class Table:
    """Local files that a view is made of."""

    name: str
    function: str
    paths: Sequence[Path]


@dataclass(slots=True)
class Inputs:
    """The inputs of a query.

    Attributes:
        parameters: values by name; a file is its local path, a folder or table the list of its files' paths.
        tables: the views to make.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)


def bring(values: Mapping[str, Any], storage: Storage, folder: Path, stop: Stop) -> Inputs:
    """Fetch what the inputs point to.

    Raises:
        ConnectorError: an input cannot be had or read.
    """
    bringer = _Bringer(storage, folder, stop)
    inputs = Inputs()
    for name, value in values.items():
        if isinstance(value, StructuredDataset | Schema | File | Directory):
            table, inputs.parameters[name] = bringer.table(name, value)
            if table is not None:
                inputs.tables.append(table)
        else:
            inputs.parameters[name] = bringer.plain(value)
    return inputs


class _Bringer:
    def __init__(self, storage: Storage, folder: Path, stop: Stop) -> None:
        self._storage = storage
        self._folder = folder
        self._stop = stop
        self._numbers = count()

    def table(self, name: str, value: StructuredDataset | Schema | File | Directory) -> tuple[Table | None, Any]:
        """Return the view to make, if the format is one that DuckDB reads, and the parameter's value."""
        is_table = isinstance(value, StructuredDataset | Schema)
        kind = _format(value)
        if is_table and kind not in _READERS:
            known = ", ".join(_READERS)
            raise InvalidInputError(f"input {name!r} has the format {kind!r}; DuckDB reads {known} here")
        paths = self._fetch(value)
        function = _READERS.get(kind)
        parameter = str(paths[0]) if isinstance(value, File) else [str(path) for path in paths]
        return (None if function is None else Table(name, function, paths)), parameter

    def plain(self, value: Any) -> Any:
        """Return a parameter's value, with the files inside of it replaced by their paths."""
        if isinstance(value, list):
            return [self.plain(item) for item in value]
        if isinstance(value, dict):
            return {key: self.plain(item) for key, item in value.items()}
        if isinstance(value, File):
            return str(self._fetch(value)[0])
        if isinstance(value, Directory | StructuredDataset | Schema):
            return [str(path) for path in self._fetch(value)]
        return value

    def _fetch(self, value: StructuredDataset | Schema | File | Directory) -> list[Path]:
        kind = _format(value)
        suffix = "".join(_suffixes(value.uri)) or (f".{kind}" if kind else "")
        folder = self._folder / str(next(self._numbers))
        return self._storage.fetch(value.uri, folder, suffix if isinstance(value, File) else "", self._stop)


def _format(value: StructuredDataset | Schema | File | Directory) -> str:
    is_table = isinstance(value, StructuredDataset | Schema)
    if not isinstance(value, Schema) and value.format:
        return value.format.lower()
    suffixes = [one for one in _suffixes(value.uri) if one not in _COMPRESSED]
    found = suffixes[-1].lstrip(".") if suffixes else ""
    return "parquet" if is_table and found not in _READERS else found


def _suffixes(uri: str) -> list[str]:
    return [suffix.lower() for suffix in Path(uri.rpartition("/")[2]).suffixes[-2:] if suffix[1:].isalnum()]
