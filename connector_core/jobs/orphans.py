"""Jobs that were started for attempts which nobody ever got an answer about: found by their attempt's name, and deleted."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable
from typing import Any

from connector_core.connection import Connection
from connector_core.description import ConnectorDescription
from connector_core.errors import ConnectorError, JobNotFoundError
from connector_core.invocation import Invoker
from connector_core.invocation.offers import JobOffer
from connector_core.jobs import envelope
from connector_core.jobs.claims import Claims, name_of

_log = logging.getLogger(__name__)

_DELETE_TRIES = 8


class Orphans:
    """Deletes, in tasks of its own, what nobody waits for.

    Args:
        invoker: runs plugin code.
        claims: what is known of attempts.
        after: seconds after which a job is deleted whose create was not answered; `None`: only when a later attempt arrives.

    Attributes:
        under_way: the tasks.
    """

    def __init__(self, invoker: Invoker, claims: Claims, after: float | None) -> None:
        self._invoker = invoker
        self._claims = claims
        self._after = after
        self._ageing: dict[str, asyncio.TimerHandle] = {}
        self.under_way: set[asyncio.Task[None]] = set()

    def watch(self, connector: ConnectorDescription, name: str, connection: Connection) -> None:
        """Delete an attempt's job in due time, unless `heard_of` is called before."""
        if self._after is not None:
            loop = asyncio.get_running_loop()
            self._ageing[name] = loop.call_later(self._after, self._aged, connector, name, connection)

    def heard_of(self, name: str) -> None:
        """Somebody gets the answer about this attempt."""
        if (timer := self._ageing.pop(name, None)) is not None:
            timer.cancel()

    def delete_earlier(
        self, connector: ConnectorDescription, earlier: Iterable[str], later: bytes, connection: Connection
    ) -> None:
        """Delete what earlier attempts of a task started without anybody having got the answer.

        Not before the later one has ended: a backend may have given it the job of an earlier attempt, which is to stay.

        Args:
            connector: of the task.
            earlier: the keys of the attempts.
            later: what the later attempt started; empty, where it failed.
            connection: what the create brought.
        """
        self._spawn(self._delete_each(connector, earlier, later, connection))

    def delete(self, connector: ConnectorDescription, name: str, connection: Connection, later: bytes) -> None:
        """Delete what one attempt started, unless that is what a later one did."""
        self._spawn(self._delete_orphan(connector, name, connection, later))

    def delete_job(self, connector: ConnectorDescription, resource_meta: bytes, connection: Connection) -> None:
        """Delete a job that no attempt's name finds."""
        self._spawn(self._delete_job(connector, resource_meta, connection))

    def close(self) -> None:
        """Wait for no more jobs to come of age."""
        for timer in self._ageing.values():
            timer.cancel()
        self._ageing.clear()

    def _aged(self, connector: ConnectorDescription, name: str, connection: Connection) -> None:
        self._ageing.pop(name, None)
        self._spawn(self._delete_orphan(connector, name, connection))

    async def _delete_each(
        self, connector: ConnectorDescription, earlier: Iterable[str], later: bytes, connection: Connection
    ) -> None:
        for key in earlier:
            await self._delete_orphan(connector, name_of(connector.name, key), connection, later)

    async def _delete_orphan(
        self, connector: ConnectorDescription, name: str, connection: Connection, later: bytes | None = None
    ) -> None:
        orphan = await self._claims.doom(name, later)
        if orphan is not None:
            await self._delete_job(connector, orphan, connection)
            await self._claims.gone(name)

    async def _delete_job(self, connector: ConnectorDescription, resource_meta: bytes, connection: Connection) -> None:
        """Delete a job that no engine will delete, with the connection that its create brought."""
        if envelope.unseal(resource_meta) is not None:
            return
        from connector_core.jobs.retrying import try_patiently

        began = time.monotonic()
        offer = JobOffer(resource_meta, connection)
        try:
            await try_patiently(_DELETE_TRIES, lambda: self._invoker.invoke(connector, "delete", offer))
        except JobNotFoundError:
            return
        except ConnectorError as error:
            _log.error(
                "orphan not deleted, it may still be running: plugin %s, connector %s, tried for %.0f s: %s",
                connector.plugin.name,
                connector.name,
                time.monotonic() - began,
                error,
            )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)
        task.add_done_callback(_log_failure)


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error(
            "deletion of orphans failed: jobs of earlier attempts may still be running: %s", error, exc_info=error
        )
