"""The host that serves a run: one that runs elsewhere, or one in this process for the installed plugins."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from connector_core.cli.running.host_client import Client, connected, not_served
from connector_core.description import ConnectorDescription
from connector_core.errors import NotRegisteredError
from connector_core.registry import ConnectorRegistry
from connector_core.settings import MemorySettings, Settings
from connector_core.task import TaskCategory

if TYPE_CHECKING:
    from connector_core.locations.locations import Locations
    from connector_core.plugins import PluginLoadResult
    from connector_core.server import ConnectorServer


@dataclass
class Host:
    """A host, as long as it is `open`.

    Attributes:
        endpoint: where it is; empty for one in this process.
        settings: those of one in this process.
        places: what tasks may use in one in this process, whatever its settings say.
        plugins: what one in this process has loaded.
        hangs: whether this process cannot end in good order: plugin code still runs in threads, or closing was cut short.
    """

    endpoint: str = ""
    settings: Settings | None = None
    places: Sequence[str] = ()
    plugins: "PluginLoadResult | None" = None
    hangs: bool = False
    _locations: "Locations | None" = None
    _resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _server: "ConnectorServer | None" = None  # kept, as gRPC crashes when a server is freed that was not closed

    def load(self) -> None:
        """Load the plugins of a host in this process, before any loop runs: importing blocks.

        Raises:
            ConflictError: two distributions have an entry point of one name.
        """
        if self.settings is not None:
            from connector_core.cli.loading import find_one_of_each, loaded

            found = find_one_of_each(self.settings)
            loading = loaded(found, self.settings, self.settings.secrets.source(), self.places)
            self.plugins, self._locations = self._resources.enter_context(loading)

    @contextlib.asynccontextmanager
    async def open(self, category: TaskCategory) -> AsyncIterator[Client]:
        """Start the host, if it is one in this process, and connect.

        Raises:
            NotRegisteredError: no plugin here serves the task type.
            SetupError: the host cannot be put together.
        """
        if self.settings is None:
            async with connected(self.endpoint) as client:
                yield client
            return
        from connector_core.server import ConnectorServer  # a host elsewhere needs no server here

        server = ConnectorServer(
            self._registry(category), _quiet(self.settings), has_http=False, locations=self._locations
        )
        self._server, self.hangs = server, True  # unless it is closed in good order
        try:
            await server.start()
        except BaseException:
            self.hangs = server.invoker.abandoned > 0
            raise
        try:
            async with connected(f"127.0.0.1:{server.port}", is_own=True) as client:
                yield client
        finally:
            await server.stop(grace=0)
            self._resources.close()
            self.hangs = server.invoker.abandoned > 0

    def _registry(self, category: TaskCategory) -> ConnectorRegistry:
        """Return a registry of the one connector that is needed, so that no other has to be started."""
        assert self.settings is not None  # noqa: S101 - `open` has seen to it
        assert self.plugins is not None, "load() comes before open()"  # noqa: S101
        from connector_core.plugins import build_registry

        everything = build_registry(self.plugins, self.settings.prefer)
        alone = ConnectorRegistry()
        alone.add(everything.described(self._find(everything, category)))
        return alone

    def _find(self, registry: ConnectorRegistry, category: TaskCategory) -> ConnectorDescription:
        try:
            return registry.lookup(category.name, category.version)
        except NotRegisteredError:
            served = [one for connector in registry for one in connector.categories]
            message = not_served(category, served).message
            hints = _hints(self.plugins) if self.plugins is not None else ()
            raise NotRegisteredError("\n".join([message, *hints])) from None


def _quiet(settings: Settings) -> Settings:
    """A host for one call: it listens where nobody else looks, and shares no memory of jobs with one that serves."""
    place = {"host": "127.0.0.1", "port": 0, "console": False, "gateway": "metadata", "traces": "off"}
    speech = {"protocols": "v1", "retryable_failures": "phase"}  # as its own client understands it
    plain = {"memory": MemorySettings(), "strict": False, "require": ()}
    return msgspec.structs.replace(settings, **place, **speech, **plain)


def _hints(plugins: "PluginLoadResult") -> Iterator[str]:
    """Say which plugins might have served it."""
    from connector_core.cli.report import doctor_command

    for failed in plugins.failed:
        command = doctor_command(failed.identity)
        yield f"plugin {failed.identity.name} failed to load: {failed.reason} ({command} shows the traceback)"
    for skipped in plugins.skipped:
        yield f"plugin {skipped.identity.name} is skipped: {skipped.reason}"
    for loaded in plugins.loaded:
        if not loaded.connectors:
            summary = " ".join(loaded.summary.split("\n\n", 1)[0].split())
            yield f"plugin {loaded.identity.name} brings no connector. {summary}"
    for warning in plugins.warnings:
        yield f"warning: {warning}"
