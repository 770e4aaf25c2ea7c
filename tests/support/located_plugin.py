"""A plugin whose code does what only a process boundary contains, and one of everything that crosses it."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from flyteidl.admin.agent_pb2 import LogLine
from flyteidl.core.metrics_pb2 import ExecutionMetricResult

from connector_core import (
    AsyncConnectorBase,
    LogPage,
    PermanentError,
    Phase,
    RateLimitedError,
    Resource,
    ResourceMeta,
    SyncConnectorBase,
    get_secret,
    hookimpl,
)


class QuotaError(PermanentError):
    """An author's own error."""


def _exit(_inputs: dict[str, Any]) -> None:
    print("about to leave")
    os._exit(7)


def _leave_a_child(_inputs: dict[str, Any]) -> None:
    """Exit, and leave a child in a session of its own that holds all descriptors."""
    if os.fork() == 0:
        os.setsid()
        signal.pause()
    os._exit(7)


def _write_garbage(_inputs: dict[str, Any]) -> None:
    os.write(int(sys.argv[1]), b"\xff" * 100)
    signal.pause()


def _become_another_program(_inputs: dict[str, Any]) -> None:
    os.execv("/bin/sleep", ["sleep", "1000"])


def _close_descriptors(_inputs: dict[str, Any]) -> None:
    os.closerange(3, 1000)
    signal.pause()


def _take_memory(_inputs: dict[str, Any]) -> None:
    taken = b"x" * 300_000_000
    signal.pause()
    del taken


def _segfault(_inputs: dict[str, Any]) -> None:
    ctypes.string_at(0)


def _kill(_inputs: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hold_the_gil(inputs: dict[str, Any]) -> None:
    ctypes.PyDLL(None).sleep(int(inputs["seconds"]))


def _permanent(_inputs: dict[str, Any]) -> None:
    raise QuotaError("no quota is left", error_code="QUOTA")


def _limited(_inputs: dict[str, Any]) -> None:
    raise RateLimitedError("slower", retry_after=3)


def _broken(_inputs: dict[str, Any]) -> None:
    raise ValueError("it broke")


def _secret(_inputs: dict[str, Any]) -> None:
    raise ValueError(f"cannot log in with {get_secret('password').get_secret_value()}")


_DOES: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "": lambda _inputs: {"pid": os.getpid()},
    "exit": _exit,
    "leave a child": _leave_a_child,
    "take memory": _take_memory,
    "become another program": _become_another_program,
    "close descriptors": _close_descriptors,
    "write garbage": _write_garbage,
    "segfault": _segfault,
    "kill": _kill,
    "hold the GIL": _hold_the_gil,
    "permanent": _permanent,
    "limited": _limited,
    "broken": _broken,
    "secret": _secret,
    "echo": lambda inputs: {"text": inputs["text"]},
    "modules": lambda _inputs: {"modules": sorted(sys.modules)},
    "environment": lambda inputs: {name: os.environ.get(name, "") for name in inputs["names"]},
}


def _do(how: str, inputs: dict[str, Any]) -> dict[str, Any]:
    return _DOES[how](inputs) or {"pid": os.getpid()}


class Sync(SyncConnectorBase):
    """Does what it is asked for, on the plugin's loop."""

    name = task_type_name = "located"

    async def do(self, inputs: dict[str, Any], idempotency_key: str) -> Resource:
        how = inputs.get("how", "")
        if how == "wait":
            await _forever()
        if how == "key":
            return Resource(Phase.SUCCEEDED, outputs={"key": idempotency_key})
        return Resource(Phase.SUCCEEDED, outputs=_do(how, inputs))


class Blocking(SyncConnectorBase):
    """Does what it is asked for, in a thread."""

    name = task_type_name = "located_blocking"

    def do(self, inputs: dict[str, Any]) -> Resource:
        return Resource(Phase.SUCCEEDED, outputs=_do(inputs.get("how", ""), inputs))


async def _forever() -> None:
    print("it waits")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("it was cancelled")
        raise


@dataclass
class Meta(ResourceMeta):
    """A job."""

    job: str
    connection: str = ""


class Job(AsyncConnectorBase[Meta]):
    """Has every operation, and tells how often it was started in this process."""

    name = task_type_name = "located_job"

    def __init__(self) -> None:
        self.starts = 0
        self.deleted: set[str] = set()

    async def start(self) -> None:
        self.starts += 1

    async def close(self) -> None:
        print(f"closed after {self.starts} start")

    async def create(self, inputs: dict[str, Any], output_prefix: str) -> Meta:
        if inputs.get("how"):
            _do(inputs["how"], inputs)
        return Meta(f"{output_prefix}|{inputs.get('name', '')}|{self.starts}")

    async def get_many(self, resource_metas: list[Meta]) -> list[Resource]:
        return [
            Resource(Phase.ABORTED if meta.job in self.deleted else Phase.SUCCEEDED, outputs={"job": meta.job})
            for meta in resource_metas
        ]

    async def get(self, resource_meta: Meta) -> Resource:
        raise AssertionError("get_many answers for it")

    async def delete(self, resource_meta: Meta) -> None:
        self.deleted.add(resource_meta.job)

    async def get_metrics(self, resource_meta: Meta, queries: list[str]) -> list[ExecutionMetricResult]:
        return [ExecutionMetricResult(metric=f"{query} of {resource_meta.job}") for query in queries]

    async def get_logs(self, resource_meta: Meta, token: str) -> AsyncIterator[Any]:
        yield f"first of {resource_meta.job}"
        yield LogPage(["second", LogLine(message="structured")], token="more" + token)
        if token == "endless":
            while True:
                yield "again"
        if token == "die":
            os._exit(9)


@hookimpl
def register_connectors(config: dict[str, Any]) -> list[Any]:
    if config.get("fails"):
        raise RuntimeError("it cannot be loaded")
    if config.get("dies"):
        os._exit(3)
    if config.get("hangs"):
        os.kill(os.getpid(), signal.SIGSTOP)
    return [Sync(), Blocking(), Job()]
