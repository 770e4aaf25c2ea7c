"""Run by the interpreter of any environment: what its bridges bring, and whether a made-up resource meta of each comes back.

Prints one JSON object. It has to run where nothing of the tests is installed, so it imports connector-core alone.
"""

import dataclasses
import datetime as dt
import enum
import json
import sys
import types
import typing
from typing import Any

from connector_core.plugins import load_from_settings
from connector_core.settings import load_settings


def main() -> None:
    result = load_from_settings(load_settings())
    json.dump(
        {
            "failed": {failed.identity.name: failed.reason for failed in result.failed},
            "connectors": [
                _described(plugin.identity, connector) for plugin in result.loaded for connector in plugin.connectors
            ],
        },
        sys.stdout,
    )


def _described(plugin: Any, connector: Any) -> dict[str, Any]:
    kind = getattr(connector.metadata_type, "kind", None)
    return {
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "connector": connector.name,
        "task_types": [str(category) for category in connector.categories],
        "kind": "sync" if connector.is_sync else "async",
        "meta": getattr(kind, "__name__", None),
        "problem": None if connector.is_sync else _problem(connector.metadata_type, kind),
    }


def _problem(meta_type: Any, kind: Any) -> str | None:
    """Say what keeps a made-up resource meta from coming back the same from both generations' messages."""
    from flyteidl.admin import agent_pb2
    from flyteidl2.connector import connector_pb2

    try:
        made = _made(kind)
        sent = meta_type(made).encode()
        for message_type in (agent_pb2.GetTaskRequest, connector_pb2.GetTaskRequest):
            wire = message_type(resource_meta=sent).SerializeToString()
            read = meta_type.decode(message_type.FromString(wire).resource_meta)
            if read.theirs != made:
                return f"{made!r} came back as {read.theirs!r}"
            if read.encode() != sent:
                return f"{made!r} is written otherwise the second time"
    except Exception as error:  # noqa: BLE001 - it is the connector's code
        return f"{type(error).__name__}: {error}"
    return None


_SIMPLE = {
    str: "a text \u00fc",
    int: 7,
    float: 1.5,
    bool: True,
    bytes: b"\x00\xff",
    dt.datetime: dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    dt.timedelta: dt.timedelta(seconds=90),
    dict: {"key": 1},
    list: [1, "two"],
}


def _made(kind: Any) -> Any:
    """Return a value of a type, made up from its fields."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: _made(hints[field.name]) for field in dataclasses.fields(kind) if field.init})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return _made(next(one for one in arguments if one is not type(None)))
    if origin is list:
        return [_made(arguments[0])]
    if origin is dict:
        return {_made(arguments[0]): _made(arguments[1])}
    if kind is Any:
        return {"any": [1, None]}
    raise TypeError(f"no value can be made up for {kind!r}")


if __name__ == "__main__":
    main()
