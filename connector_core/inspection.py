"""A connector object inspected once: its description, and how each of its methods has to be called."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from reprlib import repr as shown
from typing import Any

import msgspec
from msgspec.structs import replace

from connector_core.connector import (
    AsyncConnectorBase,
    ConnectorBase,
    SyncConnectorBase,
    categories_of,
    metadata_type_of,
)
from connector_core.description import EMBEDDED, ConnectorDescription, PluginIdentity
from connector_core.errors import InvalidConnectorError
from connector_core.operations import OPERATIONS, Kind, Operation, Side, with_deadline
from connector_core.resource_meta import ResourceMeta
from connector_core.texts import alike


class Method(msgspec.Struct, frozen=True):
    """One method of one connector.

    Attributes:
        name: of the operation.
        function: the bound method.
        kind: the kind of its code.
        wanted: the arguments that it names, of those that the host offers.
    """

    name: str
    function: Callable[..., Any]
    kind: Kind
    wanted: frozenset[str]


class InspectedConnector(msgspec.Struct, frozen=True, eq=False):
    """A connector object with its description, for the place that runs it.

    Attributes:
        description: what everybody else gets.
        connector: the object.
        methods: its methods by operation.
        metadata_type: the type of its resource metas; `None` for a sync connector.
    """

    description: ConnectorDescription
    connector: ConnectorBase
    methods: Mapping[str, Method]
    metadata_type: type[ResourceMeta] | None

    def described_as(self, **changes: Any) -> "InspectedConnector":
        """Return the same connector with some of its description replaced."""
        return replace(self, description=replace(self.description, **changes))


def inspect_connector(connector: Any, plugin: PluginIdentity = EMBEDDED) -> InspectedConnector:
    """Find out about a connector all that serving it needs.

    Raises:
        InvalidConnectorError: naming plugin, class and what is wrong.
    """
    if not isinstance(connector, AsyncConnectorBase | SyncConnectorBase):
        what = f"the class {connector.__name__}; make an instance" if isinstance(connector, type) else repr(connector)
        raise InvalidConnectorError(
            f"plugin {plugin} brings {what}: not an AsyncConnectorBase or SyncConnectorBase", plugin=plugin.name
        )
    try:
        return _inspect_connector(connector, plugin)
    except InvalidConnectorError as error:
        raise InvalidConnectorError(f"plugin {plugin}: {error.message}", plugin=plugin.name) from error


def _inspect_connector(connector: ConnectorBase, plugin: PluginIdentity) -> InspectedConnector:
    is_async = isinstance(connector, AsyncConnectorBase)
    categories = categories_of(connector)
    name = _name(connector)
    methods = inspect_methods(connector)
    metadata_type = metadata_type_of(connector) if isinstance(connector, AsyncConnectorBase) else None
    description = ConnectorDescription(
        name=name,
        plugin=plugin,
        categories=tuple(dict.fromkeys(categories)),
        side="async" if is_async else "sync",
        operations={operation: method.kind for operation, method in methods.items()},
        deadlines=_deadlines(connector, "async" if is_async else "sync"),
        min_poll_interval=_min_poll_interval(connector),
        risk=_risk(connector, "risk", "calls any URL that a caller names"),
        risk_in_get=bool(getattr(connector, "risk_in_get", False)),
        metadata_risk=_risk(connector, "metadata_risk", "unpickles its resource metas"),
        implementation=f"{type(connector).__module__}:{type(connector).__qualname__}",
    )
    _refuse_unlistable(description)
    return InspectedConnector(description, connector, methods, metadata_type)


def inspect_methods(connector: ConnectorBase) -> dict[str, Method]:
    """Inspect the method of every operation that a connector has.

    Raises:
        InvalidConnectorError: naming the class and the method that cannot be called as it is written.
    """
    found = {}
    for name, operation in OPERATIONS.items():
        function = getattr(connector, name, None)
        if callable(function):
            found[name] = _inspect_method(connector, operation, function)
    return found


def _inspect_method(connector: ConnectorBase, operation: Operation, function: Callable[..., Any]) -> Method:
    where = f"{type(connector).__module__}.{type(connector).__qualname__}.{operation.name}"
    offered = operation.arguments
    wanted: set[str] = set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            wanted.update(offered)
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise InvalidConnectorError(f"{where}() takes {parameter.name!r} by position only; the host passes names")
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        elif parameter.name in offered:
            wanted.add(parameter.name)
        elif parameter.default is parameter.empty:
            raise InvalidConnectorError(_unknown_argument(where, parameter.name, offered))
    kind = _kind(function)
    if kind.is_stream and kind not in operation.streams:
        article = "an" if kind is Kind.ASYNC_GENERATOR else "a"
        raise InvalidConnectorError(f"{where}() is {article} {kind.value}, but has one answer: return it, do not yield")
    return Method(operation.name, function, kind, frozenset(wanted))


def _unknown_argument(where: str, name: str, offered: tuple[str, ...]) -> str:
    near = alike(name, offered)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    known = f"it can have {', '.join(offered)}" if offered else "it can have none"
    return f"{where}() asks for an argument {name!r} that does not exist{hint}: {known}"


def _kind(function: Callable[..., Any]) -> Kind:
    """Return the kind of the outermost layer that is more than a plain function: decorators make blocking code async, too."""
    for layer in _layers(function):
        if inspect.isasyncgenfunction(layer):
            return Kind.ASYNC_GENERATOR
        if inspect.iscoroutinefunction(layer) or inspect.iscoroutinefunction(getattr(layer, "__call__", None)):  # noqa: B004
            return Kind.COROUTINE
        if inspect.isgeneratorfunction(layer):
            return Kind.GENERATOR
    return Kind.BLOCKING


def _layers(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Yield a callable, then what a decorator or a partial has wrapped in it, down to the innermost."""
    seen: set[int] = set()
    layer: Callable[..., Any] | None = function
    while layer is not None and id(layer) not in seen:
        seen.add(id(layer))
        yield layer
        layer = layer.func if isinstance(layer, functools.partial) else getattr(layer, "__wrapped__", None)


def _name(connector: ConnectorBase) -> str:
    name = getattr(connector, "name", None)
    if not isinstance(name, str) or not name:
        where = f"{type(connector).__module__}.{type(connector).__qualname__}"
        raise InvalidConnectorError(f"{where} has no name: set `name`")
    return name


def _min_poll_interval(connector: ConnectorBase) -> float:
    interval = getattr(connector, "min_poll_interval", 0)
    if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 <= interval < float("inf"):
        raise InvalidConnectorError(f"min_poll_interval is {interval!r}; it is a number of seconds, 0 or more")
    return interval


def _risk(connector: ConnectorBase, name: str, example: str) -> str:
    risk: object = getattr(connector, name, "")
    if not isinstance(risk, str):
        raise InvalidConnectorError(f"{name} is {shown(risk)}; it is a text such as {example!r}")
    return risk


def _deadlines(connector: ConnectorBase, side: Side) -> Mapping[str, float]:
    given: object = connector.deadlines
    where = f"connector {_name(connector)!r}: deadlines"
    if not isinstance(given, Mapping):
        raise InvalidConnectorError(
            f'{where} is {shown(given)}; write operations with their seconds: {{"create": 120}}'
        )
    known = with_deadline(side)
    for name, seconds in given.items():
        if name not in known:
            raise InvalidConnectorError(
                f"{where} has {shown(name)}, which is not an operation that may have one here: {', '.join(known)}"
            )
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
            raise InvalidConnectorError(
                f"{where}[{name!r}] is {shown(seconds)}; it is a number of seconds above 0, and not without end"
            )
    return dict(given)


def _refuse_unlistable(description: ConnectorDescription) -> None:
    """Refuse what would spoil ListAgents for all: every connector goes into that one answer."""
    try:
        description.to_flyte()
    except (TypeError, ValueError) as error:
        raise InvalidConnectorError(f"connector {description.name!r} cannot be listed: {error}") from error
