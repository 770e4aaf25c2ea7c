"""A warehouse whose jobs tests count, and CreateTask called as engines call it."""

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, TaskExecutionIdentifier, WorkflowExecutionIdentifier

from connector_core.errors import BackendUnavailableError
from connector_core.invocation.offers import TaskOffer
from connector_core.jobs.creates import Created, Creates
from connector_core.jobs.memory import Memory
from connector_core.jobs.memory_process import ProcessMemory
from connector_core.settings import Settings
from connector_core.tables import read
from connector_core.task import Attempt
from connector_core.testing import RunningServer
from tests.fakes import PATIENCE, Gate, JobMeta, Jobs, eventually
from tests.support.places import described, local_invoker
from tests.support.redis_server import running_redis

AWAY = BackendUnavailableError("the warehouse is away")
PREFIX = "s3://bucket/f00/n0/data"


class Warehouse:
    """A backend that starts a job at every call, and the methods of a connector for it.

    Attributes:
        before: called before a job is started, by the output prefix of the create.
        calls: the output prefixes of all creates.
        started: the jobs that were started, in order.
        deleted: the jobs that were deleted, in order.
        trouble: raised by the next calls, by operation.
    """

    def __init__(self, *, before: Mapping[str, Callable[[], None]] | None = None) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self.before = before or {}
        self.calls: list[str] = []
        self.started: list[str] = []
        self.deleted: list[str] = []
        self.trouble: dict[str, list[BaseException]] = {}

    def create(self, output_prefix: str) -> JobMeta:
        """Start a job; what a test gave for this attempt happens before that."""
        with self._lock:
            job_id = f"job-{next(self._numbers)}"
            self.calls.append(output_prefix)
        self.before.get(output_prefix, lambda: None)()
        self._fail("create")
        with self._lock:
            self.started.append(job_id)
        return JobMeta(job_id)

    def delete(self, resource_meta: JobMeta) -> None:
        self._fail("delete")
        with self._lock:
            self.deleted.append(resource_meta.job_id)

    def _fail(self, operation: str) -> None:
        if trouble := self.trouble.get(operation):
            raise trouble.pop(0)

    def connector(self, task_type: str = "job", **methods: Any) -> Jobs:
        return Jobs(task_type, **{"create": self.create, "delete": self.delete, **methods})


class Held(Warehouse):
    """A backend whose creates for these output prefixes wait at a gate."""

    def __init__(self, *prefixes: str) -> None:
        self.gate = Gate()
        super().__init__(before=dict.fromkeys(prefixes or [f"{PREFIX}/0"], self.gate.block))


def execution(attempt: int = 0, node: str = "n0") -> agent_pb2.TaskExecutionMetadata:
    workflow = WorkflowExecutionIdentifier(project="sales", domain="prod", name="f00")
    node_id = NodeExecutionIdentifier(node_id=node, execution_id=workflow)
    return agent_pb2.TaskExecutionMetadata(
        task_execution_id=TaskExecutionIdentifier(node_execution_id=node_id, retry_attempt=attempt)
    )


def create(
    server: RunningServer,
    attempt: int = 0,
    *,
    path: str = PREFIX,
    prefix: str | None = None,
    node: str = "n0",
    task_type: str = "job",
    timeout: float | None = None,
) -> "asyncio.Task[bytes]":
    """Call CreateTask as the engine does for an attempt."""
    call = server.create(
        task_type,
        output_prefix=f"{path}/{attempt}" if prefix is None else prefix,
        task_execution_metadata=execution(attempt, node),
        timeout=timeout,
    )
    return asyncio.create_task(call)


async def status(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def waiting(server: RunningServer, count: int, operation: str = "create", task_type: str = "job") -> None:
    """Wait until so many calls are being worked on."""
    labels = {"task_type": task_type, "operation": operation}
    await eventually(lambda: server.metric("flyte_connector_requests_in_flight", **labels) == count)


async def lose(server: RunningServer, held: Held, attempt: int = 0) -> None:
    """Make a create whose caller goes before it is over."""
    call = create(server, attempt)
    await held.gate.reached()
    call.cancel()
    await waiting(server, 0)


def meta(job_id: str) -> bytes:
    return JobMeta(job_id).encode()


@contextmanager
def memories(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Give the settings of a memory."""
    if kind == "redis":
        with running_redis() as redis:
            yield {"memory": {"kind": "redis", "url": redis.url}}
        return
    yield {"memory": {"kind": kind, "path": folder / "memory.sqlite"}}


class Direct:
    """Creates without a server around them, of which several may share a memory."""

    def __init__(
        self, connector: Jobs, memory: Memory, *, create_seconds: float = 60, owner: str = "a", **options: Any
    ) -> None:
        self.invoker = local_invoker()
        chosen = read(Settings, {"promise_creates": "never", **options})
        self.creates = Creates(
            self.invoker, memory, chosen, owner=owner, limit_of=lambda _connector, _name: create_seconds
        )
        self.connector = described(connector)

    async def create(self, attempt: int = 0, timeout: float | None = PATIENCE, path: str = PREFIX) -> Created:
        execution_id = execution(attempt).task_execution_id
        prefix = f"{path}/{attempt}"
        request = agent_pb2.CreateTaskRequest(output_prefix=prefix)
        offer = TaskOffer(request, request.inputs, attempt=Attempt.of(execution_id, prefix))
        return await self.creates.create(self.connector, offer, timeout)

    async def ended(self) -> None:
        """Wait until no create is in flight."""
        while creates := self.creates.in_flight:
            await asyncio.wait(creates)

    async def close(self, timeout: float = 5) -> None:
        await self.creates.close(timeout)
        await self.invoker.close(5)


class Shared(ProcessMemory):
    """A memory that several hosts share, and that can be made to lose what it has.

    Attributes:
        keys: what was added.
        read: what was looked up, in order.
    """

    is_shared = True

    def __init__(self) -> None:
        super().__init__(1_000_000)
        self.keys: set[str] = set()
        self.read: list[str] = []

    async def get(self, key: str) -> bytes | None:
        self.read.append(key)
        return await super().get(key)

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        self.keys.add(key)
        return await super().add(key, value, seconds)

    async def lose(self) -> None:
        for key in self.keys:
            await self.remove(key)
