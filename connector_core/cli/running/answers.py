"""What a task gave, on stdout: as a table for people, as JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from flyteidl.admin import agent_pb2
from google.protobuf.json_format import MessageToDict

from connector_core.cli.running.preview import ROWS, Preview, first_rows
from connector_core.cli.running.values import as_json, as_text
from connector_core.cli.running.view import phase_name
from connector_core.errors import LiteralError
from connector_core.literals import Schema, StructuredDataset, to_python
from connector_core.resource import Phase


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
    _draw(("output", "value"), values, out)
    for name, preview in tables.items():
        print(f"\n{name}{_how_many(preview)}:", file=out)
        _draw(tuple(preview.columns), [tuple(as_text(cell) for cell in row) for row in preview.rows], out)


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


def _draw(headings: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    draw = _draw_for_terminal if out.isatty() else _draw_plainly
    draw(headings, rows, out)


def _draw_for_terminal(headings: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from connector_core.cli.running.live import harmless

    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        table.add_column(Text(harmless(heading)))
    for row in rows:
        table.add_row(*(Text(harmless(cell).rstrip("\n"), overflow="fold") for cell in row))
    Console(file=out, highlight=False).print(table)


def _draw_plainly(headings: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """Print aligned columns; what has several lines goes on below itself."""
    cells = [[cell.rstrip("\n").split("\n") for cell in row] for row in (headings, *rows)]
    widths = [max(len(line) for row in cells for line in row[column]) for column in range(len(headings))]
    for row in cells:
        for number in range(max(map(len, row))):
            parts = [lines[number] if number < len(lines) else "" for lines in row]
            print("  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip(), file=out)
