"""Outputs as JSON and as text; what JSON says of them can be given as inputs again."""

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from connector_core.literals import Binary, Directory, ErrorValue, File, Schema, StructuredDataset

MAX_TEXT = 4000
"""What is shown of a single value, in characters; JSON has all of it."""


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
