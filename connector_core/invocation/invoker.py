"""From a connector's description to the place that runs it, with deadlines and holds; it knows no kinds of code."""

import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from connector_core.description import ConnectorDescription
from connector_core.errors import ConnectorNotStartedError, RiskNotAllowedError
from connector_core.invocation.offers import Offer
from connector_core.invocation.places import CallLimits, Place
from connector_core.operations import LIFECYCLE

_UNSET_LIMIT = 60.0


class Places(Protocol):
    """Makes the places of connectors, and ends what they share."""

    @property
    def abandoned(self) -> int:
        """The number of abandoned calls: still running although their caller has gone."""
        ...

    def place(self, description: ConnectorDescription, limits: CallLimits) -> Place:
        """Return a new place for a connector."""
        ...

    async def close(self, timeout: float) -> None:
        """End what they share, waiting up to `timeout` seconds for plugin code."""
        ...


class _Route(NamedTuple):
    """The place of one connector, with its refusals and holds."""

    description: ConnectorDescription
    place: Place
    limits: CallLimits

    def refuse(self, operation: str) -> None:
        """Refuse an operation that the operator has not allowed.

        Raises:
            RiskNotAllowedError: with the setting that would.
        """
        if (reason := self.limits.refusals.get(operation)) is not None:
            raise RiskNotAllowedError(reason, plugin=self.description.plugin.name, operation=operation)

    def end(self, operation: str, timeout: float | None) -> float:
        """Return the moment, on the monotonic clock, at which a call that begins now has to be over."""
        patience = math.inf if timeout is None else timeout
        return time.monotonic() + min(patience, self.limits.deadlines.get(operation, math.inf))


class Invoker:
    """Runs operations of connectors, each in its place.

    Args:
        places: makes the places.
        limits_of: what each connector's calls may take.
    """

    def __init__(self, places: Places, limits_of: Callable[[ConnectorDescription], CallLimits]) -> None:
        self._places = places
        self._limits_of = limits_of
        self._routes: dict[str, _Route] = {}
        self._replaced: list[Place] = []
        self._held: dict[str, str] = {}

    def invoke(
        self,
        connector: ConnectorDescription,
        operation: str,
        offer: Offer,
        timeout: float | None = None,
        *,
        end: float | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Run one operation; await its answer as `answers.encode_answer` gives it.

        Args:
            connector: whose operation.
            operation: its name.
            offer: what the method may ask for.
            timeout: seconds that the caller waits at the most; the operation's own limit holds besides.
            end: the moment on the monotonic clock at which the call has to be over, in place of both.

        Raises:
            ConnectorError: naming plugin and operation, whatever the plugin raised.
        """
        if self._held and operation not in LIFECYCLE:
            self._refuse_held(connector)
        if operation not in connector.operations:
            connector.require(operation)
        route = self._route(connector)
        if route.limits.refusals:
            route.refuse(operation)
        return route.place.invoke(operation, offer, route.end(operation, timeout) if end is None else end)

    def stream(
        self, connector: ConnectorDescription, operation: str, offer: Offer, timeout: float | None = None
    ) -> AsyncIterator[Any]:
        """Run one operation that may yield its answer piece by piece; as `invoke` otherwise."""
        self._refuse_held(connector)
        connector.require(operation)
        route = self._route(connector)
        route.refuse(operation)
        return route.place.stream(operation, offer, route.end(operation, timeout))

    def hold(self, connector: ConnectorDescription, reason: str) -> None:
        """Refuse the connector's calls as UNAVAILABLE with `reason`, until `release`."""
        self._held[connector.name] = reason

    def release(self, connector: ConnectorDescription) -> None:
        """Let the connector's calls through."""
        self._held.pop(connector.name, None)

    def limit(self, connector: ConnectorDescription, operation: str) -> float:
        """Return the longest time that an operation may take, in seconds."""
        return self._route(connector).limits.deadlines.get(operation, _UNSET_LIMIT)

    @property
    def abandoned(self) -> int:
        """The number of abandoned calls: still running although their caller has gone."""
        return self._places.abandoned

    async def close(self, timeout: float) -> None:
        """Close all places, and wait up to `timeout` seconds for what they share."""
        for place in (*self._replaced, *(route.place for route in self._routes.values())):
            await place.close()
        await self._places.close(timeout)

    def _refuse_held(self, connector: ConnectorDescription) -> None:
        if (reason := self._held.get(connector.name)) is not None:
            raise ConnectorNotStartedError(reason, plugin=connector.plugin.name)

    def _route(self, connector: ConnectorDescription) -> _Route:
        route = self._routes.get(connector.name)
        if route is None or route.description is not connector:
            if route is not None:  # an override took its name or categories; calls in flight end where they run
                self._replaced.append(route.place)
            limits = self._limits_of(connector)
            route = self._routes[connector.name] = _Route(connector, self._places.place(connector, limits), limits)
        return route
