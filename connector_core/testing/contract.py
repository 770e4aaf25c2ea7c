"""The suite that every connector passes: subclass it in a plugin's tests."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from flyteidl.admin import agent_pb2
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core.connector import AsyncConnectorBase, ConnectorBase
from connector_core.description import ConnectorDescription
from connector_core.inspection import inspect_connector
from connector_core.resource import Phase
from connector_core.resource_meta import ResourceMeta
from connector_core.testing.harness import RunningServer, running_server

_CLEAR_REFUSALS = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE})

Check = Callable[[RunningServer], Awaitable[None]]


class ConnectorContract:
    """The contract between connectors, the host and the engine, checked over real gRPC.

    A subclass whose name begins with `Test` says how to make the connector and a small task for it:

        class TestSleep(ConnectorContract):
            inputs = {"seconds": 0.01}

            def make_connector(self):
                return SleepConnector()

            def unknown_job(self):
                return SleepMeta(ends_at=0, seconds=0)

    Attributes:
        inputs: the inputs of the small task, by name.
        patience: seconds in which its job has to come to an end.
        longest_block: seconds that an `async def` method may keep the loop to itself.
    """

    inputs: Mapping[str, Any] = {}
    patience: float = 30
    longest_block: float = 1.0

    def make_connector(self) -> ConnectorBase:
        """Return a new connector."""
        raise NotImplementedError("override make_connector()")

    def make_template(self) -> TaskTemplate:
        """Return the small task; override it for `custom`, `sql` or `container`."""
        category = inspect_connector(self.make_connector()).description.categories[0]
        return TaskTemplate(type=category.name, task_type_version=category.version)

    def unknown_job(self) -> ResourceMeta | None:
        """Return the resource meta of a job that does not exist; `None` for a connector without jobs."""
        if isinstance(self.make_connector(), AsyncConnectorBase):
            raise NotImplementedError("override unknown_job()")
        return None

    def test_it_can_be_registered_with_every_method_asking_for_what_exists(self) -> None:
        """Name, task types, resource meta and the methods' arguments are what the host can serve."""
        entry = self._entry()
        assert entry.categories

    def test_it_is_listed_with_its_task_types(self) -> None:
        """ListAgents fills both fields that engines read."""

        async def check(host: RunningServer) -> None:
            (agent,) = await host.list_connectors()
            assert agent.supported_task_types
            assert agent.supported_task_categories

        self._run(check)

    def test_its_task_runs_to_a_good_end(self) -> None:
        """The small task succeeds, in legal phases only."""

        async def check(host: RunningServer) -> None:
            resource = await self._finished(host, await self._create(host))
            assert Phase(resource.phase) is Phase.SUCCEEDED, resource.message

        self._run(check)

    def test_its_resource_meta_survives_the_wire(self) -> None:
        """Decoding what was encoded gives the same handle, and a field that a newer writer added is ignored."""
        unknown = self.unknown_job()
        if unknown is None:
            return
        assert type(unknown).decode(unknown.encode()) == unknown
        encoded = unknown.encode()
        if encoded.startswith(b"{") and encoded.endswith(b"}"):
            newer = b'{"a_field_of_tomorrow": 1' + (b", " if len(encoded) > 2 else b"") + encoded[1:]
            assert type(unknown).decode(newer) == unknown

    def test_a_damaged_resource_meta_is_refused(self) -> None:
        """Bytes that are not a handle are refused by GetTask and given up by DeleteTask, which engines repeat for ever."""

        async def check(host: RunningServer) -> None:
            assert await _code(self._get(host, b"\xff\x00")) is grpc.StatusCode.INVALID_ARGUMENT
            assert await _code(host.delete(self._task_type(), b"\xff\x00")) is None

        self._run(check)

    def test_get_of_an_unknown_job_is_answered_clearly(self) -> None:
        """A job that is not there is a state or a clear status, never an internal error."""
        unknown = self.unknown_job()
        if unknown is None:
            return
        encoded = unknown.encode()

        async def check(host: RunningServer) -> None:
            code = await _code(self._get(host, encoded))
            assert code is None or code in _CLEAR_REFUSALS

        self._run(check)

    def test_delete_may_come_twice_and_for_a_job_that_is_gone(self) -> None:
        """The engine may repeat DeleteTask, so it has to be idempotent."""
        unknown = self.unknown_job()

        async def check(host: RunningServer) -> None:
            resource_meta = await self._create(host)
            await host.delete(self._task_type(), resource_meta)
            await host.delete(self._task_type(), resource_meta)
            if unknown is not None:
                code = await _code(host.delete(self._task_type(), unknown.encode()))
                assert code in {None, grpc.StatusCode.UNAVAILABLE}

        self._run(check)

    def test_its_async_methods_do_not_block(self) -> None:
        """Blocking code belongs into plain `def` methods, which get a thread; in an `async def` it stalls the plugin."""

        async def check(host: RunningServer) -> None:
            resource_meta = await self._create(host)
            await self._get(host, resource_meta)
            await host.delete(self._task_type(), resource_meta)

        watcher = _SlowCallbacks()
        logging.getLogger("asyncio").addHandler(watcher)
        try:
            self._run(check)
        finally:
            logging.getLogger("asyncio").removeHandler(watcher)
        assert not watcher.seen, f"the loop was blocked: {watcher.seen}"

    def _run(self, check: Check) -> None:
        async def run() -> None:
            async with running_server(self.make_connector(), new_plugin_loop=self._new_loop) as host:
                await asyncio.wait_for(check(host), self.patience * 2)

        asyncio.run(run())

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        """Make a loop that reports callbacks which block it."""
        loop = asyncio.new_event_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = self.longest_block
        return loop

    def _entry(self) -> ConnectorDescription:
        return inspect_connector(self.make_connector()).description

    def _task_type(self) -> str:
        return str(self._entry().categories[0])

    async def _create(self, host: RunningServer) -> bytes:
        return await host.create(self.make_template(), self.inputs)

    async def _get(self, host: RunningServer, resource_meta: bytes) -> agent_pb2.Resource:
        return await host.get(self._task_type(), resource_meta)

    async def _finished(self, host: RunningServer, resource_meta: bytes) -> agent_pb2.Resource:
        async with asyncio.timeout(self.patience):
            while True:  # the engine polls, and so does this
                resource = await self._get(host, resource_meta)
                if Phase(resource.phase).is_terminal:
                    return resource
                await asyncio.sleep(0.05)


async def _code(call: Awaitable[Any]) -> grpc.StatusCode | None:
    """Return the status with which a call fails, `None` if it does not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


class _SlowCallbacks(logging.Handler):
    """Keeps what asyncio's debug mode says of callbacks that took long."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        message = record.getMessage()
        if message.startswith("Executing"):
            self.seen.append(message)
