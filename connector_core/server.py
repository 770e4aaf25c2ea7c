"""The host put together: load, register, start, listen, serve, drain."""

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from connector_core.description import ConnectorDescription
from connector_core.errors import ConnectorError, PluginLoadError, ServingEndedError, SettingsError
from connector_core.hostlog.redaction import Scrubber
from connector_core.http import ConsoleSource, HttpFace, HttpServer, ServedCalls
from connector_core.invocation import Invoker, LocalPlaces, LocalRuntime
from connector_core.invocation.loops import LoopFactory, loop_factory
from connector_core.jobs import Jobs, open_memory
from connector_core.lifecycle import Lifecycle
from connector_core.limits import limits_of
from connector_core.metrics import Metrics
from connector_core.observing.call_records import CallListener
from connector_core.observing.observer import Observer
from connector_core.observing.recent_calls import RecentCalls
from connector_core.observing.recorder import Recorder
from connector_core.plugins import PluginLoadResult, declared_risks
from connector_core.ports import Address, Port, grpc_options
from connector_core.readiness import HostState, host_state
from connector_core.registry import ConnectorRegistry
from connector_core.secrets import SecretSource
from connector_core.services import HealthService
from connector_core.services.generations import Generations
from connector_core.services.handlers import raw_handler
from connector_core.services.reflection import ReflectionHandler
from connector_core.settings import Settings
from connector_core.transport import GrpcServer, open_server

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from connector_core.locations.locations import Locations
    from connector_core.tracing import Tracing

# What is left of the exit once the grace is over, in seconds: closing clients, and loops that plugin code blocks.
_CLOSE_TIMEOUT = 5.0
# What each closing has of it at the least, whatever those before it took.
_LEAST_CLOSE_TIMEOUT = 0.2


class ConnectorServer:
    """Serves the connectors of a registry over gRPC, with health, reflection and metrics.

    Make it on the loop that is to serve, then `start`, and `stop` in the end.

    Args:
        registry: what to serve; connectors that are added later are served but not listed.
        settings: ports, limits and the like.
        plugins: what became of the plugins, for the metrics; empty for connectors that a program brings by itself.
        new_plugin_loop: makes the loops that plugin code runs on; else the settings choose.
        http_sockets: listen on the HTTP port already.
        grpc_address: where gRPC listens, if not where the settings have it.
        secrets: where `get_secret` looks in plugin code; else the settings say.
        has_http: whether to take the HTTP port and serve there.
        locations: the processes of plugins that are not loaded here; the server ends them.

    Raises:
        SettingsError: the settings have locations, and they are not given.

    Attributes:
        grpc_at: the port that gRPC is served on.
        http_at: the port that HTTP is served on.
        has_failed: is set when gRPC is no longer served although nobody stopped it; `failure` says why.
    """

    def __init__(
        self,
        registry: ConnectorRegistry,
        settings: Settings,
        plugins: PluginLoadResult | None = None,
        new_plugin_loop: LoopFactory | None = None,
        http_sockets: Sequence[socket.socket] = (),
        grpc_address: Address | None = None,
        secrets: SecretSource | None = None,
        has_http: bool = True,
        locations: "Locations | None" = None,
    ) -> None:
        if settings.locations and locations is None:
            raise SettingsError(
                "[locations] is set, but nothing has started them: load plugins with "
                "connector_core.locations.loading.load_everywhere, or leave the setting out"
            )
        self.registry = registry
        self.settings = settings
        self.plugins = plugins or PluginLoadResult()
        self.metrics = Metrics()
        self._secrets = secrets or settings.secrets.source()
        self._scrub = Scrubber(lambda: self._secrets.handed_out).scrub
        self.generations = Generations(settings, self._secrets)
        self._health = HealthService()
        self._gateway_tokens = settings.gateway_tokens()
        self._recent = RecentCalls(settings.recent_calls) if settings.console else None
        self._started_at = time.time()
        self._grpc: GrpcServer | None = None
        self._calls: ServedCalls | None = None
        self._stopping: asyncio.Task[None] | None = None
        self.has_failed = asyncio.Event()
        self.failure = ""
        self._grace = settings.grace
        self._close_by: float | None = None
        # What has to be closed is made from here on, each with its closing; `stop` goes through them backwards.
        closing = self._closing = AsyncExitStack()
        self.tracing = _open_tracing(self._scrub) if settings.traces == "otlp" else None
        if self.tracing is not None:
            closing.push_async_callback(self._close, self.tracing.close)
        self.http_at = Port("HTTP", Address(settings.host, settings.http_port), http_sockets)
        self._http = HttpServer(self.http_at)
        self._has_http = has_http
        closing.push_async_callback(self._close, self._close_http)
        self.grpc_at = Port("gRPC", grpc_address or Address(settings.host, settings.port))
        closing.callback(self.grpc_at.close)
        self._locations = locations
        self.invoker = self._make_invoker(new_plugin_loop or loop_factory(settings.loop))
        closing.push_async_callback(self._close, self.invoker.close)
        self._lifecycle = Lifecycle(self.invoker, self.metrics, timeout=settings.start_timeout)
        closing.push_async_callback(self._close, self._close_connectors)
        self.memory = open_memory(settings.memory)
        self.jobs = Jobs(self.invoker, self.memory, settings)
        closing.push_async_callback(self._close, self.jobs.close)

    def _make_invoker(self, new_loop: LoopFactory) -> Invoker:
        settings = self.settings
        runtime = LocalRuntime(
            self.metrics,
            secrets=self._secrets,
            new_loop=new_loop,
            stall_threshold=settings.stall_seconds,
            batch=settings.batch,
            trace=self.tracing.begin if self.tracing else None,
            scrub=self._scrub,
        )
        local = LocalPlaces(self.registry.inspected, runtime)
        return Invoker(
            local if self._locations is None else self._locations.beside(local),
            partial(limits_of, settings, plugins={connector.plugin.name for connector in self.registry}),
        )

    @property
    def port(self) -> int:
        """The gRPC port: as the settings have it, until a free one is found in place of 0."""
        return self.grpc_at.number

    @property
    def http_port(self) -> int:
        """The HTTP port: as the settings have it, until a free one is found in place of 0."""
        return self.http_at.number

    @property
    def not_started(self) -> Mapping[ConnectorDescription, ConnectorError]:
        """The connectors that have not started (yet), each with the reason."""
        return self._lifecycle.not_started

    async def start(self) -> None:
        """Reserve both ports, start the connectors, serve gRPC, say SERVING, serve HTTP.

        Raises:
            PluginLoadError: a required plugin's connector could not be started.
            AddressInUseError: a port is taken.
        """
        _show_plugins(self.metrics, self.plugins)
        for risk in declared_risks(self.plugins, self.settings):
            _log.warning("%s", risk)
        try:
            # 1. The ports: a taken one is found before plugin code runs. Callers are refused until they are served.
            self.grpc_at.reserve()
            if self._has_http:
                self.http_at.reserve()
            # 2. The connectors.
            if self._locations is not None:
                await self._locations.open(self._lifecycle.start_anew)
            await self._start_connectors()
            # 3. gRPC.
            calls = await self._serve_grpc()
            # 4. Health, for load balancers and probes.
            for service in ("", *self.generations.names):
                await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
            self._closing.push_async_callback(self._health.drain)
            # 5. HTTP.
            if self._has_http:
                self._serve_http(calls)
        except BaseException:
            await self.stop(grace=0)
            raise

    async def stop(self, grace: float | None = None) -> None:
        """Say NOT_SERVING, take no new calls, let those in flight finish within `grace` seconds, close the connectors.

        A second call, while the first one waits for calls, ends their time after its own grace.
        """
        self._grace = self.settings.grace if grace is None else grace
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._closing.aclose())
        else:
            await self._drain()
        await asyncio.shield(self._stopping)

    def not_ready(self) -> Sequence[str]:
        """Say why this host should get no calls now; nothing, where it should."""
        return self._state().reasons_not_ready

    async def _start_connectors(self) -> None:
        failed = await self._lifecycle.start(self.registry)
        for connector, error in failed.items():
            if self.settings.strict or connector.plugin.name in self.settings.require:
                raise PluginLoadError(
                    f"plugin {connector.plugin} is required, but its connector {connector.name!r} "
                    f"could not be started: {error}"
                )

    async def _close(self, close: Callable[[float], Awaitable[None]]) -> None:
        """Close one thing, within what those before it have left of the time after the drain."""
        now = time.monotonic()
        if self._close_by is None:
            self._close_by = now + _CLOSE_TIMEOUT
        await close(max(self._close_by - now, _LEAST_CLOSE_TIMEOUT))

    async def _close_http(self, timeout: float) -> None:
        await asyncio.to_thread(self._http.close, timeout)

    async def _close_connectors(self, timeout: float) -> None:
        with contextlib.suppress(TimeoutError):  # the invoker names what hangs
            await asyncio.wait_for(self._lifecycle.close(), timeout)

    async def _serve_grpc(self) -> ServedCalls:
        tracing = self.tracing
        options, interceptors = grpc_options(self.settings), tracing.interceptors if tracing else ()
        server = await open_server(self.settings.transport, options, interceptors, self.settings.request_seconds)
        recorder = Recorder(self.metrics, *self._listeners())
        servicers = self.generations.servicers(self.registry, self.jobs, recorder)
        server.add_generic_rpc_handlers([raw_handler(name, servicer) for name, servicer in servicers.items()])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        server.add_generic_rpc_handlers([ReflectionHandler(self.generations.descriptors)])
        self.grpc_at.give_to(server)
        await server.start()
        self._grpc = server
        self._calls = ServedCalls(servicers, tracing.serving if tracing else None)
        self._closing.push_async_callback(self._drain)
        watch = asyncio.create_task(self._fail_with(server))
        self._closing.callback(watch.cancel)
        return self._calls

    async def _fail_with(self, server: GrpcServer) -> None:
        error = await server.ended()
        self.failure = f"gRPC is no longer served, although nobody stopped it: {type(error).__name__}: {error}"
        _log.critical("%s; restart the host", self.failure)
        self.has_failed.set()

    async def _drain(self) -> None:
        if self._grpc is not None and self._calls is not None:
            await asyncio.gather(self._grpc.stop(self._grace), self._calls.drain(self._grace))

    def _serve_http(self, calls: ServedCalls) -> None:
        stopping = self._http.stopping
        face = HttpFace(
            settings=self.settings,
            tokens=self._gateway_tokens,
            metrics=self.metrics,
            services=self.generations.descriptors,
            calls=calls,
            state=self._state,
            console=self._console(stopping),
            stopping=stopping,
        )
        console = face.console
        self._http.start(
            partial(_make_app, face), loop_factory(self.settings.loop), console.observer.run if console else None
        )

    def _listeners(self) -> Iterable[CallListener]:
        """The listeners of calls that have ended."""
        if self.tracing is not None:
            yield self.tracing.describe
        if self._recent is not None:
            yield self._recent.add

    def _console(self, stopping: asyncio.Event) -> ConsoleSource | None:
        if self._recent is None:
            return None
        return ConsoleSource(
            plugins=self.plugins,
            registry=self.registry,
            observer=Observer(self.metrics, stopping),
            recent=self._recent,
            scrub=self._scrub,
            started_at=self._started_at,
        )

    def _state(self) -> HostState:
        return host_state(self.settings, self.plugins, self.not_started, self._stopping is not None, self.failure)


async def serve(server: ConnectorServer, on_started: Callable[[], None] = lambda: None) -> None:
    """Start a server, serve until SIGTERM, SIGINT or the settings' timeout, and drain; a second signal ends the grace.

    Raises:
        SetupError: it could not be started.
        ServingEndedError: gRPC has ended by itself; what was in flight has been drained.
    """
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    asked_again = asyncio.Event()

    def stop() -> None:
        (asked_again if asked_to_stop.is_set() else asked_to_stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await server.start()
    on_started()
    if server.settings.timeout is not None:
        loop.call_later(server.settings.timeout, asked_to_stop.set)
    await _any_of(asked_to_stop, server.has_failed)
    asked_to_stop.set()  # from here on, a signal ends the grace
    draining = asyncio.create_task(server.stop())
    impatient = asyncio.create_task(asked_again.wait())
    await asyncio.wait({draining, impatient}, return_when=asyncio.FIRST_COMPLETED)
    impatient.cancel()
    if not draining.done():
        await server.stop(grace=0)
    await draining
    if server.failure:
        raise ServingEndedError(server.failure)


async def _any_of(*events: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _open_tracing(scrub: Callable[[str], str]) -> "Tracing":
    try:
        from connector_core.tracing import Tracing
    except ModuleNotFoundError as error:
        raise SettingsError(
            f'traces is "otlp", which needs OpenTelemetry: pip install "connector-core[otel]" ({error})'
        ) from None
    return Tracing(scrub)


def _make_app(face: HttpFace) -> Any:
    """Called in the thread that serves HTTP, for its first caller: importing this takes half as long as all else."""
    from connector_core.http.asgi_app import make_app

    return make_app(face)


def _show_plugins(metrics: Metrics, plugins: PluginLoadResult) -> None:
    for state, group in plugins.by_state.items():
        for plugin in group:
            identity = plugin.identity
            metrics.plugin_state.labels(identity.name, identity.distribution or "", state).set(1)
    for loaded in plugins.loaded:
        metrics.plugin_load.labels(loaded.identity.name).set(loaded.seconds)
    for failed in plugins.failed:
        metrics.plugin_load.labels(failed.identity.name).set(failed.seconds)
