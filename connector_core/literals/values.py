"""Small value types for literals without a Python type of their own."""

from dataclasses import dataclass, field
from typing import Any

MSGPACK = "msgpack"
"""The tag of a binary literal that holds msgpack."""

PICKLE_FORMAT = "PythonPickle"
"""The format of a blob in which flytekit pickled a value."""

Columns = tuple[tuple[str, Any], ...]
"""Pairs of name and type, since names may repeat. A type is `int`, `float`, `str`, `bool`, `datetime` or `timedelta`, and in
structured datasets also `bytes`, `dict`, `None`, a `list[...]` or `dict[str, ...]` of them, or a `LiteralType`."""


@dataclass(frozen=True, slots=True)
class File:
    """A single blob: where it is, and its format (an extension such as `csv`; empty for any)."""

    uri: str
    format: str = ""


@dataclass(frozen=True, slots=True)
class Directory:
    """A multipart blob: the prefix that its files share, and their format (empty for any)."""

    uri: str
    format: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """A table in flytekit's older form; `columns` are pairs of name and Python type."""

    uri: str
    columns: Columns = ()


@dataclass(frozen=True, slots=True)
class StructuredDataset:
    """A table: where it is, its format (such as `parquet`; empty for any), and its columns as far as they are known.

    `external_schema_type` and `external_schema_bytes` hold the schema in a library's own form, such as Arrow's.
    """

    uri: str
    format: str = ""
    columns: Columns = ()
    external_schema_type: str = ""
    external_schema_bytes: bytes = b""


@dataclass(frozen=True, slots=True)
class Binary:
    """Bytes under a tag that says what they are."""

    value: bytes = field(repr=False)
    tag: str = ""


@dataclass(frozen=True, slots=True)
class ErrorValue:
    """The error that the engine hands to a workflow's failure node."""

    message: str
    failed_node_id: str = ""
