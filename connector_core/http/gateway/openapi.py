"""`/openapi.json`: the derived routes and the messages behind them, from the same descriptors."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.rpc.status_pb2 import Status

from connector_core.http.gateway.guard import STREAM_TYPES
from connector_core.http.gateway.refusals import encoded
from connector_core.http.gateway.routes import Field, Route
from connector_core.http.gateway.transcoding import IN_URLS, fields_of, is_repeated
from connector_core.metrics import core_version

Schema = dict[str, Any]

_STATUS: Any = Status.DESCRIPTOR

_INTEGER: Schema = {"type": "integer"}
_LONG: Schema = {
    "type": ["string", "integer"],
    "pattern": "^-?[0-9]+$",
}  # answers have strings: JSON's numbers are doubles
_NUMBER: Schema = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}

_SCALARS: Mapping[int, Schema] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_DOUBLE: _NUMBER,
    FieldDescriptor.TYPE_FLOAT: _NUMBER,
    FieldDescriptor.TYPE_INT32: _INTEGER,
    FieldDescriptor.TYPE_SINT32: _INTEGER,
    FieldDescriptor.TYPE_SFIXED32: _INTEGER,
    FieldDescriptor.TYPE_UINT32: _INTEGER,
    FieldDescriptor.TYPE_FIXED32: _INTEGER,
    FieldDescriptor.TYPE_INT64: _LONG,
    FieldDescriptor.TYPE_SINT64: _LONG,
    FieldDescriptor.TYPE_SFIXED64: _LONG,
    FieldDescriptor.TYPE_UINT64: _LONG,
    FieldDescriptor.TYPE_FIXED64: _LONG,
}

_WELL_KNOWN: Mapping[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": "^-?[0-9]+([.][0-9]+)?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Value": {},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
    },
}
"""Messages that the JSON mapping writes in a way of their own."""

_WRAPPED = "google.protobuf."
_WRAPPERS = frozenset(
    f"{_WRAPPED}{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)

_BEARER = "token"
_TIMEOUT = {
    "name": "Grpc-Timeout",
    "in": "header",
    "description": "How long the call may take: digits and one of H, M, S, m, u, n, such as 5S.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,8}[HMSmun]$"},
}


def describe(routes: Iterable[Route]) -> bytes:
    """Return the OpenAPI document of these routes."""
    schemas = _Schemas()
    schemas.refer_to(_STATUS)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.template.text, {})[route.verb.lower()] = _operation(route, schemas)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "connector-host",
            "version": core_version(),
            "description": "Flyte's connector protocol as JSON, by the proto3 JSON mapping.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.made.items())),
            "securitySchemes": {_BEARER: {"type": "http", "scheme": "bearer"}},
        },
    }
    return encoded(document)


def _operation(route: Route, schemas: "_Schemas") -> dict[str, Any]:
    method = route.method
    service = method.containing_service.name
    operation: dict[str, Any] = {
        "operationId": f"{service}_{method.name}",
        "tags": [service],
        "summary": f"Calls {method.full_name}.",
        "parameters": [*_path_parameters(route, schemas), *_query_parameters(route, schemas), _TIMEOUT],
        "responses": {
            "200": _answer(route, schemas),
            "default": {"description": "The call's status.", "content": _json(schemas.refer_to(_STATUS))},
        },
    }
    if route.body:
        operation["requestBody"] = _body(route, schemas)
    if route.is_about_tasks:
        operation["security"] = [{_BEARER: []}]
    return operation


def _path_parameters(route: Route, schemas: "_Schemas") -> Iterator[dict[str, Any]]:
    for segment in route.template.segments:
        if isinstance(segment, Field):
            schema = schemas.of_value(fields_of(route.method.input_type, segment.path)[-1])
            yield {"name": segment.path, "in": "path", "required": True, "schema": _in_url(schema)}


def _query_parameters(route: Route, schemas: "_Schemas") -> Iterator[dict[str, Any]]:
    if route.body == "*":
        return
    in_path = {segment.path for segment in route.template.segments if isinstance(segment, Field)}
    for path, field in _leaves(route.method.input_type):
        if path not in in_path and path.split(".")[0] != route.body:
            schema = _in_url(schemas.of_value(field))
            repeated = {"type": "array", "items": schema}
            yield {"name": path, "in": "query", "schema": repeated if is_repeated(field) else schema}


def _leaves(descriptor: Descriptor, prefix: str = "", above: frozenset[str] = frozenset()) -> Iterator[tuple[str, Any]]:
    """Yield the fields that a query can hold, at whatever depth, with their paths."""
    for field in descriptor.fields:
        inner = field.message_type
        if inner is None or inner.full_name in IN_URLS:
            yield f"{prefix}{field.name}", field
        elif not is_repeated(field) and inner.full_name not in above | _WELL_KNOWN.keys() | _WRAPPERS:
            yield from _leaves(inner, f"{prefix}{field.name}.", above | {inner.full_name})


def _in_url(schema: Schema) -> Schema:
    return {**schema, "contentEncoding": "base64url"} if "contentEncoding" in schema else schema


def _body(route: Route, schemas: "_Schemas") -> dict[str, Any]:
    descriptor = route.method.input_type
    schema = (
        schemas.refer_to(descriptor) if route.body == "*" else schemas.of_field(descriptor.fields_by_name[route.body])
    )
    if route.method.client_streaming:
        description = "Messages, one JSON object after the other."
        return {
            "required": True,
            "description": description,
            "content": {kind: {"schema": schema} for kind in STREAM_TYPES},
        }
    return {"required": True, "content": _json(schema)}


def _answer(route: Route, schemas: "_Schemas") -> dict[str, Any]:
    schema = schemas.refer_to(route.method.output_type)
    if not route.method.server_streaming:
        return {"description": "The answer.", "content": _json(schema)}
    line = {
        "type": "object",
        "properties": {"result": schema, "error": schemas.refer_to(_STATUS)},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    description = "A line of JSON for each message; where the stream does not end OK, a last one with the error."
    return {"description": description, "content": {"application/x-ndjson": {"schema": line}}}


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


class _Schemas:
    """The schemas of the messages that were referred to, and of those within them."""

    def __init__(self) -> None:
        self.made: dict[str, Schema] = {}

    def refer_to(self, descriptor: Descriptor) -> Schema:
        """Return what stands for a message."""
        name: str = descriptor.full_name
        if name in _WELL_KNOWN:
            return _WELL_KNOWN[name]
        if name in _WRAPPERS:
            return self.of_value(descriptor.fields_by_name["value"])
        if name not in self.made:
            self.made[name] = {}  # messages may hold themselves
            properties = {field.json_name: self.of_field(field) for field in descriptor.fields}
            self.made[name] = {"type": "object", "properties": properties, "additionalProperties": False}
        return {"$ref": f"#/components/schemas/{name}"}

    def of_field(self, field: FieldDescriptor) -> Schema:
        """Return the schema of a field with all its values."""
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            values = field.message_type.fields_by_name["value"]
            return {"type": "object", "additionalProperties": self.of_value(values)}
        value = self.of_value(field)
        return {"type": "array", "items": value} if is_repeated(field) else value

    def of_value(self, field: FieldDescriptor) -> Schema:
        """Return the schema of one value of a field."""
        if field.message_type is not None:
            return self.refer_to(field.message_type)
        if field.enum_type is not None:
            return {"enum": [value.name for value in field.enum_type.values]}
        return _SCALARS[field.type]
