"""Settings of several sources merged leaf by leaf, so that each value knows where it comes from."""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, Self, TypeVar

from connector_core.errors import SettingsError

ENV_PREFIX = "CONNECTOR_HOST__"

Path = tuple[str | int, ...]
SectionT = TypeVar("SectionT")


class Source(NamedTuple):
    """The source of a value.

    Attributes:
        title: what it is called in errors, such as `connector-host.toml`, `--port`.
        key: the key of the settings that it sets; none, where it may set all.
    """

    title: str
    key: Path = ()

    @classmethod
    def flag(cls, name: str) -> Self:
        """Return the flag of a setting."""
        return cls(f"--{name.replace('_', '-')}", (name,))

    @classmethod
    def variable(cls, variable: str, key: Path) -> Self:
        """Return the environment variable that sets a key."""
        return cls(f"the environment variable {variable}", key)

    def place(self, path: Path) -> str:
        """Name the place of a key, as precisely as the source has it."""
        inside = path[len(self.key) :]
        if all(isinstance(part, int) for part in inside):
            return self.title
        return f"{'.'.join(map(str, inside))!r} in {self.title}"


class Leaf(NamedTuple):
    """A value that is not a table, or an empty one, with its source."""

    value: Any
    source: Source


Layer = dict[str, Any]
"""Leaves by key, in tables as a file has them."""


def layer_of(values: Mapping[str, Any], source: Source) -> Layer:
    """Return a layer of values that stand in one place."""
    return {
        key: layer_of(value, source) if isinstance(value, Mapping) and value else Leaf(value, source)
        for key, value in values.items()
    }


def layer_of_variables(variables: Mapping[str, str]) -> Layer:
    """Return the layer of the environment variables with the prefix: `CONNECTOR_HOST__MEMORY__KIND` is `memory.kind`.

    Values are texts, which each setting reads as it likes. Tables are JSON objects, and so are lists in the sections of
    plugins, since only the plugin knows its types.

    Raises:
        SettingsError: naming the variable that is not JSON, or sets a key of what another one sets as a whole.
    """
    found: Layer = {}
    for variable, text in sorted(variables.items()):  # a whole table before its keys, which override it
        *tables, name = variable[len(ENV_PREFIX) :].lower().split("__")
        table = found
        for part in tables:
            table = table.setdefault(_spelling(part, table), {})
            if not isinstance(table, dict):
                raise SettingsError(
                    f"the environment variable {variable} is a key of {part!r}, which another variable sets as a whole"
                )
        value = _read(variable, _as_utf8(text), is_of_plugin=tables[:1] == ["plugins"])
        read = layer_of({name: value}, Source.variable(variable, (*tables, name)))
        table.update(merged({key: table[key] for key in table if key == _spelling(name, table)}, read))
    return found


def merged(lower: Layer, higher: Layer) -> Layer:
    """Return one layer of two: tables key by key, and of anything else the higher one's.

    Raises:
        SettingsError: a name of the higher one may be any of several of the lower one.
    """
    result = dict(lower)
    for name, value in higher.items():
        key = _spelling(name, lower)
        below = lower.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            result[key] = merged(below, value)
        elif not (isinstance(below, dict) and isinstance(value, Leaf) and value.value == {}):
            result[key] = value
    return result


def values_of(layer: Layer) -> dict[str, Any]:
    """Return a layer's values without their sources."""
    return {key: one.value if isinstance(one, Leaf) else values_of(one) for key, one in layer.items()}


def source_of(layer: Layer, path: Path) -> Source:
    """Return where the value of a key stands; of a table's, where its first value does."""
    found: Layer | Leaf = layer
    for part in path:
        if isinstance(found, Leaf) or part not in found:
            break
        found = found[str(part)]
    return found.source if isinstance(found, Leaf) else next(_leaves(found)).source


def section(sections: Mapping[str, SectionT], name: str, others: Collection[str] = ()) -> SectionT | None:
    """Return the section of a name: the one that is spelt so, else one that variables spell alike and that is of no other name.

    Args:
        sections: by the names that operators wrote.
        name: a plugin's, or `PLUGIN/CONNECTOR`.
        others: all names that have sections of their own.
    """
    if name in sections:
        return sections[name]
    spelt = as_variable(name)
    alike = (key for key in sections if key not in others and as_variable(key) == spelt)
    return next((sections[key] for key in alike), None)


def as_variable(name: str) -> str:
    """Return a section's name as variables spell it: in lower case, with `_` for dashes, dots, slashes and the like."""
    return re.sub(r"\W", "_", name.lower())


def _leaves(layer: Layer) -> Iterator[Leaf]:
    for one in layer.values():
        if isinstance(one, Leaf):
            yield one
        else:
            yield from _leaves(one)


def _spelling(name: str, table: Layer) -> str:
    """Return the key of a table that a name is about: variables know neither capitals nor dashes."""
    if name in table:
        return name
    alike = [key for key in table if as_variable(key) == as_variable(name)]
    if len(alike) > 1:
        raise SettingsError(
            f"settings: {name!r} may be any of {', '.join(map(repr, sorted(alike)))}; "
            "write the table as JSON in one variable, or into the settings file"
        )
    return alike[0] if alike else name


def _read(variable: str, text: str, *, is_of_plugin: bool) -> Any:
    if not text.startswith(("{", "[") if is_of_plugin else "{"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        if is_of_plugin:
            return text
        raise SettingsError(f"the environment variable {variable} is not JSON: {error}") from None


def _as_utf8(text: str) -> str:
    """Return a variable's text read as UTF-8, whatever encoding the locale made of it."""
    try:
        return os.fsencode(text).decode()
    except UnicodeError:  # it is of another encoding, and has been read in the locale's
        return text
