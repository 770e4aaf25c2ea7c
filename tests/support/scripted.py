"""A connector server that answers what a test tells it, however wrong that is."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
import grpc.aio
from flyteidl.admin import agent_pb2
from flyteidl.service import agent_pb2_grpc
from google.protobuf.message import Message

from connector_core import Phase
from connector_core.testing import FakePropeller

NEVER = object()
"""Instead of an answer: the call lasts until its client ends it."""

LISTED = object()
"""In the script of `list_agents`: the agents that the server was given."""

Answer = Any
"""A message; bytes for a resource meta; a `Phase` for a resource in it; what to fail with; or `NEVER`."""


class Failure(NamedTuple):
    """A status to fail with; a `StatusCode` alone does where its details do not matter."""

    code: grpc.StatusCode
    details: str = "as the script says"


class Refusal(NamedTuple):
    """A status with which ExecuteTaskSync fails before it has read anything."""

    code: grpc.StatusCode


class ScriptedServer:
    """Answers each method from its own script; the last answer of a script is given again and again.

    Attributes:
        requests: what was asked, by method.
        deadlines: the seconds that each call had when it came, `None` without a deadline, by method.
        peers: the client's address of each call, by method.
        cancelled: set when a client has ended a call of that method.
    """

    def __init__(self, scripts: dict[str, Sequence[Answer]]) -> None:
        self.address = ""
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.deadlines: dict[str, list[float | None]] = defaultdict(list)
        self.peers: dict[str, list[str]] = defaultdict(list)
        self.cancelled: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._scripts = {method: list(script) for method, script in scripts.items()}

    def __getattr__(self, method: str) -> Any:
        """The unary methods, which are all alike."""
        if method not in {"ListAgents", "CreateTask", "GetTask", "DeleteTask"}:
            raise AttributeError(method)

        async def answer(request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return await self._answer(method, request, context)

        return answer

    def GetAgent(self, request: Any, context: Any) -> None: ...
    def GetTaskMetrics(self, request: Any, context: Any) -> None: ...
    def GetTaskLogs(self, request: Any, context: Any) -> None: ...

    async def ExecuteTaskSync(
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        if isinstance(refusal := self._scripts["ExecuteTaskSync"][0], Refusal):
            await context.abort(refusal.code, "as the script says")
        asked = [request.WhichOneof("part") async for request in requests]  # ends when the client closes its half
        yield await self._answer("ExecuteTaskSync", asked, context)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled["ExecuteTaskSync"].set()
            raise

    async def _answer(self, method: str, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        self.requests[method].append(request)
        self.deadlines[method].append(context.time_remaining())
        self.peers[method].append(context.peer())
        script = self._scripts[method]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if answer is NEVER:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled[method].set()
                raise
        if isinstance(answer, grpc.StatusCode | Failure):
            failure = Failure(answer) if isinstance(answer, grpc.StatusCode) else answer
            await context.abort(failure.code, failure.details)
        return _message(method, answer)


@asynccontextmanager
async def scripted_server(
    *agents: agent_pb2.Agent,
    list_agents: Sequence[Answer] = (),
    create: Sequence[Answer] = (b"job",),
    get: Sequence[Answer] = (Phase.SUCCEEDED,),
    delete: Sequence[Answer] = (agent_pb2.DeleteTaskResponse(),),
    execute: Sequence[Answer] = (Phase.SUCCEEDED,),
) -> AsyncIterator[ScriptedServer]:
    """Serve on a free port until the block ends; lists `agents`, an async one for task type `job` unless given."""
    listed = agent_pb2.ListAgentsResponse(agents=agents or [agent("job")])
    server = ScriptedServer(
        {
            "ListAgents": [listed if one is LISTED else one for one in list_agents] or [listed],
            "CreateTask": create,
            "GetTask": get,
            "DeleteTask": delete,
            "ExecuteTaskSync": execute,
        }
    )
    listener = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    agent_pb2_grpc.add_AsyncAgentServiceServicer_to_server(server, listener)
    agent_pb2_grpc.add_SyncAgentServiceServicer_to_server(server, listener)
    agent_pb2_grpc.add_AgentMetadataServiceServicer_to_server(server, listener)
    server.address = f"127.0.0.1:{listener.add_insecure_port('127.0.0.1:0')}"
    await listener.start()
    try:
        yield server
    finally:
        await listener.stop(0)


@asynccontextmanager
async def scripted(
    *agents: agent_pb2.Agent, named: str = "", engine: Mapping[str, Any] | None = None, **scripts: Any
) -> AsyncIterator[tuple[ScriptedServer, FakePropeller]]:
    """A server with its scripts, and an engine that has it as its default deployment, or as one of that name."""
    async with scripted_server(*agents, **scripts) as server:
        addresses = [] if named else [server.address]
        deployments = {named: [server.address]} if named else {}
        async with FakePropeller(addresses, named=deployments, **(engine or {})) as propeller:
            yield server, propeller


def attempts_asked(server: ScriptedServer) -> list[int]:
    """Return the `retry_attempt` of each CreateTask, in order."""
    return [one.task_execution_metadata.task_execution_id.retry_attempt for one in server.requests["CreateTask"]]


def agent(*categories: str, is_sync: bool = False, task_types: Iterable[str] = ()) -> agent_pb2.Agent:
    """Return what a server lists: categories as `NAME` or `NAME@VERSION`."""
    pairs = [category.partition("@") for category in categories]
    return agent_pb2.Agent(
        name="scripted",
        is_sync=is_sync,
        supported_task_types=task_types,
        supported_task_categories=[agent_pb2.TaskCategory(name=n, version=int(v or 0)) for n, _, v in pairs],
    )


def _message(method: str, answer: Answer) -> Any:
    if method == "CreateTask" and isinstance(answer, bytes):
        return agent_pb2.CreateTaskResponse(resource_meta=answer)
    if isinstance(answer, Phase):
        answer = agent_pb2.Resource(phase=answer.value)
    if isinstance(answer, agent_pb2.Resource) and method == "GetTask":
        return agent_pb2.GetTaskResponse(resource=answer)
    if isinstance(answer, agent_pb2.Resource):
        return agent_pb2.ExecuteTaskSyncResponse(header=agent_pb2.ExecuteTaskSyncResponseHeader(resource=answer))
    return answer
