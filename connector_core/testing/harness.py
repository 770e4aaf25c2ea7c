"""A real server on free ports of the loopback address, with a client for it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.request import ProxyHandler, build_opener
from uuid import uuid4

import grpc.aio
from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub, SyncAgentServiceStub
from grpc_health.v1 import health_pb2, health_pb2_grpc

from connector_core.connection import Connection
from connector_core.connector import ConnectorBase
from connector_core.description import PluginIdentity
from connector_core.invocation.loops import LoopFactory
from connector_core.literals import to_literal_map
from connector_core.plugins import (
    PluginLoadResult,
    PluginSelection,
    PluginSource,
    build_registry,
    load_plugins,
    module_plugin,
)
from connector_core.ports.proxies import NO_PROXY
from connector_core.protocol.client import WITHOUT_LIMIT, Client, Generation
from connector_core.registry import ConnectorRegistry
from connector_core.server import ConnectorServer
from connector_core.settings import Settings
from connector_core.tables import read_table
from connector_core.task import TaskCategory


@dataclass(frozen=True)
class RunningServer:
    """A server that serves, and typed calls on it over real gRPC.

    The stubs are the protocol's own; the methods besides them save a test from building messages.

    Attributes:
        server: the server.
        channel: a channel to it.
        generation: of the protocol that is spoken. Messages are the first one's either way; the second one has no sync calls.
        connection: what goes along with calls of the second generation.
    """

    server: ConnectorServer
    channel: grpc.aio.Channel
    generation: Generation = "v1"
    connection: Connection | None = None

    def speaking_v2(self, connection: Connection | None = None) -> "RunningServer":
        """Return the same server, called as engines of the 2.x line do; needs the extra `v2`."""
        return replace(self, generation="v2", connection=connection)

    @property
    def address(self) -> str:
        """`host:port` of gRPC."""
        return f"127.0.0.1:{self.server.port}"

    @property
    def client(self) -> Client:
        """A client that speaks the generation."""
        return Client(self.channel, self.generation, self.connection)

    @property
    def async_stub(self) -> AsyncAgentServiceStub:
        """`flyteidl.service.AsyncAgentService`, or its like in the second generation."""
        return self.client.jobs

    @property
    def sync_stub(self) -> SyncAgentServiceStub:
        """`flyteidl.service.SyncAgentService`."""
        return self.client.answers

    @property
    def metadata_stub(self) -> AgentMetadataServiceStub:
        """`flyteidl.service.AgentMetadataService`, or its like in the second generation."""
        return self.client.metadata

    async def list_connectors(self) -> list[agent_pb2.Agent]:
        """Call ListAgents."""
        return await self.client.list_connectors()

    async def create(
        self,
        template: TaskTemplate | str,
        inputs: Mapping[str, Any] | LiteralMap | None = None,
        *,
        output_prefix: str | None = None,
        task_execution_metadata: agent_pb2.TaskExecutionMetadata | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """Call CreateTask and return the resource meta; a string is the type of a template with nothing else in it.

        Each call is another task unless it says otherwise: an output prefix that is left out is made up.
        """
        request = agent_pb2.CreateTaskRequest(
            template=_template(template),
            inputs=_literals(inputs),
            output_prefix=f"test://{uuid4()}/0" if output_prefix is None else output_prefix,
            task_execution_metadata=task_execution_metadata,
        )
        return await self.client.create(request, timeout)

    async def get(
        self, task_type: str, resource_meta: bytes, *, output_prefix: str = "", timeout: float | None = None
    ) -> agent_pb2.Resource:
        """Call GetTask."""
        return await self.client.get(_category(task_type), resource_meta, output_prefix, timeout)

    async def delete(self, task_type: str, resource_meta: bytes, *, timeout: float | None = None) -> None:
        """Call DeleteTask."""
        await self.client.delete(_category(task_type), resource_meta, timeout)

    async def get_metrics(
        self, task_type: str, resource_meta: bytes, queries: Iterable[str] = ()
    ) -> agent_pb2.GetTaskMetricsResponse:
        """Call GetTaskMetrics."""
        return await self.client.get_metrics(_category(task_type), resource_meta, queries)

    def get_logs(
        self, task_type: str, resource_meta: bytes, *, lines: int = 0, token: str = "", timeout: float | None = None
    ) -> AsyncIterator[agent_pb2.GetTaskLogsResponse]:
        """Call GetTaskLogs and yield each message of the stream; to stop reading cancels the call."""
        category = _category(task_type)
        return self.client.get_logs(category, resource_meta, lines=lines, token=token, timeout=timeout)

    async def execute(
        self,
        template: TaskTemplate | str,
        inputs: Mapping[str, Any] | LiteralMap | None = None,
        *,
        output_prefix: str = "",
        timeout: float | None = None,
    ) -> agent_pb2.Resource:
        """Call ExecuteTaskSync as the engine does: header, inputs, half-close, one answer, cancel."""
        header = agent_pb2.CreateRequestHeader(template=_template(template), output_prefix=output_prefix)
        resource = await self.client.execute(header, _literals(inputs), timeout)
        assert resource is not None, "the stream ended without an answer"
        return resource

    async def creates_ended(self) -> None:
        """Wait until no create is in flight in the host, whether a caller still waits for it or not."""
        while creates := self.server.jobs.creates.in_flight:
            await asyncio.wait(creates)

    async def orphans_deleted(self) -> None:
        """Wait until the host has ended the deletions that it began by itself, of jobs that no caller knows of."""
        while deletions := self.server.jobs.creates.deletions_in_flight:
            await asyncio.wait(deletions)

    async def health(self, service: str = "") -> str:
        """Call grpc.health.v1's Check and return the name of its answer."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return name

    def metrics_text(self) -> str:
        """Scrape `/metrics` over HTTP; blocking, which the server's thread for it does not mind."""
        past_proxies = build_opener(ProxyHandler({}))
        with past_proxies.open(f"http://127.0.0.1:{self.server.http_port}/metrics") as answer:
            text: str = answer.read().decode()
        return text

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of one sample, 0 if it has not been counted yet."""
        return self.server.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running_server(
    *connectors: ConnectorBase,
    plugins: Iterable[PluginSource | str] = (),
    settings: Mapping[str, Any] | None = None,
    new_plugin_loop: LoopFactory | None = None,
    generation: Generation = "v1",
) -> AsyncIterator[RunningServer]:
    """Serve connectors, and plugins named by module or source, on free ports until the block ends.

    Args:
        connectors: served as a program's own.
        plugins: modules with hookimpls, or sources as `connector_core.plugins.installed_plugins` finds them.
        settings: over the defaults; `plugins` in it are the plugins' sections.
        new_plugin_loop: makes the loops that plugin code runs on, for a test that watches them.
        generation: of the protocol that the answer of this function speaks; the server speaks both.

    Raises:
        SetupError: as the command line would report it.
    """
    chosen = read_table(Settings, {"port": 0, "http_port": 0, "grace": 5, **(settings or {})}, "the settings")
    sources = [module_plugin(source) if isinstance(source, str) else source for source in plugins]
    result = load_plugins(sources, PluginSelection(configs=chosen.plugins))
    server = ConnectorServer(_registry(connectors, result, chosen), chosen, result, new_plugin_loop)
    await server.start()
    try:
        address = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(address, options=[WITHOUT_LIMIT, NO_PROXY]) as channel:
            yield RunningServer(server, channel, generation)
    finally:
        await server.stop()


def _registry(connectors: Iterable[ConnectorBase], result: PluginLoadResult, settings: Settings) -> ConnectorRegistry:
    registry = build_registry(result, settings.prefer)
    for connector in connectors:
        registry.register(connector, plugin=PluginIdentity(f"test-{connector.name.lower()}"))
    return registry


def _template(template: TaskTemplate | str) -> TaskTemplate:
    return TaskTemplate(type=template) if isinstance(template, str) else template


def _literals(inputs: Mapping[str, Any] | LiteralMap | None) -> LiteralMap:
    return inputs if isinstance(inputs, LiteralMap) else to_literal_map(inputs or {})


def _category(task_type: str) -> TaskCategory:
    """Read `NAME` or `NAME@VERSION`; a test may send what no connector could be named."""
    name, _, version = task_type.partition("@")
    return TaskCategory(name, int(version or 0))
