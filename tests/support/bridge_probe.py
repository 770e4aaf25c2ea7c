"""Run by the interpreter of any environment: does a made-up resource meta of each connector come back from the wire?

Prints a JSON object: for each async connector `same`, or in what way it is not. It has to run where nothing of the tests is
installed, so it imports connector-core alone, and of the protocol what comes with it.
"""

import dataclasses
import datetime as dt
import enum
import json
import sys
import types
import typing
from typing import Any

from connector_core.description import ConnectorDescription
from connector_core.inspection import InspectedConnector
from connector_core.plugins import load_from_settings
from connector_core.settings import load_settings

SAME = "same"
BY_ITS_CLASS = "as its class reads it"
"""The connector's own class does not read what it wrote as it was; the host gives what that class gives."""


def _is_job(connector: ConnectorDescription) -> bool:
    return connector.plugin.bridge is not None and not connector.is_sync


def main() -> None:
    result = load_from_settings(load_settings())
    connectors = [connector for plugin in result.loaded for connector in plugin.connectors]
    metas = {
        one.description.name: one.metadata_type
        for one in connectors
        if isinstance(one, InspectedConnector) and _is_job(one.description)
    }
    verdicts = {name: _verdict(meta_type) for name, meta_type in metas.items()}
    sys.stdout.write(json.dumps(verdicts))


def _verdict(meta_type: Any) -> str:
    from flyteidl.admin import agent_pb2
    from flyteidl2.connector import connector_pb2

    kind = meta_type.kind
    try:
        made = _made(kind)
        sent = meta_type(made).encode()
        if sent != made.encode():
            return "the host writes other bytes than the connector's class"
        by_its_class = kind.decode(sent)
        for message_type in (agent_pb2.GetTaskRequest, connector_pb2.GetTaskRequest):
            wire = message_type(resource_meta=sent).SerializeToString()
            read = meta_type.decode(message_type.FromString(wire).resource_meta)
            if not _equal(read.theirs, by_its_class):
                return f"{by_its_class!r} came back as {read.theirs!r}"
    except Exception as error:  # noqa: BLE001 - it is the connector's code
        return f"{type(error).__name__}: {error}"
    return SAME if _equal(made, by_its_class) else BY_ITS_CLASS


def _equal(one: Any, other: Any) -> bool:
    """Compare values, field by field where their class has no comparison of its own."""
    if type(one) is not type(other):
        return False
    return bool(one == other) or (_has_no_comparison(one) and vars(one) == vars(other))


def _has_no_comparison(value: Any) -> bool:
    return all("__eq__" not in vars(cls) for cls in type(value).__mro__[:-1])


_SIMPLE: dict[Any, Any] = {
    str: "a text \u00fc",
    int: 7,
    float: 1.5,
    bool: True,
    bytes: b"\x00\xff",
    dt.datetime: dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    dt.timedelta: dt.timedelta(seconds=90),
    dict: {"key": 1},
    list: [1, "two"],
    Any: {"any": [1, None]},
}


def _made(kind: Any) -> Any:
    """Return a value of a type, made up from its fields."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if isinstance(kind, type):
        return _made_instance(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return _made(next(one for one in arguments if one is not type(None)))
    if origin is list:
        return [_made(arguments[0])]
    if origin is dict:
        return {_made(arguments[0]): _made(arguments[1])}
    raise TypeError(f"no value can be made up for {kind!r}")


def _made_instance(kind: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        given = {field.name: _made(hints[field.name]) for field in dataclasses.fields(kind) if field.init}
        make: Any = kind
        return make(**given)
    if issubclass(kind, enum.Enum):
        return next(iter(kind))
    if kind.__name__ == "LiteralMap":  # flytekit's
        from flyteidl.core.literals_pb2 import Literal, LiteralMap, Primitive, Scalar

        return kind.from_flyte_idl(LiteralMap(literals={"n": Literal(scalar=Scalar(primitive=Primitive(integer=7)))}))
    raise TypeError(f"no value can be made up for {kind.__module__}.{kind.__qualname__}")


if __name__ == "__main__":
    main()
