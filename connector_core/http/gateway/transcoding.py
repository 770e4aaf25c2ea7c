"""Between JSON and the protocol's messages, by the proto3 JSON mapping and the rules of `google/api/http.proto`.

Answers leave out what has its default, as the mapping does: the protocol still has a deprecated `state`, whose default is the
name of a failure.
"""

import base64
import binascii
import json
import json.scanner
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import Error as JsonFormatError
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

from connector_core.http.gateway.refusals import malformed
from connector_core.http.gateway.routes import Route
from connector_core.http.servicer_calls import CallFailed

IN_URLS = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"})
"""Messages that the JSON mapping writes as a string, so that a URL can hold them."""

SMALL_BYTES = 16 * 1024
"""Up to so many bytes a message is read or written at once; larger ones have a thread, which lets the loops go on."""

_MESSAGES_OF_A_STREAM = 2
"""A header, then inputs: over gRPC nothing is waited for after these either."""

_SPACE = re.compile(r"[ \t\r\n]*")
_BASE64 = re.compile(r"[A-Za-z0-9_+/-]*={0,2}")
_SHOWN = 300
_OF_A_CONNECTION = "Failed to parse connection field"


def unary_request(route: Route, bound: Mapping[str, str], query: bytes, body: bytes) -> bytes:
    """Return the request that a URL and a body make, as gRPC would send it.

    Raises:
        Refused: they make none.
    """
    values: dict[str, Any] = {}
    if route.body:
        found, goes_on = _values(body, 1)
        if not found or goes_on:
            raise malformed(f"the body {'goes on after its first' if found else 'has no'} JSON value; send one object")
        values = _object(found[0]) if route.body == "*" else {route.body: found[0]}
    descriptor = route.method.input_type
    taken = {fields_of(descriptor, path) for path in bound}
    for path, text in bound.items():
        _put(values, fields_of(descriptor, path), text)
    for name, text in _query(query):
        fields = fields_of(descriptor, name)
        if route.body == "*" or fields in taken or fields[0].name == route.body:
            raise malformed(f"{name!r} does not belong in the query: the path or the body has it")
        if not is_repeated(fields[-1]):
            taken.add(fields)
        _put(values, fields, text)
    return _message(descriptor, values)


def stream_request(route: Route, body: bytes) -> list[bytes]:
    """Return the requests that a body of JSON objects, one after the other, makes; what follows the second is not read.

    Raises:
        Refused: one of them is none.
    """
    found, _goes_on = _values(body, _MESSAGES_OF_A_STREAM)
    return [_message(route.method.input_type, _object(value)) for value in found]


def answer_json(method_output: Descriptor, raw: bytes) -> dict[str, Any]:
    """Return an answer as JSON has it.

    Raises:
        CallFailed: JSON has no way to write it: a number that is none in a `Struct`, a time before the year 1.
    """
    try:
        message = GetMessageClass(method_output).FromString(raw)
        described: dict[str, Any] = MessageToDict(message)
    except (DecodeError, JsonFormatError, ValueError, TypeError) as error:
        raise CallFailed(StatusCode.INTERNAL, f"the answer cannot be written as JSON: {error}") from None
    return described


def fields_of(descriptor: Descriptor, path: str) -> tuple[FieldDescriptor, ...]:
    """Return the fields that a dotted path names, each by its own name or its JSON name.

    Raises:
        Refused: there is no such field, or a URL cannot hold it.
    """
    found: list[FieldDescriptor] = []
    here: Descriptor | None = descriptor
    for name in path.split("."):
        field = _field(here, name) if here is not None else None
        if field is None or (found and is_repeated(found[-1])):
            raise malformed(f"{path!r} is not a field of {descriptor.full_name}")
        found.append(field)
        here = field.message_type
    if here is not None and here.full_name not in IN_URLS:
        raise malformed(f"{path!r} is a {here.full_name}, which a URL cannot hold; name a field of it")
    return tuple(found)


def is_repeated(field: FieldDescriptor) -> bool:
    """Return whether a field holds a list: its default is one, the only sign that all versions of protobuf have in common."""
    return isinstance(field.default_value, list)


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    by_name: FieldDescriptor | None = descriptor.fields_by_name.get(name)
    return by_name or next((field for field in descriptor.fields if field.json_name == name), None)


def _query(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise malformed("the query is not UTF-8 (percent-encoded)") from None


def _put(values: dict[str, Any], fields: Sequence[FieldDescriptor], text: str) -> None:
    *outer, last = fields
    for field in outer:
        values = values.setdefault(field.json_name, {})
    value = _value(last, text)
    if is_repeated(last):
        values.setdefault(last.json_name, []).append(value)
    else:
        values[last.json_name] = value


def _value(field: FieldDescriptor, text: str) -> Any:
    """Return a text of a URL as the JSON value that the mapping has for the field."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(_bytes(field, text)).decode()
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text not in {"true", "false"}:
            raise malformed(f"{field.name} is {_shown(text)}, neither true nor false")
        return text == "true"
    return text  # the mapping reads numbers, enums and times from strings, too


def _bytes(field: FieldDescriptor, text: str) -> bytes:
    """Decode base64, URL-safe or not, padded or not; Python's own decoder leaves out what it does not know."""
    try:
        if not _BASE64.fullmatch(text):
            raise ValueError
        unpadded = text.rstrip("=")
        return base64.urlsafe_b64decode(unpadded.replace("+", "-").replace("/", "_") + "=" * (-len(unpadded) % 4))
    except (ValueError, binascii.Error):
        raise malformed(f"{field.name} is {_shown(text)}, which is not base64url") from None


def _values(body: bytes, most: int) -> tuple[list[Any], bool]:
    """Return the first JSON values that stand in a body one after the other, and whether it goes on after them."""
    decoder = json.JSONDecoder(object_pairs_hook=_without_doubles, parse_constant=_no_constant)
    if len(body) > SMALL_BYTES:
        # The one in C reads 4 MiB in up to a second, during which no other thread runs; this one takes longer, and lets them.
        decoder.scan_once = json.scanner.py_make_scanner(decoder)  # type: ignore[attr-defined] # not in the stubs
    found: list[Any] = []
    try:
        text = body.decode()
        position = _skip_space(text, 0)
        while position < len(text) and len(found) < most:
            value, position = decoder.raw_decode(text, position)
            found.append(value)
            position = _skip_space(text, position)
    except (ValueError, RecursionError) as error:
        raise malformed(f"the body is not JSON: {error}") from None
    return found, position < len(text)


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _without_doubles(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"the name {_shown(name)} stands twice in one object")
        values[name] = value
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f'{name} is not a number of JSON; write it as a string, "{name}"')


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        shown = "a list" if isinstance(value, list) else _shown(json.dumps(value))
        raise malformed(f"the body has {shown} where an object should be")
    return value


def _message(descriptor: Descriptor, values: dict[str, Any]) -> bytes:
    message: Message = GetMessageClass(descriptor)()
    try:
        ParseDict(values, message)
    except Exception as error:  # noqa: BLE001 - odd values make the parser raise TypeErrors and more, not only ParseErrors
        reason = str(error).split("\n", 1)[0]
        if reason.startswith(_OF_A_CONNECTION):  # it shows what is there, which may be a secret
            reason = f"{_OF_A_CONNECTION}: secrets and configs are objects, of a text for each name"
        raise malformed(f"the request is not a {descriptor.full_name}: {reason}") from None
    raw: bytes = message.SerializeToString()
    return raw


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
