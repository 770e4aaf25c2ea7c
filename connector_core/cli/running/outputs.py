"""The outputs of a task on stdout: tables for people, JSON for programs, which can be given as inputs again."""

import base64
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from flyteidl.admin import agent_pb2
from google.protobuf.json_format import MessageToDict

from connector_core.cli.drawing import print_table
from connector_core.cli.running.display import phase_name
from connector_core.errors import LiteralError
from connector_core.literals import Binary, Directory, ErrorValue, File, Schema, StructuredDataset, to_python
from connector_core.resource import Phase

ROWS = 20
"""The number of rows that are shown of a table."""

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


MAX_TEXT = 4000
"""The characters that are shown of a single value; JSON has all of them."""


def as_json(value: Any) -> Any:
    """Return a Python value of a literal in the forms of JSON."""
    convert = _CONVERT.get(type(value))
    return value if convert is None else convert(value)


def as_text(value: Any) -> str:
    """Return a value for people: a text as it is, others as JSON, long ones cut."""
    match value:
        case str():
            text = value
        case File() | Directory() | StructuredDataset() | Schema():
            form = getattr(value, "format", "")
            text = f"{value.uri} ({form})" if form else value.uri
        case datetime():
            text = value.isoformat()
        case timedelta():
            text = str(value)
        case _:
            text = json.dumps(as_json(value), ensure_ascii=False)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... (cut here; --json has all)"


def _float(value: float) -> float | str:
    """JSON has no infinities; they are written as in protobuf's JSON form."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _stored(kind: str) -> Callable[[Any], dict[str, str]]:
    def convert(value: Any) -> dict[str, str]:
        form = getattr(value, "format", "")
        return {"kind": kind, "uri": value.uri} | ({"format": form} if form else {})

    return convert


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


_CONVERT: Mapping[type, Callable[[Any], Any]] = {
    float: _float,
    list: lambda value: [as_json(item) for item in value],
    dict: lambda value: {str(key): as_json(item) for key, item in value.items()},
    datetime: lambda value: value.isoformat(),
    timedelta: lambda value: value.total_seconds(),
    bytes: _base64,
    Binary: lambda value: {"kind": "binary", "tag": value.tag, "base64": _base64(value.value)},
    ErrorValue: lambda value: {"kind": "error", "message": value.message, "failed_node_id": value.failed_node_id},
    File: _stored("file"),
    Directory: _stored("directory"),
    StructuredDataset: _stored("dataset"),
    Schema: _stored("schema"),
}


class Unreadable:
    """Stands for an output that cannot be shown, and says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def print_outputs(resource: agent_pb2.Resource, out: TextIO) -> None:
    """Print the outputs of a task that has succeeded; nothing for any other."""
    if resource.phase != Phase.SUCCEEDED.value:
        return
    outputs = _outputs(resource)
    if not outputs:
        print("no outputs", file=sys.stderr)
        return
    tables = {name: preview for name, value in outputs.items() if (preview := _rows_of(value)) is not None}
    values = [(name, _shown(value, tables.get(name))) for name, value in outputs.items()]
    print_table(out, ("output", "value"), values)
    for name, preview in tables.items():
        print(f"\n{name}{_how_many(preview)}:", file=out)
        print_table(out, preview.columns, [[as_text(cell) for cell in row] for row in preview.rows])


def print_json(resource: agent_pb2.Resource, out: TextIO, **more: Any) -> None:
    """Print all about a task as a JSON object."""
    described: dict[str, Any] = {"phase": phase_name(resource), "message": resource.message, **more}
    if resource.agent_error.code:
        described["error_code"] = resource.agent_error.code
    described["outputs"] = {name: _json(value) for name, value in _outputs(resource).items()}
    described["log_links"] = [{"name": link.name, "uri": link.uri} for link in resource.log_links]
    if resource.HasField("custom_info"):
        described["custom_info"] = MessageToDict(resource.custom_info)
    print(json.dumps(described, indent=2, ensure_ascii=False, default=str), file=out, flush=True)


def _outputs(resource: agent_pb2.Resource) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    for name in sorted(resource.outputs.literals):
        try:
            values[name] = to_python(resource.outputs.literals[name])
        except LiteralError as error:
            values[name] = Unreadable(str(error))
    return values


def _rows_of(value: Any) -> Preview | None:
    """Return the first rows of what is a table: in local storage, or a list of dicts with the same keys."""
    match value:
        case StructuredDataset():
            return first_rows(value.uri, value.format)
        case Schema():
            return first_rows(value.uri, "")
        case [{**first}, *_] if first and all(isinstance(row, dict) and row.keys() == first.keys() for row in value):
            return Preview([str(key) for key in first], [list(row.values()) for row in value[:ROWS]], len(value) > ROWS)
    return None


def _shown(value: Any, preview: Preview | None) -> str:
    if isinstance(value, Unreadable):
        return f"(cannot be shown: {value.reason})"
    if isinstance(value, list) and preview is not None:
        return f"{len(value)} row{'s' if len(value) > 1 else ''}, below"
    return as_text(value)


def _json(value: Any) -> Any:
    return {"kind": "unreadable", "reason": value.reason} if isinstance(value, Unreadable) else as_json(value)


def _how_many(preview: Preview) -> str:
    return f", the first {ROWS} rows" if preview.has_more else ""
