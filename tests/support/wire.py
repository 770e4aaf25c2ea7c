"""The services of a host without gRPC around them: raw requests in, and what may come out of them."""

import asyncio
import gc
import itertools
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import psutil
from flyteidl.admin import agent_pb2
from flyteidl.service import agent_pb2 as service_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from connector_core import Phase
from connector_core.connector import ConnectorBase
from connector_core.description import PluginIdentity
from connector_core.invocation import Invoker, LocalPlaces, LocalRuntime
from connector_core.jobs import Jobs, open_memory
from connector_core.limits import limits_of
from connector_core.metrics import Metrics
from connector_core.observing.recorder import Recorder
from connector_core.registry import ConnectorRegistry
from connector_core.services import AsyncConnectorService, ConnectorMetadataService, SyncConnectorService
from connector_core.settings import Settings
from connector_core.tables import read

METHODS = {
    method.name: method for service in service_pb2.DESCRIPTOR.services_by_name.values() for method in service.methods
}
CLIENT_LIMIT = 4 * 1024 * 1024
"""Bytes that the engine receives in one message."""

_AT_ONCE = 50
_LOOKS = 100
_SECONDS_BETWEEN_LOOKS = 0.1
_PHASES = {phase.value for phase in Phase}
_DETAILS_LIMIT = 4096
_METADATA_LIMIT = 8192

_SENSIBLE = frozenset({StatusCode.OK, StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.UNIMPLEMENTED})
SENSIBLE = dict.fromkeys(METHODS, _SENSIBLE) | {"ListAgents": {StatusCode.OK, StatusCode.INVALID_ARGUMENT}}
"""With what a request may be answered, whatever is wrong with it, by connectors that do nothing wrong.

`PERMISSION_DENIED` comes to it on a host that signs, `DEADLINE_EXCEEDED` for a client that has no time.
"""
_SIGNED_METHODS = {"GetTask", "DeleteTask", "GetTaskMetrics", "GetTaskLogs"}


@dataclass(frozen=True)
class Sent:
    """A request as it comes from the wire: one message, or the messages of a stream, and the client's deadline."""

    method: str
    messages: tuple[bytes, ...]
    timeout: float | None = None

    def __str__(self) -> str:
        shown = ", ".join(
            repr(raw[:2000]) + (f"... ({len(raw)} bytes)" if len(raw) > 2000 else "") for raw in self.messages
        )
        return f"{self.method}({shown}), timeout {self.timeout}"


@dataclass
class Reply:
    """What a client would receive."""

    code: StatusCode = StatusCode.OK
    details: str = ""
    metadata: tuple[tuple[str, Any], ...] = ()
    messages: list[bytes] = field(default_factory=list)
    unexpected: BaseException | None = None


class Aborted(Exception):  # noqa: N818 - grpc.aio's own is called AbortError, and this stands for it
    """The call has ended with a status."""


class FakeContext:
    """What the servicers use of gRPC's context; like it, `abort` ends the call by an exception."""

    def __init__(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._end = None if timeout is None else loop.time() + timeout
        self._loop = loop
        self.reply: Reply | None = None

    def time_remaining(self) -> float | None:
        """Return the seconds until the client's deadline, `None` where it set none."""
        return None if self._end is None else max(0.0, self._end - self._loop.time())

    def set_trailing_metadata(self, metadata: tuple[Any, ...]) -> None:
        """Take what goes along with the answer."""

    async def abort(self, code: StatusCode, details: str = "", trailing_metadata: tuple[Any, ...] = ()) -> NoReturn:
        """End the call."""
        assert self.reply is None, "a call was aborted twice"
        self.reply = Reply(code, details, trailing_metadata)
        raise Aborted


class WireHost:
    """Takes raw requests as gRPC would pass them on, in this process and without a connection."""

    def __init__(self, *connectors: ConnectorBase, **settings: Any) -> None:
        chosen = read(Settings, settings)
        self.is_signing = bool(chosen.signing.all_keys())
        self.registry = ConnectorRegistry()
        for connector in connectors:
            self.registry.register(connector, plugin=PluginIdentity(f"test-{connector.name}"))
        self.metrics = Metrics()
        places = LocalPlaces(self.registry.inspected, LocalRuntime(self.metrics, batch=chosen.batch))
        self.invoker = Invoker(places, partial(limits_of, chosen))
        self._jobs = Jobs(self.invoker, open_memory(chosen.memory), chosen)
        recorder = Recorder(self.metrics)
        self._services = {
            "AsyncAgentService": AsyncConnectorService(self.registry, self._jobs, recorder),
            "SyncAgentService": SyncConnectorService(self.registry, self._jobs, recorder),
            "AgentMetadataService": ConnectorMetadataService(self.registry, recorder),
        }

    async def call(self, sent: Sent) -> Reply:
        """Return what a client would receive."""
        method = METHODS[sent.method]
        servicer: Any = self._services[method.containing_service.name]
        handler = getattr(servicer, sent.method)
        context = FakeContext(sent.timeout)
        request = _stream(sent.messages) if method.client_streaming else sent.messages[0]
        messages: list[bytes] = []
        try:
            if method.server_streaming:
                messages += [message async for message in handler(request, context)]
            else:
                messages.append(await handler(request, context))
        except Aborted:
            assert context.reply is not None
            context.reply.messages = messages
            return context.reply
        except Exception as error:  # noqa: BLE001 - grpc.aio would answer UNKNOWN, and show it to the client
            return Reply(StatusCode.UNKNOWN, messages=messages, unexpected=error)
        return Reply(messages=messages)

    async def close(self) -> None:
        """End what runs on."""
        await self._jobs.close(5)
        await self.invoker.close(5)

    def in_flight(self) -> float:
        """Return how many requests are counted as being worked on."""
        families = self.metrics.registry.collect()
        flights = (family for family in families if family.name == "flyte_connector_requests_in_flight")
        return sum(sample.value for family in flights for sample in family.samples)


async def drive(host: WireHost, requests: Iterable[Sent]) -> Counter[str]:
    """Make calls, many at a time, and return how many were answered with which status, by method.

    Raises:
        AssertionError: one was not answered as it should be; the message has the request.
    """
    answered: Counter[str] = Counter()
    for some in _batches(requests):
        replies = await asyncio.gather(*(host.call(sent) for sent in some))
        for sent, reply in zip(some, replies, strict=True):
            found = problem(sent, reply, is_signing=host.is_signing)
            assert found is None, f"{sent}: {found}"
            answered[f"{sent.method} {reply.code.name}"] += 1
    return answered


def _batches(requests: Iterable[Sent]) -> Iterator[list[Sent]]:
    source = iter(requests)
    while some := list(itertools.islice(source, _AT_ONCE)):
        yield some


async def _stream(messages: Sequence[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


def problem(sent: Sent, reply: Reply, *, is_signing: bool) -> str | None:
    """Say what is wrong with a reply, `None` if nothing is."""
    if reply.unexpected is not None:
        return f"{type(reply.unexpected).__name__} came out of the servicer: {reply.unexpected}"
    sensible = SENSIBLE[sent.method]
    if is_signing and sent.method in _SIGNED_METHODS:
        sensible = {*sensible, StatusCode.PERMISSION_DENIED}
    if sent.timeout is not None:
        sensible = {*sensible, StatusCode.DEADLINE_EXCEEDED}
    if reply.code not in sensible:
        return f"it was answered {reply.code.name}: {reply.details[:500]}"
    if reply.code is not StatusCode.OK:
        return _problem_of_status(reply)
    return next(filter(None, (_problem_of_answer(sent.method, raw) for raw in reply.messages)), None)


def _problem_of_status(reply: Reply) -> str | None:
    on_the_wire = sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in reply.details.encode())
    if not reply.details or on_the_wire > _DETAILS_LIMIT:
        return f"its details take {on_the_wire} bytes on the wire"
    if "Traceback" in reply.details or 'File "' in reply.details:
        return f"its details have a traceback: {reply.details}"
    if sum(len(key) + len(value) for key, value in reply.metadata) > _METADATA_LIMIT:
        return "its metadata is larger than clients take"
    if any(Status.FromString(value).code != reply.code.value[0] for _key, value in reply.metadata):
        return "its rich status has another code"
    return None


def _problem_of_answer(method: str, raw: bytes) -> str | None:
    if len(raw) > CLIENT_LIMIT:
        return f"an answer has {len(raw):,} bytes"
    answer: Message = GetMessageClass(METHODS[method].output_type).FromString(raw)
    if isinstance(answer, agent_pb2.GetTaskResponse):
        return _problem_of_phase(answer.resource)
    if isinstance(answer, agent_pb2.ExecuteTaskSyncResponse):
        return _problem_of_phase(answer.header.resource)
    if isinstance(answer, agent_pb2.CreateTaskResponse) and not answer.resource_meta:
        return "a create was answered without a resource meta"
    return None


def _problem_of_phase(resource: agent_pb2.Resource) -> str | None:
    return None if resource.phase in _PHASES else f"an answer has the phase {resource.phase}"


@dataclass(frozen=True)
class Holdings:
    """What this process holds: tasks that have not ended, threads, file descriptors."""

    tasks: int
    threads: int
    descriptors: int

    @classmethod
    def count(cls) -> "Holdings":
        """Count them now, over all loops and threads."""
        gc.collect()
        return cls(len(_tasks()), len(_threads()), psutil.Process().num_fds())

    async def come_back(self) -> None:
        """Wait until no more is held than this again; what has been told to end may need its time.

        Raises:
            AssertionError: it is not; the message says what there is.
        """
        now = self.count()
        for _ in range(_LOOKS):
            now = self.count()
            if now.tasks <= self.tasks and now.threads <= self.threads and now.descriptors <= self.descriptors:
                return
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        raise AssertionError(f"{self} were held before, and now {now}: threads {_threads()}, tasks {_tasks()}")


def _threads() -> list[str]:
    """Return the names of all threads but those of asyncio's executors, which keep a few as they come to need them."""
    return sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_"))


def _tasks() -> list[asyncio.Task[Any]]:
    """Return the tasks of all loops that have not ended."""
    return [one for one in gc.get_objects() if isinstance(one, asyncio.Task) and not one.done()]


class _Alarms(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(
            "delete given up"
        ):  # what cannot be read describes no job, and is told as an error
            return
        if record.levelno >= logging.ERROR or record.exc_info:
            self.seen.append(self.format(record))


@contextmanager
def no_alarms() -> Iterator[None]:
    """Make sure that the host logs no failure in the block that it did not expect: its own, or any with a traceback.

    Raises:
        AssertionError: it did.
    """
    alarms = _Alarms()
    logger = logging.getLogger("connector_core")
    logger.addHandler(alarms)
    try:
        yield
    finally:
        logger.removeHandler(alarms)
    assert not alarms.seen, f"the host logged {len(alarms.seen)} failures that it did not expect: {alarms.seen[0]}"
