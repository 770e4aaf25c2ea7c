"""`flyteidl.service.SyncAgentService`: a task is answered within one stream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap

from connector_core.description import ConnectorDescription
from connector_core.errors import ConnectorError, DeadlineExceededError, InvalidRequestError, UnsupportedOperationError
from connector_core.invocation.offers import TaskOffer
from connector_core.jobs import Jobs
from connector_core.metrics import do_operation
from connector_core.observing.recorder import Recorder
from connector_core.protocol.decoding import category_of_template, decode
from connector_core.protocol.v1 import V1
from connector_core.registry import ConnectorRegistry
from connector_core.services.handlers import takes_stream
from connector_core.services.recording import Request, record_connector_stream
from connector_core.task import describe_execution

_SENDING_SECONDS = 1.0
_SENDING_MESSAGES = 4


class SyncConnectorService:
    """Serves sync connectors."""

    def __init__(self, registry: ConnectorRegistry, jobs: Jobs, recorder: Recorder, dialect: V1 | None = None) -> None:
        self.recorder = recorder
        self._registry = registry
        self._jobs = jobs
        self._dialect = dialect or V1()

    @takes_stream
    @record_connector_stream(do_operation)
    async def ExecuteTaskSync(self, raw: AsyncIterator[bytes], request: Request) -> AsyncIterator[bytes]:
        """Take a header, then inputs; answer with one message that carries the resource.

        The engine sends both, half-closes, reads one message and cancels. Clients that keep their side open are answered
        too: nothing after the inputs is waited for.
        """
        try:
            header = await _header(raw)
            execution = header.task_execution_metadata.task_execution_id
            connector = request.find(
                self._registry, *category_of_template(header.template), describe_execution(execution)
            )
            _refuse_async(connector)
        except ConnectorError:
            await _let_it_send(raw)
            raise
        limit, left = self._jobs.limit(connector, do_operation), request.timeout
        is_bounded = left is not None and left <= limit  # by the client: gRPC ends the call in time
        inputs = await _inputs(raw, header, None if is_bounded else limit)
        request.count_input(inputs.ByteSize())
        answered = await self._jobs.do(connector, TaskOffer(header, inputs), request.timeout)
        if answered.failure is not None:
            request.answered_failure(answered.failure)
        answer = agent_pb2.ExecuteTaskSyncResponseHeader(resource=self._dialect.resource(answered.resource))
        raw_answer = agent_pb2.ExecuteTaskSyncResponse(header=answer).SerializeToString()
        request.answered()  # the engine cancels when it has read it, which may overtake our notice of having sent it
        yield raw_answer


async def _header(raw: AsyncIterator[bytes]) -> agent_pb2.CreateRequestHeader:
    first = await anext(raw, None)
    if first is None:
        raise InvalidRequestError("the stream is empty: send a header with the task template, then the inputs")
    message = decode(agent_pb2.ExecuteTaskSyncRequest, first)
    if message.WhichOneof("part") != "header":
        raise InvalidRequestError("the stream does not begin with a header: send it before the inputs")
    return message.header


async def _inputs(raw: AsyncIterator[bytes], header: agent_pb2.CreateRequestHeader, within: float | None) -> LiteralMap:
    second = await (anext(raw, None) if within is None else _next(raw, within))
    if second is not None:
        message = decode(agent_pb2.ExecuteTaskSyncRequest, second)
        if message.WhichOneof("part") != "inputs":
            raise InvalidRequestError("the second message of the stream is not the inputs")
        return message.inputs
    if declared := sorted(header.template.interface.inputs.variables):
        raise InvalidRequestError(f"the stream ends after the header, but the task takes inputs: {', '.join(declared)}")
    return LiteralMap()


async def _next(raw: AsyncIterator[bytes], within: float) -> bytes | None:
    try:
        async with asyncio.timeout(within):
            return await anext(raw, None)
    except TimeoutError:
        raise DeadlineExceededError(
            f"neither inputs nor the end of the stream came within {within:g} s of the header"
        ) from None


async def _let_it_send(raw: AsyncIterator[bytes]) -> None:
    """Take what a client that will be refused still sends: cut off in the middle of that, it would never learn why."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SENDING_SECONDS):
            for _ in range(_SENDING_MESSAGES):
                if await anext(raw, None) is None:
                    return


def _refuse_async(connector: ConnectorDescription) -> None:
    if not connector.is_sync:
        raise UnsupportedOperationError(
            f"connector {connector.name!r} is an async one: call AsyncAgentService.CreateTask, not ExecuteTaskSync",
            plugin=connector.plugin.name,
        )
