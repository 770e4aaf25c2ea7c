"""What is given on the command line and in files, read: JSON where it parses, `@file` for what is in a file."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connector_core.errors import SettingsError
from connector_core.literals import Directory, File, Schema, StructuredDataset

KINDS: Mapping[str, type] = {
    "file": File,
    "directory": Directory,
    "dataset": StructuredDataset,
    "schema": Schema,
}
"""How data in storage is written in JSON: `{"kind": "file", "uri": ..., "format": ...}`."""

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
        SettingsError: the file cannot be read, or is no text.
    """
    if not text.startswith("@"):
        return text
    try:
        return read_bytes(option, Path(text[1:])).decode()
    except UnicodeDecodeError:
        raise SettingsError(f"--{option}: {text[1:]} is no text in UTF-8") from None


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
        raise SettingsError(f'--{option} is no JSON object: write {{"name": value}}')
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
