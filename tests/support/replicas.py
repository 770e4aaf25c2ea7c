"""A host in this process that is ended, in one way or another, and started again."""

import asyncio
import contextlib
from collections.abc import Mapping
from enum import Enum
from typing import Any

from connector_core.errors import AddressInUseError
from connector_core.testing import BackendConnector, FakeBackend, RunningServer, running_server
from tests.fakes import eventually
from tests.support.memories import Kind

TASK_TYPE = "fake_job"

_GRACE = 10
_POLL_SECONDS = 0.5
_MANY_BINDS = 100


class Ending(Enum):
    """How a host's life ends."""

    GRACEFUL = "calls in flight are answered, then what goes on without a caller ends"
    HURRIED = "calls in flight are cut, but what goes on without a caller ends"
    CRASH = "whatever it has under way never reaches its memory"


class Replica:
    """One host, which may be ended and started again on the same port."""

    def __init__(self, backend: FakeBackend, memory: Kind, settings: Mapping[str, Any] | None = None) -> None:
        self._backend = backend
        self._memory = memory
        self._settings = settings or {}
        self._port = 0
        self._life: contextlib.AsyncExitStack | None = None
        self.host: RunningServer | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start a life, on the port of the one before unless somebody else has taken it."""
        assert self.host is None
        for tried in range(_MANY_BINDS):
            try:
                await self._start(0 if tried == _MANY_BINDS - 1 else self._port)
            except AddressInUseError:
                await asyncio.sleep(0.02)
            else:
                return

    async def end(self, ending: Ending) -> asyncio.Task[None]:
        """Begin to end this life; the task is done when nothing is left of it.

        Unless it is a crash, the backend is healed, so that what is under way can end.
        """
        assert self.host is not None
        host, self.host = self.host, None
        life, self._life = self._life, None
        assert life is not None
        if ending is Ending.CRASH:
            await self._memory.cut_off(host)
        if ending is Ending.GRACEFUL:
            stopping = asyncio.create_task(life.aclose())
        else:
            stopping = asyncio.create_task(_close_at_once(host, life))
            await eventually(lambda: _creates_of(host) == 0)
        if ending is not Ending.CRASH:
            self._backend.heal()
        return stopping

    def creates_in_flight(self) -> float:
        """Return how many CreateTask calls have a client that waits."""
        return _creates_of(self.host) if self.host is not None else 0

    def creates_cut(self) -> float:
        """Return how many CreateTask calls of this life the host has seen cut by their client."""
        if self.host is None:
            return 0
        name = "flyte_connector_requests_failure_total"
        return self.host.metric(name, task_type=TASK_TYPE, operation="create", error_code="CANCELLED")

    async def _start(self, port: int) -> None:
        settings = {
            "port": port,
            "grace": _GRACE,
            "memory": self._memory.settings(),
            "deadlines": {"get": _POLL_SECONDS},
            **self._settings,
        }
        async with contextlib.AsyncExitStack() as life:
            connector = BackendConnector(self._backend, TASK_TYPE)
            self.host = await life.enter_async_context(running_server(connector, settings=settings))
            self._port = self.host.server.port
            self._life = life.pop_all()


async def _close_at_once(host: RunningServer, life: contextlib.AsyncExitStack) -> None:
    await host.server.stop(grace=0)
    await life.aclose()


def _creates_of(host: RunningServer) -> float:
    return host.metric("flyte_connector_requests_in_flight", task_type=TASK_TYPE, operation="create")
