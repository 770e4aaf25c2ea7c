"""Settings in environment variables: `CONNECTOR_HOST__MEMORY__KIND` is the key `kind` of the table `memory`."""

import json
from collections.abc import Mapping
from typing import Any

from connector_core.errors import SettingsError

ENV_PREFIX = "CONNECTOR_HOST__"


def from_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that stand in variables of the prefix, by name and in tables as a file has them.

    Values are texts, which each setting reads as it likes, but for tables, which are JSON objects, and what else the
    sections of plugins have: only the plugin knows its types.

    Raises:
        SettingsError: naming the variable that is no JSON, or is in the way of another.
    """
    found: dict[str, Any] = {}
    for variable, text in sorted(variables.items()):  # a whole table before its keys, which go first
        *tables, key = variable[len(ENV_PREFIX) :].lower().split("__")
        table = found
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise SettingsError(
                    f"the environment variable {variable} is a key of {name!r}, which another variable sets as a whole"
                )
        value = _read(variable, text, is_of_plugin=tables[:1] == ["plugins"])
        table[key] = merged(table[key], value) if isinstance(table.get(key), dict) else value
    return found


def merged(lower: Any, higher: Any) -> Any:
    """Return what is given in two places: tables key by key, and of anything else the one that goes first."""
    if not isinstance(lower, Mapping) or not isinstance(higher, Mapping):
        return higher
    return {**lower, **{key: merged(lower[key], value) if key in lower else value for key, value in higher.items()}}


def _read(variable: str, text: str, *, is_of_plugin: bool) -> Any:
    if not text.startswith(("{", "[") if is_of_plugin else "{"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        if is_of_plugin:
            return text
        raise SettingsError(f"the environment variable {variable} is no JSON: {error}") from None
