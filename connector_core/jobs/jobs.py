"""What the services ask of jobs, whichever generation of the protocol they speak."""

import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from flyteidl.admin import agent_pb2

from connector_core.errors import IllegalAnswerError, InvalidResourceMetaError, JobNotFoundError
from connector_core.invocation import Invoker
from connector_core.jobs import envelope
from connector_core.jobs.arguments import job_arguments
from connector_core.jobs.creates import Created, CreateOptions, Creates
from connector_core.jobs.envelope import Promise, Signer, Unsigned
from connector_core.jobs.limits import AROUND_BYTES, fit
from connector_core.jobs.memory import Memory
from connector_core.jobs.polls import PollOptions, Polls
from connector_core.registry import RegisteredConnector
from connector_core.settings import Settings
from connector_core.task import Attempt


class Jobs:
    """Creates, polls and deletes jobs, and keeps what the host has to tell of them apart from what connectors tell.

    Args:
        invoker: runs plugin code.
        memory: keeps what is remembered of jobs.
        settings: limits and choices.

    Attributes:
        creates: the creates of all connectors.
    """

    def __init__(self, invoker: Invoker, memory: Memory, settings: Settings) -> None:
        keys = settings.signing.all_keys()
        self._invoker = invoker
        self._memory = memory
        self._max_answer_bytes = settings.max_answer_bytes
        self._signer: Signer | Unsigned = Signer(keys) if keys else Unsigned()
        self.creates = Creates(
            invoker, memory, _create_options(settings), owner=uuid.uuid4().hex, limit_of=invoker.limit
        )
        self._promises = self.creates.promises
        self._polls = Polls(invoker, memory, _poll_options(settings), limit_of=invoker.limit)

    async def create(
        self,
        connector: RegisteredConnector,
        arguments: Mapping[str, Any],
        attempt: Attempt | None,
        timeout: float | None,
    ) -> Created:
        """Start a job, once for each attempt, and return its resource meta.

        Raises:
            ConnectorError: it failed, and trying again may help.
        """
        created = await self.creates.create(connector, arguments, attempt, timeout)
        signed = self._signer.sign(connector.name, created.resource_meta)
        return created if signed is created.resource_meta else Created(signed, created.failure)

    async def get(
        self, connector: RegisteredConnector, resource_meta: bytes, arguments: Mapping[str, Any], timeout: float | None
    ) -> agent_pb2.Resource:
        """Return a job's state.

        Raises:
            ConnectorError: the request is no good, or the connector cannot tell for longer than the error budget.
        """
        own = self._signer.verify(connector.name, resource_meta)
        if (last_word := envelope.unseal(own)) is not None:
            return last_word if not isinstance(last_word, Promise) else await self._promises.kept(connector, last_word)
        _refuse_without_result(connector)
        return await self._polls.get(connector, own, arguments, timeout)

    async def delete(
        self, connector: RegisteredConnector, resource_meta: bytes, arguments: Mapping[str, Any], timeout: float | None
    ) -> None:
        """Cancel a job; one that never ran, or is gone, is no error.

        Raises:
            ConnectorError: it could not be cancelled.
        """
        own = self._signer.verify(connector.name, resource_meta)
        if (last_word := envelope.unseal(own)) is not None:
            if isinstance(last_word, Promise):
                self._promises.cancel(connector, last_word)
            return
        _refuse_without_result(connector)
        offered = {**arguments, **job_arguments(connector, own)}
        try:
            await self._invoker.invoke(connector, "delete", offered, timeout)
        except JobNotFoundError:
            return

    async def get_metrics(
        self, connector: RegisteredConnector, resource_meta: bytes, arguments: Mapping[str, Any], timeout: float | None
    ) -> Any:
        """Return a job's metrics; a job that never ran has none.

        Raises:
            ConnectorError: the connector has no metrics, or failed.
        """
        connector.operation("get_metrics")
        own = self._signer.verify(connector.name, resource_meta)
        if envelope.unseal(own) is not None:
            return []
        offered = {**arguments, **job_arguments(connector, own)}
        results = await self._invoker.invoke(connector, "get_metrics", offered, timeout)
        if (size := sum(result.ByteSize() for result in results)) > self._max_answer_bytes - AROUND_BYTES:
            raise IllegalAnswerError(
                f"get_metrics() returned {size:,} bytes of results, and a client receives {self._max_answer_bytes:,}",
                plugin=connector.plugin.name,
                operation="get_metrics",
            )
        return results

    async def get_logs(
        self, connector: RegisteredConnector, resource_meta: bytes, arguments: Mapping[str, Any], timeout: float | None
    ) -> AsyncIterator[Any]:
        """Yield a job's log pages; a job that never ran has none.

        Raises:
            ConnectorError: the connector has no logs, or failed.
        """
        connector.operation("get_logs")
        own = self._signer.verify(connector.name, resource_meta)
        if envelope.unseal(own) is not None:
            return
        offered = {**arguments, **job_arguments(connector, own)}
        async for page in self._invoker.stream(connector, "get_logs", offered, timeout):
            yield page

    async def do(
        self, connector: RegisteredConnector, arguments: Mapping[str, Any], timeout: float | None
    ) -> agent_pb2.Resource:
        """Run a sync connector and return its result.

        Raises:
            ConnectorError: it failed.
        """
        return fit(await self._invoker.invoke(connector, "do", arguments, timeout), self._max_answer_bytes)

    def limit(self, connector: RegisteredConnector, operation: str) -> float:
        """Return the longest time that an operation may take, in seconds."""
        return self._invoker.limit(connector, operation)

    async def close(self, timeout: float) -> None:
        """Let what goes on without a caller end, for so long, and close the memory."""
        await self.creates.close(timeout)
        await self._polls.close()
        await self._memory.close()


def _refuse_without_result(connector: RegisteredConnector) -> None:
    if connector.is_sync:
        raise InvalidResourceMetaError(
            f"connector {connector.name!r} is a sync one, whose resource meta carries its result; this one carries none"
        )


def _create_options(settings: Settings) -> CreateOptions:
    return CreateOptions(
        remember_seconds=settings.memory.seconds,
        orphan_seconds=settings.orphan_seconds,
        failures_as_status=settings.permanent_create_failures == "status",
        max_result_bytes=settings.max_result_bytes,
        max_answer_bytes=settings.max_answer_bytes,
    )


def _poll_options(settings: Settings) -> PollOptions:
    return PollOptions(
        budget_failures=settings.ride_out.failures,
        budget_seconds=settings.ride_out.seconds,
        remember_seconds=settings.memory.seconds,
        max_answer_bytes=settings.max_answer_bytes,
        batch_window=settings.batch.window,
        batch_size=settings.batch.size,
    )
