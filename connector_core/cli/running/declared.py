"""Values of JSON as the types that a task declares: text for a time, a path for a file."""

import base64
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from flyteidl.core.types_pb2 import BlobType, LiteralType, SimpleType

from connector_core.cli.running.given import Given, to_uri
from connector_core.errors import LiteralError
from connector_core.literals import Directory, File, Schema, StructuredDataset, to_literal


def as_declared(given: Given, literal_type: LiteralType) -> Any:
    """Return a value that a literal of this type can be made of, where there is one; else the value as it is.

    Raises:
        SettingsError: a path stands for a file that is not there.
    """
    convert = _CONVERT.get(literal_type.WhichOneof("type"))
    return given.value if convert is None else convert(given, literal_type)


def _simple(given: Given, literal_type: LiteralType) -> Any:
    value = given.value
    match literal_type.simple:
        case SimpleType.STRING:
            return _text(given, literal_type)
        case SimpleType.DATETIME if isinstance(value, str):
            return _read(value, datetime.fromisoformat)
        case SimpleType.DURATION if isinstance(value, int | float) and not isinstance(value, bool):
            return timedelta(seconds=value)
        case SimpleType.BINARY if isinstance(value, str):
            return _read(value, lambda text: base64.b64decode(text, validate=True))
    return value


def _text(given: Given, _literal_type: LiteralType) -> Any:
    """`--input day=2024` is a text where one is declared; text that is quoted as JSON has been unquoted."""
    return given.value if isinstance(given.value, str) or given.text is None else given.text


def _read(text: str, how: Callable[[str], Any]) -> Any:
    try:
        return how(text)
    except ValueError:
        return text  # the mismatch is reported with the type that was expected


def _collection(given: Given, literal_type: LiteralType) -> Any:
    if not isinstance(given.value, list):
        return given.value
    return [as_declared(Given(item), literal_type.collection_type) for item in given.value]


def _map(given: Given, literal_type: LiteralType) -> Any:
    if not isinstance(given.value, dict):
        return given.value
    return {key: as_declared(Given(item), literal_type.map_value_type) for key, item in given.value.items()}


def _union(given: Given, literal_type: LiteralType) -> Any:
    """Return the value as it is if a variant takes that, else as the first variant that takes it converted."""
    if _fits(given.value, literal_type):
        return given.value
    for variant in literal_type.union_type.variants:
        value = as_declared(given, variant)
        if _fits(value, variant):
            return value
    return given.value


def _fits(value: Any, literal_type: LiteralType) -> bool:
    try:
        to_literal(value, literal_type)
    except LiteralError:
        return False
    return True


def _blob(given: Given, literal_type: LiteralType) -> Any:
    kind = Directory if literal_type.blob.dimensionality == BlobType.MULTIPART else File
    return _stored(given.value, kind)


def _dataset(given: Given, _literal_type: LiteralType) -> Any:
    return _stored(given.value, StructuredDataset)


def _schema(given: Given, _literal_type: LiteralType) -> Any:
    return Schema(to_uri(given.value)) if isinstance(given.value, str) else given.value


def _stored(value: Any, kind: type[File] | type[Directory] | type[StructuredDataset]) -> Any:
    match value:
        case str():
            return kind(to_uri(value))
        case {"uri": str(uri), **rest} if rest.keys() <= {"format"}:
            return kind(to_uri(uri), str(rest.get("format", "")))
        case File() | Directory() if kind is StructuredDataset:
            return StructuredDataset(value.uri, value.format)
    return value


_CONVERT: Mapping[str | None, Callable[[Given, LiteralType], Any]] = {
    "simple": _simple,
    "enum_type": _text,
    "collection_type": _collection,
    "map_value_type": _map,
    "union_type": _union,
    "blob": _blob,
    "structured_dataset_type": _dataset,
    "schema": _schema,
}
