"""The jobs of a host, as the services of both generations of the protocol call them."""

import uuid
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from flyteidl.admin import agent_pb2

from connector_core.description import ConnectorDescription
from connector_core.errors import (
    BackendUnavailableError,
    IllegalAnswerError,
    InvalidResourceMetaError,
    JobNotFoundError,
    MemoryUnavailableError,
    PermanentError,
)
from connector_core.invocation import Invoker
from connector_core.invocation.offers import JobOffer, TaskOffer
from connector_core.jobs import envelope
from connector_core.jobs.creates import Created, Creates
from connector_core.jobs.deletes import Deletes
from connector_core.jobs.envelope import JobPromise, Promise, Signer, Unsigned
from connector_core.jobs.memory import Memory
from connector_core.jobs.polls import Polls
from connector_core.jobs.promised import JobMeta
from connector_core.jobs.sizes import AROUND_BYTES, failed, fit
from connector_core.jobs.steady_clock import SteadyClock
from connector_core.settings import Settings


class Answered(NamedTuple):
    """The answer of ExecuteTaskSync, and the failure that it stands for, if it does."""

    resource: agent_pb2.Resource
    failure: PermanentError | None = None


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
        self._permanent_as_status = settings.permanent_create_failures == "status"
        self._signer: Signer | Unsigned = Signer(keys) if keys else Unsigned()
        clock = SteadyClock()
        self._polls = Polls(invoker, memory, settings, limit_of=invoker.limit, clock=clock)
        self.creates = Creates(
            invoker,
            memory,
            settings,
            owner=uuid.uuid4().hex,
            limit_of=invoker.limit,
            note_job=self._polls.created,
            clock=clock,
        )
        self._promises = self.creates.promises
        self.deletes = Deletes(memory, settings.delete_patience, clock)

    async def create(
        self,
        connector: ConnectorDescription,
        offer: TaskOffer,
        timeout: float | None,
    ) -> Created:
        """Start a job, once for each attempt, and return its resource meta.

        Raises:
            ConnectorError: it failed, and trying again may help.
        """
        created = await self.creates.create(connector, offer, timeout)
        signed = self._signer.sign(connector.name, created.resource_meta)
        return created if signed is created.resource_meta else Created(signed, created.failure)

    async def get(self, connector: ConnectorDescription, offer: JobOffer, timeout: float | None) -> agent_pb2.Resource:
        """Return a job's state.

        Raises:
            ConnectorError: the request is invalid, or `get` has failed for longer than the error budget.
        """
        meta = self._signer.verify(connector.name, offer.resource_meta)
        if meta is not offer.resource_meta:
            offer = offer.of(meta)
        if envelope.is_own(meta):
            return await self._get_own(connector, offer, timeout)
        _refuse_without_result(connector)
        return await self._polls.get(connector, offer, timeout)

    async def _get_own(
        self, connector: ConnectorDescription, offer: JobOffer, timeout: float | None
    ) -> agent_pb2.Resource:
        """Return the state of a job whose resource meta is the host's own."""
        held = envelope.unseal(offer.resource_meta)
        if isinstance(held, Promise):
            return await self._promises.kept(connector, held)
        if isinstance(held, JobPromise):
            return await self._get_promised(connector, held, offer, timeout)
        assert held is not None  # noqa: S101 - what begins with the mark is held, or refused
        return held

    async def _get_promised(
        self, connector: ConnectorDescription, promise: JobPromise, offer: JobOffer, timeout: float | None
    ) -> agent_pb2.Resource:
        try:
            found = await self.creates.job_promises.resolve(connector, promise)
        except (BackendUnavailableError, MemoryUnavailableError) as error:
            return await self._polls.ride_out(connector, offer, error)
        if isinstance(found, agent_pb2.Resource):
            return found
        return await self._polls.get(connector, offer.of(found.resource_meta), timeout)

    async def delete(self, connector: ConnectorDescription, offer: JobOffer, timeout: float | None) -> None:
        """Cancel a job; one that never ran, or is gone, is not an error.

        Raises:
            ConnectorError: it could not be cancelled.
        """
        own = offer.of(self._signer.verify(connector.name, offer.resource_meta))
        held = envelope.unseal(own.resource_meta)
        if isinstance(held, Promise):
            self._promises.cancel(connector, held)
        elif isinstance(held, JobPromise):
            if (found := await self.creates.job_promises.delete(connector, held)) is not None:
                await self._delete(connector, own.of(found.resource_meta), timeout)
        elif held is None:
            _refuse_without_result(connector)
            await self._delete(connector, own, timeout)

    async def _delete(self, connector: ConnectorDescription, offer: JobOffer, timeout: float | None) -> None:
        try:
            await self._invoker.invoke(connector, "delete", offer, timeout)
        except JobNotFoundError:
            return

    async def _own(self, connector: ConnectorDescription, offer: JobOffer) -> JobOffer | None:
        """Return the offer with the connector's own resource meta; `None` for a job that never ran, or does not yet."""
        own = offer.of(self._signer.verify(connector.name, offer.resource_meta))
        held = envelope.unseal(own.resource_meta)
        if isinstance(held, JobPromise):
            found = await self.creates.job_promises.resolve(connector, held)
            return own.of(found.resource_meta) if isinstance(found, JobMeta) else None
        return own if held is None else None

    async def get_metrics(self, connector: ConnectorDescription, offer: JobOffer, timeout: float | None) -> Any:
        """Return a job's metrics; none for a job that never ran.

        Raises:
            ConnectorError: the connector has no metrics, or failed.
        """
        connector.require("get_metrics")
        if (own := await self._own(connector, offer)) is None:
            return []
        results = await self._invoker.invoke(connector, "get_metrics", own, timeout)
        if (size := sum(result.ByteSize() for result in results)) > self._max_answer_bytes - AROUND_BYTES:
            raise IllegalAnswerError(
                f"get_metrics() returned {size:,} bytes of results, and a client receives {self._max_answer_bytes:,}",
                plugin=connector.plugin.name,
                operation="get_metrics",
            )
        return results

    async def get_logs(
        self, connector: ConnectorDescription, offer: JobOffer, timeout: float | None
    ) -> AsyncIterator[Any]:
        """Yield a job's log pages; none for a job that never ran.

        Raises:
            ConnectorError: the connector has no logs, or failed.
        """
        connector.require("get_logs")
        if (own := await self._own(connector, offer)) is None:
            return
        async for page in self._invoker.stream(connector, "get_logs", own, timeout):
            yield page

    async def do(self, connector: ConnectorDescription, offer: TaskOffer, timeout: float | None) -> "Answered":
        """Run a sync connector and return its result; a permanent failure is one, since the engine retries any status.

        Raises:
            ConnectorError: it failed and may be tried again, or permanent failures go out as statuses.
        """
        try:
            resource = await self._invoker.invoke(connector, "do", offer, timeout)
        except PermanentError as error:
            if self._permanent_as_status:
                raise
            return Answered(failed(error), error)
        return Answered(fit(resource, self._max_answer_bytes))

    def limit(self, connector: ConnectorDescription, operation: str) -> float:
        """Return the longest time that an operation may take, in seconds."""
        return self._invoker.limit(connector, operation)

    async def close(self, timeout: float) -> None:
        """Let what goes on without a caller end, for so long, and close the memory."""
        await self.creates.close(timeout)
        await self._memory.close()


def _refuse_without_result(connector: ConnectorDescription) -> None:
    if connector.is_sync:
        raise InvalidResourceMetaError(
            f"connector {connector.name!r} is a sync one, whose resource meta carries its result; this one carries none"
        )
