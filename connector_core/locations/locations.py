"""All locations of a host: they choose the place of each connector, and end with the host."""

import asyncio
from collections.abc import Iterable

from connector_core.description import ConnectorDescription
from connector_core.invocation.invoker import Places
from connector_core.invocation.places import CallLimits, Place
from connector_core.locations.location import Location, Restarted


class Locations:
    """The locations of one host, by the plugins that run in them."""

    def __init__(self) -> None:
        self._locations: list[Location] = []
        self._by_plugin: dict[str, Location] = {}

    def add(self, location: Location, plugins: Iterable[str]) -> None:
        """Add a location with the plugins that it has loaded."""
        self._locations.append(location)
        self._by_plugin.update(dict.fromkeys(plugins, location))

    def of(self, plugin: str) -> Location | None:
        """Return the location of a plugin; `None` for one of the host's process."""
        return self._by_plugin.get(plugin)

    def beside(self, places: Places) -> Places:
        """Return what makes the places of all connectors: those of locations here, the others as `places` does."""
        return _Chosen(self, places)

    async def open(self, restarted: Restarted) -> None:
        """Take calls from now on; `restarted` starts the connectors of a process that has taken a dead one's place."""
        for location in self._locations:
            await location.open(restarted)

    async def close(self, timeout: float) -> None:
        """End all processes within so many seconds."""
        await asyncio.gather(*(location.close(timeout) for location in self._locations))

    def kill(self) -> None:
        """End all processes at once that still run; for hosts that do not get as far as serving."""
        for location in self._locations:
            location.kill()


class _Chosen:
    """Makes places in locations and in the host's process."""

    def __init__(self, locations: Locations, places: Places) -> None:
        self._locations = locations
        self._places = places

    @property
    def abandoned(self) -> int:
        """The number of abandoned calls in this process; those of locations end with theirs."""
        return self._places.abandoned

    def place(self, description: ConnectorDescription, limits: CallLimits) -> Place:
        """Return a new place for a connector, where its plugin was loaded."""
        location = self._locations.of(description.plugin.name)
        return self._places.place(description, limits) if location is None else location.place(description, limits)

    async def close(self, timeout: float) -> None:
        """End all processes, and what the places of this one share."""
        await asyncio.gather(self._locations.close(timeout), self._places.close(timeout))
