"""Connectors that appear in flytekit's registry, by import: the registry itself decides nothing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flytekit.extend.backend.base_connector import ConnectorRegistry


@dataclass(frozen=True, eq=False, slots=True)
class Appearance:
    """A connector of flytekit's kind, and the module that was being imported when it was registered."""

    connector: Any
    imported: str

    @property
    def home(self) -> str:
        """The module that the connector's class is of."""
        return type(self.connector).__module__


_appeared: list[Appearance] = []
"""A module registers its connectors once in the life of a process, so this is remembered for that long, as `sys.modules` is."""


def appeared() -> list[Appearance]:
    """Return all that has appeared in this process, in order, but for what a failed import has left behind."""
    take_stock("")
    return [one for one in _appeared if one.home in sys.modules]


def take_stock(imported: str) -> None:
    """Note what is in flytekit's registry and was not noted yet."""
    noted = {id(one.connector) for one in _appeared}
    _appeared.extend(Appearance(one, imported) for one in ConnectorRegistry._REGISTRY.values() if id(one) not in noted)


@contextmanager
def watching(module: str) -> Iterator[None]:
    """Note what is registered while `module` is imported.

    The registry is empty meanwhile, so that a task type that another module has registered already is not an error in
    the middle of an import; the host reports the conflict, and what to do about it.
    """
    take_stock("")
    registered, described = ConnectorRegistry._REGISTRY, ConnectorRegistry._METADATA
    before = dict(registered), dict(described)
    registered.clear()
    described.clear()
    try:
        yield
    finally:
        take_stock(module)
        for now, earlier in zip((registered, described), before, strict=True):
            now.update(earlier)
