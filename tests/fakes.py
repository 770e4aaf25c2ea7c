"""Small connectors for tests, and the means to hold and watch their code without sleeping."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from connector_core import AsyncConnectorBase, Phase, Resource, ResourceMeta, SyncConnectorBase

PATIENCE = 20.0
"""Seconds after which a test that waits for something gives up; none of them gets near."""


@dataclass
class JobMeta(ResourceMeta):
    """A job's handle with one field that has to be there and one that has a default."""

    job_id: str
    cluster: str = "main"


class Jobs(AsyncConnectorBase[JobMeta]):
    """An async connector of jobs that have succeeded; each method may be replaced by a function given here."""

    def __init__(self, task_type: str = "job", **methods: Any) -> None:
        self.name = f"{task_type} connector"
        self.task_type_name = task_type
        for name, method in methods.items():
            setattr(self, name, method)

    async def create(self, inputs: dict[str, Any]) -> JobMeta:
        return JobMeta(str(inputs.get("id", "1")))

    async def get(self, resource_meta: JobMeta) -> Resource:
        return Resource(Phase.SUCCEEDED, outputs={"id": resource_meta.job_id})

    async def delete(self, resource_meta: JobMeta) -> None:
        return None


class Answers(SyncConnectorBase):
    """A sync connector that answers its inputs as outputs, or what a function given here does."""

    def __init__(self, task_type: str = "answer", **methods: Any) -> None:
        self.name = f"{task_type} connector"
        self.task_type_name = task_type
        for name, method in methods.items():
            setattr(self, name, method)

    async def do(self, inputs: dict[str, Any]) -> Resource:
        return Resource(Phase.SUCCEEDED, outputs=inputs)


class Gate:
    """Holds code in whatever thread or loop until the test opens it, and tells the test who has come."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._arrivals = threading.Semaphore(0)
        self._departures = threading.Semaphore(0)

    def block(self) -> None:
        """Keep the thread that calls this until `open`."""
        self._arrivals.release()
        opened = self._open.wait(PATIENCE)
        self._departures.release()
        assert opened, "the test never opened the gate"

    def open(self) -> None:
        """Let everybody through, now and later."""
        self._open.set()

    async def reached(self, count: int = 1) -> None:
        """Wait until `count` more callers have come to the gate."""
        await _taken(self._arrivals, count)

    async def passed(self, count: int = 1) -> None:
        """Wait until `count` more callers are through."""
        await _taken(self._departures, count)


async def _taken(semaphore: threading.Semaphore, count: int) -> None:
    for _ in range(count):
        assert await asyncio.to_thread(semaphore.acquire, timeout=PATIENCE), "nobody came"


async def happens(event: threading.Event) -> None:
    """Wait for what another thread or a plugin's loop tells."""
    assert await asyncio.to_thread(event.wait, PATIENCE), "it did not happen"


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for what tells nobody when it changes: a counter, or a status in another thread."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - counters have no event to wait for
            await asyncio.sleep(0.002)


class Never:
    """Awaited, it lasts until it is cancelled, and tells when that has happened."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
