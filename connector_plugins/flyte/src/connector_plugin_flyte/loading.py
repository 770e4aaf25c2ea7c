"""Connectors that imports register with the SDK's registry, which is one for the process, told apart by import."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flyte.connectors import AsyncConnector, ConnectorRegistry

from connector_core.errors import PluginLoadError
from connector_plugin_flyte.connector import BridgedConnector

Own = AsyncConnector[Any]


class Arrivals:
    """Runs imports one after the other and tells what each of them registered; the SDK's registry is empty before each.

    Args:
        modules: those that are loaded by themselves. What one of them defines is its own, even if another imports it first.
    """

    def __init__(self, modules: Collection[str]) -> None:
        self._modules = frozenset(modules)
        self._early: dict[str, list[Own]] = {}

    def load(self, module: str, do_import: Callable[[], Any]) -> list[BridgedConnector]:
        """Return the connectors that an import registers; of one that raises, nothing stays registered."""
        try:
            do_import()
        except BaseException:
            for registered_now in _registry():
                registered_now.clear()
            raise
        mine = self._early.pop(module, [])
        for connector in everything():
            home = type(connector).__module__
            if home != module and home in self._modules:
                self._early.setdefault(home, []).append(connector)
            else:
                mine.append(connector)
        return bridged(mine)


@contextmanager
def registered() -> Iterator[list[Own]]:
    """Give a list that has, when the block has ended, the connectors that were registered in it.

    The SDK's registry refuses a task type that is taken. The block finds it empty, so that two plugins which claim one task
    type are both known, and the host says which of them serves it. Afterwards the registry holds all, the first come first,
    for connectors that look another one up in it.

    Raises:
        PluginLoadError: this version of the SDK has its registry elsewhere.
    """
    by_key, by_name = _registry()
    keys, names = dict(by_key), dict(by_name)
    by_key.clear()
    by_name.clear()
    found: list[Own] = []
    try:
        yield found
        found += by_key.values()
        keys, names = by_key | keys, by_name | names
    finally:
        by_key.clear()
        by_name.clear()
        by_key.update(keys)
        by_name.update(names)


def everything() -> list[Own]:
    """Return the connectors that are registered."""
    by_key, _by_name = _registry()
    return list(by_key.values())


def bridged(connectors: Iterable[Own]) -> list[BridgedConnector]:
    """Return connectors of the SDK as the host's.

    Of several that have one name, all but the first get their task type's after it: the host tells connectors apart by name.
    """
    found: list[BridgedConnector] = []
    names: set[str] = set()
    for own in connectors:
        name = f"{own.name} ({own.task_type_name})" if own.name in names else own.name
        names.add(name)
        found.append(BridgedConnector(own, name))
    return found


def _registry() -> tuple[dict[Any, Own], dict[str, Any]]:
    try:
        return ConnectorRegistry._REGISTRY, ConnectorRegistry._METADATA
    except AttributeError as error:
        raise PluginLoadError(
            f"the installed flyte keeps its connectors where connector-plugin-flyte does not find them ({error}): "
            "install another version of one of them"
        ) from error
