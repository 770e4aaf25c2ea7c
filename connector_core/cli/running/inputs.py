"""Inputs as they are given (JSON where it parses, `@file` for what is in a file), brought into the types that are declared."""

import base64
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from flyteidl.core.types_pb2 import BlobType, LiteralType, SimpleType

from connector_core.errors import LiteralError, SettingsError
from connector_core.literals import Directory, File, Schema, StructuredDataset, to_literal

KINDS: Mapping[str, type] = {
    "file": File,
    "directory": Directory,
    "dataset": StructuredDataset,
    "schema": Schema,
}
"""The kinds of data in storage, which JSON has as `{"kind": "file", "uri": ..., "format": ...}`."""

_REFERENCE_KEYS = frozenset({"kind", "uri", "format"})


@dataclass(frozen=True, slots=True)
class Given:
    """A value, and the text that it was read from where a declared type may want that instead (`2024` as a string)."""

    value: Any
    text: str | None = None


def read_pairs(option: str, pairs: Iterable[str]) -> dict[str, str]:
    """Split each `NAME=VALUE`.

    Raises:
        SettingsError: one has no name, or a name is given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise SettingsError(f"--{option} {pair!r} has no name and value: write --{option} NAME=VALUE")
        if name in found:
            raise SettingsError(f"--{option} {name} is given twice")
        found[name] = text
    return found


def read_value(option: str, text: str) -> Given:
    """Read a value: JSON where it parses, else the text itself.

    Raises:
        SettingsError: the file that it names cannot be read.
    """
    text = read_text(option, text)
    try:
        return Given(from_json(json.loads(text)), text)
    except ValueError:
        return Given(text, text)


def read_text(option: str, text: str) -> str:
    """Return a text, or what is in the file that `@file` names.

    Raises:
        SettingsError: the file cannot be read, or is not text.
    """
    if not text.startswith("@"):
        return text
    file = Path(text[1:])
    if not file.is_file():
        kind = "is a folder" if file.is_dir() else "is not there"
        raise SettingsError(
            f"--{option}: the file {file} {kind}; after @ stands a file that is read. "
            f"""The text itself is written with JSON's quotes: '"{text}"'"""
        )
    try:
        return read_bytes(option, file).decode()
    except UnicodeDecodeError:
        raise SettingsError(f"--{option}: {text[1:]} is not UTF-8 text") from None


def read_bytes(option: str, file: Path) -> bytes:
    """Return what is in a file.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"--{option}: {file} cannot be read: {error.strerror}") from None


def read_object(option: str, text: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        SettingsError: it is none.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"--{option} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise SettingsError(f'--{option} is not a JSON object: write {{"name": value}}')
    return value


def from_json(value: Any) -> Any:
    """Return a value of JSON with the references to data in storage as what they stand for.

    Raises:
        SettingsError: such a reference is to a path where nothing is.
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if (kind := KINDS.get(str(value.get("kind")))) is not None and {"kind", "uri"} <= value.keys() <= _REFERENCE_KEYS:
        uri = to_uri(str(value["uri"]))
        return Schema(uri) if kind is Schema else kind(uri, str(value.get("format", "")))
    return {key: from_json(item) for key, item in value.items()}


def to_uri(place: str) -> str:
    """Return the URI of a place: a URI as it is, a local path as `file://`.

    Raises:
        SettingsError: nothing is at this path.
    """
    if "://" in place:
        return place
    path = Path(place)
    if not path.exists():
        raise SettingsError(
            f"nothing is at {place}: write a path that exists on this machine, or a URI such as s3://..."
        )
    return path.resolve().as_uri()


def as_file(place: str) -> File | Directory:
    """Return what a path or URI stands for."""
    if place.endswith("/") or ("://" not in place and Path(place).is_dir()):
        return Directory(to_uri(place))
    return File(to_uri(place))


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
            return _read(value, _moment)
        case SimpleType.DURATION if isinstance(value, int | float) and not isinstance(value, bool):
            return timedelta(seconds=value)
        case SimpleType.BINARY if isinstance(value, str):
            return _read(value, lambda text: base64.b64decode(text, validate=True))
    return value


def _moment(text: str) -> date | datetime:
    """Read a date, which stands for its first moment in UTC, or a date and a time."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise LiteralError(f"a datetime without a time zone, {text}: add one, such as {text}Z for UTC")
    return moment


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
        with contextlib.suppress(LiteralError):
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
