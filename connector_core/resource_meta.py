"""A connector's handle of a job: a dataclass that goes to the engine as JSON, and comes back."""

import dataclasses
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import Any, Self, TypeVar, cast

import msgspec

from connector_core.errors import InvalidResourceMetaError

MetaT = TypeVar("MetaT", bound="ResourceMeta")

_PLACE = re.compile(r"(?P<message>.*?)(?: - at `(?:key in )?\$\.?(?P<place>[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_PLAIN = frozenset({str, int, bool, "str", "int", "bool"})
_encode = msgspec.json.Encoder().encode
_SLOTS = range(1000)  # msgspec fills all slots; of what has a `__dict__`, it leaves defaults to the class
_INDEX = re.compile(r"\[(?:\.\.\.|(\d+))\]")


@cache
def _decoder(meta_type: Any) -> Callable[[bytes], Any]:
    try:
        return msgspec.json.Decoder(meta_type, dec_hook=_read_other).decode
    except (TypeError, NameError) as error:
        raise TypeError(f"{meta_type.__name__} has annotations that cannot be read from JSON: {error}") from None


@dataclass
class ResourceMeta:
    """A connector's own handle of a job: subclass it as a dataclass with the fields that find the job again.

    On the wire it is plain JSON of the fields, the same as flytekit's server writes, so that tasks in flight survive a
    move in either direction. Fields have types that msgspec knows, or are paths or pydantic models. Override `encode` and
    `decode` together for another form.
    """

    def encode(self) -> bytes:
        """Return the JSON bytes that the engine keeps and hands back.

        Raises:
            TypeError: a field holds what its annotation does not allow, which `decode` would refuse.
        """
        own: Any = type(self)  # mypy takes classes of unhashable instances for unhashable
        try:
            return _write_plain(own, self) if _is_plain(own) else _write(self)
        except (TypeError, ValueError, RecursionError, InvalidResourceMetaError) as error:
            raise TypeError(f"{type(self).__name__} cannot be written as JSON and read again: {error}") from None

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote.

        Fields that are not known are ignored and fields that have a default may be missing, so that older and newer
        writers understand each other.

        Raises:
            InvalidResourceMetaError: naming the field that is missing or has a value of another type.
        """
        return _read(cls, data)


@cache
def _is_plain(meta_type: Any) -> bool:
    """Return whether all fields are of types that msgspec and `json` write alike, as most are."""
    return all(field.type in _PLAIN for field in dataclasses.fields(meta_type))


def _write_plain(meta_type: Any, meta: ResourceMeta) -> bytes:
    """Write what `_write` does, in half the time: each create waits for it."""
    if len(getattr(meta, "__dict__", _SLOTS)) < _number_of_fields(meta_type):
        return _write(meta)
    try:
        data = msgspec.json.format(_encode(meta), indent=0)
        if data.isascii() and b"\x7f" not in data and _decoder(meta_type)(data) == meta:
            return data
    except (TypeError, ValueError, OverflowError):
        pass
    return _write(meta)


def _write(meta: ResourceMeta) -> bytes:
    try:
        data = json.dumps(_fields(meta, builtin_types=(bytes,))).encode()
    except TypeError:  # bytes, which are base64 in JSON and have to be bytes again
        data = json.dumps(_fields(meta)).encode()
        if _with_bytes(_read(type(meta), data)) != _with_bytes(meta):
            raise TypeError("it has bytes where its annotations have none") from None
        return data
    _read(type(meta), data)
    return data


def _fields(meta: ResourceMeta, **how: Any) -> Any:
    """Return the fields as JSON has them."""
    unhashable: Any = type(meta)
    fields = msgspec.to_builtins(meta, str_keys=True, enc_hook=_write_other, **how)
    if len(fields) < _number_of_fields(unhashable):
        fields = msgspec.to_builtins(dataclasses.asdict(meta), str_keys=True, enc_hook=_write_other, **how)
    return fields


@cache
def _number_of_fields(meta_type: Any) -> int:
    return len(dataclasses.fields(meta_type))


def _with_bytes(meta: ResourceMeta) -> str:
    """Show the fields as JSON has them, but for bytes; equal for equal ones, NaN included."""
    return repr(sorted(_fields(meta, builtin_types=(bytes,), order="deterministic").items()))


def _write_other(value: Any) -> Any:
    """Return what JSON has for a value of a class that msgspec does not know."""
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"an object of type {type(value).__name__} cannot be written as JSON")


def _read_other(kind: Any, value: Any) -> Any:
    """Return a value of such a class."""
    if issubclass(kind, PurePath) and isinstance(value, str):
        return kind(value)
    if hasattr(kind, "model_validate"):
        with suppress(ValueError):  # what it says repeats the value
            return kind.model_validate(value)
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _read(meta_type: type[MetaT], data: bytes) -> MetaT:
    unhashable: Any = meta_type  # mypy takes classes of unhashable instances for unhashable
    try:
        return cast("MetaT", _decoder(unhashable)(data))
    except (ValueError, RecursionError):  # all errors of msgspec are ValueErrors
        return _read_patiently(meta_type, data)


def _read_patiently(meta_type: type[MetaT], data: bytes) -> MetaT:
    """Read what msgspec's reader of bytes refuses: numbers that JSON has not (NaN), and `null` for a default that is `None`."""
    try:
        fields = _without_default_nulls(meta_type, json.loads(data))
        return msgspec.convert(fields, meta_type, str_keys=True, dec_hook=_read_other)
    except msgspec.ValidationError as error:
        raise _explain(meta_type, str(error)) from None
    except (ValueError, RecursionError):
        raise InvalidResourceMetaError(f"resource meta is not a {meta_type.__name__}: it is not JSON") from None


def _without_default_nulls(meta_type: type[ResourceMeta], fields: Any) -> Any:
    """Leave out the fields that are `null` by default, whatever their annotation says (`job_id: str = None`)."""
    if not isinstance(fields, dict):
        return fields
    defaults = {field.name for field in dataclasses.fields(meta_type) if field.default is None}
    return {name: value for name, value in fields.items() if value is not None or name not in defaults}


def _explain(meta_type: type[ResourceMeta], said: str) -> InvalidResourceMetaError:
    found = _PLACE.fullmatch(said)
    message, where = (found["message"], found["place"] or "") if found else (said, "")
    where = _INDEX.sub(lambda index: f".{index[1]}" if index[1] else "", where)
    if missing := _MISSING.fullmatch(message):
        message, where = "it is required", ".".join(filter(None, [where, missing[1]]))
    elif message.startswith("Invalid enum value"):
        message = "it is not one of the known values"  # without the one that it is
    if not where:
        return InvalidResourceMetaError(f"resource meta is not a {meta_type.__name__}: {message}")
    return InvalidResourceMetaError(
        f"resource meta is not a {meta_type.__name__}: field {where!r}: {message}", field=where
    )
