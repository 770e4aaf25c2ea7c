"""Places of this process: threads by default, the serving loop for plugins that are vouched for."""

import asyncio
from collections.abc import Callable

from connector_core.description import ConnectorDescription
from connector_core.inspection import InspectedConnector
from connector_core.invocation.in_place import HomeLoop, InPlace
from connector_core.invocation.places import Bulkhead, CallLimits, Place
from connector_core.invocation.runtime import LocalRuntime
from connector_core.invocation.threaded import ThreadedPlace


class LocalPlaces:
    """Makes places of this process.

    Args:
        inspected: returns the connector of a description.
        runtime: what they share.
    """

    def __init__(self, inspected: Callable[[ConnectorDescription], InspectedConnector], runtime: LocalRuntime) -> None:
        self._inspected = inspected
        self._runtime = runtime
        self._home: HomeLoop | None = None

    @property
    def abandoned(self) -> int:
        """The number of abandoned calls: still running although their caller has gone."""
        return self._runtime.abandoned

    def place(self, description: ConnectorDescription, limits: CallLimits) -> Place:
        """Return a new place for a connector."""
        runtime = self._runtime
        bulkhead = Bulkhead(description, limits, runtime.base_context, runtime.scrub)
        labels = (description.plugin.name, description.name)
        runtime.metrics.pool_busy.labels(*labels).set_function(lambda: bulkhead.pool.busy)
        runtime.metrics.pool_waiting.labels(*labels).set_function(lambda: bulkhead.pool.waiting)
        if not limits.in_place:
            return ThreadedPlace(self._inspected(description), bulkhead, runtime)
        if self._home is None:
            self._home = HomeLoop.of(runtime)
        return InPlace(self._inspected(description), bulkhead, runtime, self._home)

    async def close(self, timeout: float) -> None:
        """End what the places share, waiting up to `timeout` seconds for plugin code; close the places first."""
        await asyncio.to_thread(self._runtime.close, timeout)
