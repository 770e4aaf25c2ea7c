"""The engine's calls over real gRPC channels."""

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import grpc
import grpc.aio
from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap
from google.protobuf.message import Message

from connector_core.connection import Connection
from connector_core.ports.proxies import NO_PROXY
from connector_core.protocol.client import Client, Generation
from connector_core.testing.propeller.routing import Deployment

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""The largest message that the engine receives, unless its configuration raises it: gRPC's default."""

_ROUND_ROBIN: Mapping[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
_OPTIONS = [
    # Channels of one process would otherwise share connections, and the trouble of one engine would be another's.
    ("grpc.use_local_subchannel_pool", 1),
    # The engine waits a second before it connects again; tests start hosts again more often than that.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    NO_PROXY,
]


class Reply(NamedTuple):
    """The end of a call: a status and, if that is OK, a message."""

    code: grpc.StatusCode
    details: str = ""
    message: Any = None


class Wire:
    """Channels to deployments, each opened with its first call and kept; ListAgents has a new one each time.

    Args:
        deployments: by name.
        ping_every: seconds between pings; none unless given.
        generation: of the protocol; the second one asks what is served over a channel that is kept, too.
        connection: what the engine sends with each call about a job, in the second generation.
    """

    def __init__(
        self,
        deployments: Mapping[str, Deployment],
        ping_every: float | None = None,
        generation: Generation = "v1",
        connection: Connection | None = None,
    ) -> None:
        self._deployments = dict(deployments)
        self._generation = generation
        self._connection = connection
        self._pings = _pings(ping_every) if ping_every is not None else []
        self._channels: dict[str, grpc.aio.Channel] = {}

    @property
    def deployments(self) -> Sequence[str]:
        """Their names, the default one first."""
        return tuple(self._deployments)

    def deadline_of(self, deployment: str, method: str) -> float | None:
        """Return the deadline of one method's calls, in seconds."""
        return self._deployments[deployment].deadline_of(method)

    async def list_agents(self, deployment: str) -> Reply:
        """Ask what is served."""
        request, timeout = agent_pb2.ListAgentsRequest(), self.deadline_of(deployment, "ListAgents")
        if self._generation == "v2":
            stub = self._client(self._channel(deployment)).metadata
            return await _reply(stub.ListAgents(request, timeout=timeout))
        async with self._open(deployment) as channel:
            return await _reply(self._client(channel).metadata.ListAgents(request, timeout=timeout))

    async def call(self, deployment: str, method: str, request: Message) -> Reply:
        """Call CreateTask, GetTask or DeleteTask."""
        stub = self._client(self._channel(deployment)).jobs
        return await _reply(getattr(stub, method)(request, timeout=self.deadline_of(deployment, method)))

    async def execute(self, deployment: str, header: agent_pb2.CreateRequestHeader, inputs: LiteralMap) -> Reply:
        """Call ExecuteTaskSync: header, inputs, half-close; one message is read, then the stream is cancelled."""
        stub = self._client(self._channel(deployment)).answers
        call = stub.ExecuteTaskSync(timeout=self.deadline_of(deployment, "ExecuteTaskSync"))
        try:
            return await _reply(_one_answer(call, header, inputs))
        except asyncio.InvalidStateError:  # the server ended the stream between two messages
            return Reply(await call.code(), await call.details())
        finally:
            call.cancel()

    async def move(self, deployment: str, addresses: Sequence[str]) -> None:
        """Find a deployment at other addresses, as when DNS has changed."""
        self._deployments[deployment] = replace(self._deployments[deployment], addresses=addresses)
        if (channel := self._channels.pop(deployment, None)) is not None:
            await channel.close()

    async def close(self) -> None:
        """Close all channels; the next call opens new ones."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    def _client(self, channel: grpc.aio.Channel) -> Client:
        return Client(channel, self._generation, self._connection)

    def _channel(self, deployment: str) -> grpc.aio.Channel:
        if (channel := self._channels.get(deployment)) is None:
            channel = self._channels[deployment] = self._open(deployment)
        return channel

    def _open(self, deployment: str) -> grpc.aio.Channel:
        chosen = self._deployments[deployment]
        options = [*_OPTIONS, *_service_options(chosen.service_config or {}), *self._pings]
        return grpc.aio.insecure_channel(target_of(chosen.addresses), options=options)


def _service_options(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what a service config makes of a channel; gRPC for Python takes the lower of its limit and the channel's."""
    methods = config.get("methodConfig", [])
    limits = [method["maxResponseMessageBytes"] for method in methods if "maxResponseMessageBytes" in method]
    return [
        ("grpc.service_config", json.dumps({**_ROUND_ROBIN, **config})),
        ("grpc.max_receive_message_length", max([MAX_ANSWER_BYTES, *map(int, limits)])),
    ]


def _pings(every: float) -> list[tuple[str, int]]:
    """Ask for pings; the engine's gRPC has no limit on those that go without data, and Python's has one of two."""
    return [
        ("grpc.keepalive_time_ms", int(every * 1000)),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]


async def _one_answer(
    call: grpc.aio.StreamStreamCall[Any, Any], header: agent_pb2.CreateRequestHeader, inputs: LiteralMap
) -> agent_pb2.ExecuteTaskSyncResponse | None:
    await call.write(agent_pb2.ExecuteTaskSyncRequest(header=header))
    await call.write(agent_pb2.ExecuteTaskSyncRequest(inputs=inputs))
    await call.done_writing()
    answer = await call.read()
    return None if answer is grpc.aio.EOF else answer


async def _reply(call: Awaitable[Any]) -> Reply:
    try:
        return Reply(grpc.StatusCode.OK, message=await call)
    except grpc.aio.AioRpcError as error:
        return Reply(error.code(), error.details() or "")


def target_of(addresses: Sequence[str]) -> str:
    """Return the name by which gRPC finds all addresses of a deployment.

    Raises:
        ValueError: there are none, or several of which one is not an IP address.
    """
    versions = {_ip_version(address) for address in addresses}
    if versions in ({4}, {6}):
        return f"ipv{versions.pop()}:{','.join(addresses)}"
    if len(addresses) == 1:
        return f"dns:///{addresses[0]}"
    raise ValueError(
        f"{list(addresses)} cannot be one deployment: give one DNS name, or IP addresses of one kind, each as HOST:PORT"
    )


def _ip_version(address: str) -> int:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0
