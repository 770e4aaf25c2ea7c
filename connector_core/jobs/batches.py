"""GetTask calls of one connector that come at about the same time, asked as one `get_many`."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flyteidl.admin import agent_pb2

from connector_core.connection import Connection
from connector_core.errors import ConnectorError, DeadlineExceededError, IllegalAnswerError, TransientError
from connector_core.invocation import Invoker
from connector_core.invocation.faults import Scrub, translate
from connector_core.observing.call_records import REQUEST
from connector_core.operations import Deferred
from connector_core.registry import RegisteredConnector

_log = logging.getLogger(__name__)

_Answer = agent_pb2.Resource | ConnectorError


@dataclass(slots=True)
class _Batch:
    """The jobs that are asked for together, each with those who wait for it and what the first of them brought."""

    waiting: dict[bytes, asyncio.Future[agent_pb2.Resource]] = field(default_factory=dict)
    connections: list[Connection] = field(default_factory=list)
    end: float = 0.0


class Batches:
    """Collects calls for `window` seconds, or until there are `size` of them, for each connector."""

    def __init__(self, invoker: Invoker, window: float, size: int) -> None:
        self._invoker = invoker
        self._window = window
        self._size = size
        self._open: dict[RegisteredConnector, _Batch] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def get(
        self, connector: RegisteredConnector, resource_meta: bytes, connection: Connection, timeout: float
    ) -> agent_pb2.Resource:
        """Return a job's state, asked for in the next batch.

        Raises:
            ConnectorError: this job's own error, or the whole batch's.
        """
        loop = asyncio.get_running_loop()
        batch = self._open.get(connector)
        if batch is None:
            batch = self._open[connector] = _Batch()
            loop.call_later(self._window, self._send, connector, batch)
        future = batch.waiting.get(resource_meta)
        if future is None:
            future = batch.waiting[resource_meta] = loop.create_future()
            batch.connections.append(connection)
        batch.end = max(batch.end, time.monotonic() + timeout)
        if len(batch.waiting) >= self._size:
            self._send(connector, batch)
        await asyncio.wait([future], timeout=timeout)  # the batch lasts as long as its most patient caller
        if not future.done():
            raise DeadlineExceededError(
                "it was not over at the caller's deadline", plugin=connector.plugin.name, operation="get_many"
            )
        return future.result()

    async def close(self) -> None:
        """Give up what is being asked for; those who wait are told."""
        for batch in self._open.values():
            _settle_all(batch, TransientError("the host is stopping"))
        self._open.clear()
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def _send(self, connector: RegisteredConnector, batch: _Batch) -> None:
        if self._open.get(connector) is not batch:
            return  # it was full, and has been sent
        del self._open[connector]
        task = asyncio.create_task(self._ask(connector, batch))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, connector: RegisteredConnector, batch: _Batch) -> None:
        REQUEST.set(None)  # it is the first caller's, and this is about all of them
        decoder = _Decoder(connector, list(batch.waiting), batch.connections, self._invoker.scrub)
        arguments = {"resource_metas": Deferred(decoder.resource_metas), "connections": Deferred(decoder.connections)}
        timeout = max(0.001, batch.end - time.monotonic())
        try:
            answers = decoder.merge(await self._invoker.invoke(connector, "get_many", arguments, timeout))
        except ConnectorError as error:
            answers = decoder.fail(error)
        except asyncio.CancelledError:
            _settle_all(batch, TransientError("the host is stopping"))
            raise
        except Exception:  # noqa: BLE001 - the host's own; nobody may wait for ever
            _log.exception("the host failed to ask connector %s for many jobs", connector.name)
            _settle_all(batch, TransientError("the host failed; its log says more"))
            return
        for future, answer in zip(batch.waiting.values(), answers, strict=True):
            _settle(future, answer)


class _Decoder:
    """Decodes the resource metas where plugin code runs; one that cannot be decoded fails alone."""

    def __init__(
        self, connector: RegisteredConnector, metas: list[bytes], connections: list[Connection], scrub: Scrub
    ) -> None:
        self._connector = connector
        self._scrub = scrub
        self._metas = metas
        self._connections = connections
        self._failed: dict[int, ConnectorError] = {}

    def resource_metas(self) -> list[Any]:
        """Return those that can be decoded."""
        return self._decoded

    def connections(self) -> list[Connection]:
        """Return what was brought for each of these."""
        self.resource_metas()  # which finds out what cannot be decoded
        return [one for position, one in enumerate(self._connections) if position not in self._failed]

    @cached_property
    def _decoded(self) -> list[Any]:
        decoded = []
        assert self._connector.metadata_type is not None  # noqa: S101 - only async connectors have get_many
        for position, meta in enumerate(self._metas):
            try:
                decoded.append(self._connector.metadata_type.decode(meta))
            except Exception as error:  # noqa: BLE001 - a decode of the plugin's own may raise anything
                self._failed[position] = self._translated(error)
        return decoded

    def merge(self, answers: list[_Answer]) -> list[_Answer]:
        """Put the answers for what could be decoded beside the errors of what could not."""
        expected = len(self._metas) - len(self._failed)
        if len(answers) != expected:
            raise IllegalAnswerError(
                f"get_many() was asked for {expected} jobs and answered {len(answers)}",
                plugin=self._connector.plugin.name,
                operation="get_many",
            )
        rest = map(self._named, answers)
        return [self._failed.get(position) or next(rest) for position in range(len(self._metas))]

    def fail(self, error: ConnectorError) -> list[_Answer]:
        """Give the batch's error to all that have none of their own."""
        return [self._failed.get(position, error) for position in range(len(self._metas))]

    def _named(self, answer: _Answer) -> _Answer:
        if isinstance(answer, ConnectorError):
            return self._translated(answer)
        return answer

    def _translated(self, error: Exception) -> ConnectorError:
        return translate(error, self._connector, self._connector.operation("get_many"), self._scrub)


def _settle_all(batch: _Batch, answer: _Answer) -> None:
    for future in batch.waiting.values():
        _settle(future, answer)


def _settle(future: asyncio.Future[agent_pb2.Resource], answer: _Answer) -> None:
    if future.done():
        return
    if isinstance(answer, ConnectorError):
        future.set_exception(answer)
        future.exception()  # it may be that nobody waits any more
    else:
        future.set_result(answer)
