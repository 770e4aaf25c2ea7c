"""Starting connectors with the server, again and again where that fails, and closing them with it."""

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping

from connector_core.description import ConnectorDescription
from connector_core.errors import ConnectorError
from connector_core.invocation import Invoker
from connector_core.invocation.offers import NOTHING
from connector_core.metrics import Metrics

_log = logging.getLogger(__name__)


class Lifecycle:
    """Runs each connector's optional `start()` and `close()` where its calls run.

    A connector whose `start()` fails stays listed, answers UNAVAILABLE with the reason, and is started again with
    backoff, so that a backend that is away at start-up needs no restart of the host.

    Args:
        invoker: runs plugin code.
        metrics: where it shows which connectors are started.
        timeout: seconds that one `start()` or `close()` may take.
        backoff: seconds before the first and (doubled each time) at most before a later try.
    """

    def __init__(
        self, invoker: Invoker, metrics: Metrics, *, timeout: float, backoff: tuple[float, float] = (1, 60)
    ) -> None:
        self._invoker = invoker
        self._metrics = metrics
        self._timeout = timeout
        self._backoff = backoff
        self._started: list[ConnectorDescription] = []
        self._not_started: dict[ConnectorDescription, ConnectorError] = {}
        self._retries: dict[ConnectorDescription, asyncio.Task[None]] = {}

    @property
    def not_started(self) -> Mapping[ConnectorDescription, ConnectorError]:
        """The connectors whose `start()` has failed and not succeeded since, with its last error."""
        return self._not_started

    async def start(self, connectors: Iterable[ConnectorDescription]) -> dict[ConnectorDescription, ConnectorError]:
        """Start all connectors at once; return those that failed, which are tried again from now on."""
        waiting = list(connectors)
        outcomes = await asyncio.gather(*(self._start_one(connector) for connector in waiting))
        failed = {connector: error for connector, error in zip(waiting, outcomes, strict=True) if error is not None}
        for connector in failed:
            # While slower ones were waited for, its process may have been replaced, and `start_anew` have seen to it.
            if connector in self._not_started and connector not in self._retries:
                self._retries[connector] = asyncio.create_task(self._start_again(connector))
        return failed

    async def start_anew(self, connectors: Iterable[ConnectorDescription]) -> None:
        """Start connectors whose process has died in the one that has taken its place; what fails is tried again."""
        waiting = list(connectors)
        for connector in waiting:
            if (retry := self._retries.pop(connector, None)) is not None:
                retry.cancel()
        # What has died needs no close().
        self._started = [connector for connector in self._started if connector not in waiting]
        await self.start(waiting)

    async def close(self) -> None:
        """Close all connectors that were started; what fails is logged."""
        for retry in self._retries.values():
            retry.cancel()
        await asyncio.gather(*self._retries.values(), return_exceptions=True)
        started, self._started = self._started, []  # a second call, meanwhile, finds nothing to close
        await asyncio.gather(*(self._close_one(connector) for connector in started))

    async def _start_one(self, connector: ConnectorDescription) -> ConnectorError | None:
        gauge = self._metrics.connector_started.labels(connector.plugin.name, connector.name)
        try:
            if "start" in connector.operations:
                await self._invoker.invoke(connector, "start", NOTHING, self._timeout)
        except ConnectorError as error:
            gauge.set(0)
            self._not_started[connector] = error
            self._invoker.hold(connector, f"connector {connector.name!r} could not be started: {error}")
            _log.warning(
                "connector not started, will retry: plugin %s, connector %s: %s",
                connector.plugin.name,
                connector.name,
                error,
                exc_info=error.__cause__,
            )
            return error
        self._started.append(connector)
        self._not_started.pop(connector, None)
        self._invoker.release(connector)
        gauge.set(1)
        return None

    async def _start_again(self, connector: ConnectorDescription) -> None:
        delay, longest = self._backoff
        while True:
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - spreads load, keeps no secret
            if await self._start_one(connector) is None:
                _log.info("connector started: plugin %s, connector %s", connector.plugin.name, connector.name)
                return
            delay = min(delay * 2, longest)

    async def _close_one(self, connector: ConnectorDescription) -> None:
        if "close" not in connector.operations:
            return
        try:
            await self._invoker.invoke(connector, "close", NOTHING, self._timeout)
        except ConnectorError as error:
            _log.warning(
                "connector failed to close: plugin %s, connector %s: %s", connector.plugin.name, connector.name, error
            )
