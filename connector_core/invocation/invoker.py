"""Routes an operation to where its kind of code runs, and turns whatever comes back into an answer or a `ConnectorError`."""

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from connector_core.errors import ConnectorError, ConnectorNotStartedError, DeadlineExceededError, PluginCallError
from connector_core.invocation.calls import Call, CodeError, LoopRunner, Outcome, PoolRunner, Runner
from connector_core.invocation.loops import LoopThread
from connector_core.invocation.mailbox import Mailbox
from connector_core.invocation.pools import BlockingPool
from connector_core.invocation.streams import END, AsyncSteps, BlockingSteps
from connector_core.metrics import Metrics
from connector_core.operations import Operation, encode_answer
from connector_core.registry import RegisteredConnector
from connector_core.secrets import SecretSource, use_source

_log = logging.getLogger(__name__)

LIFECYCLE = frozenset({"start", "close"})


class Invoker:
    """Runs plugin code for the loop that it was made on.

    Async code of one plugin shares a loop in a thread of its own; blocking code of one connector shares a pool of threads.
    So code that blocks, in a thread or wrongly on its loop, stalls neither the serving loop nor another plugin.

    Args:
        metrics: where calls that outlive their request are counted.
        limits: the longest time that each operation may take, in seconds.
        workers: threads for the blocking code of each connector.
        queue: calls of one connector that may wait for a thread.
        secrets: where `get_secret` looks in plugin code.
        new_loop: makes the plugins' loops.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        limits: Mapping[str, float],
        workers: int = 10,
        queue: int = 1000,
        secrets: SecretSource | None = None,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self._metrics = metrics
        self._limits = limits
        self._workers = workers
        self._queue = queue
        self._new_loop = new_loop
        self._home = Mailbox(asyncio.get_running_loop())
        self._loops: dict[str, LoopThread] = {}
        self._pools: dict[RegisteredConnector, BlockingPool] = {}
        self._held: dict[RegisteredConnector, str] = {}
        self._abandoned = 0
        self._base_context = contextvars.copy_context()
        self._base_context.run(use_source, secrets or SecretSource())

    async def invoke(
        self, connector: RegisteredConnector, name: str, arguments: Mapping[str, Any], timeout: float | None = None
    ) -> Any:
        """Run one operation and return its answer as `operations.encode_answer` gives it.

        Args:
            connector: whose operation.
            name: which operation.
            arguments: what is offered to it; the operation takes what it asks for.
            timeout: seconds that the caller waits at the most; the operation's own limit holds besides.

        Raises:
            ConnectorError: naming plugin and operation, whatever the plugin raised.
        """
        if name not in LIFECYCLE:
            self._refuse_held(connector)
        operation = connector.operation(name)
        function = _call_blocking if operation.kind.is_blocking else _call_async
        work = partial(function, operation, arguments)
        return await self._run(connector, operation, work, self._context(), self._end(name, timeout))

    async def stream(
        self, connector: RegisteredConnector, name: str, arguments: Mapping[str, Any], timeout: float | None = None
    ) -> AsyncIterator[Any]:
        """Run one operation that may yield its answer piece by piece; as `invoke` otherwise."""
        operation = connector.operation(name)
        if not operation.kind.is_stream:
            yield await self.invoke(connector, name, arguments, timeout)
            return
        self._refuse_held(connector)
        kind = BlockingSteps if operation.kind.is_blocking else AsyncSteps
        steps = kind(operation, arguments)
        context, end = self._context(), self._end(name, timeout)
        try:
            while (piece := await self._run(connector, operation, steps.next, context, end)) is not END:
                yield piece
        finally:
            self._runner(connector, operation, steps.close, context).begin(partial(_log_failed_close, connector))

    def hold(self, connector: RegisteredConnector, reason: str) -> None:
        """Refuse the connector's calls as UNAVAILABLE with `reason`, until `release`."""
        self._held[connector] = reason

    def release(self, connector: RegisteredConnector) -> None:
        """Let the connector's calls through."""
        self._held.pop(connector, None)

    @property
    def abandoned(self) -> int:
        """How many calls run on although nobody waits for them any more."""
        return self._abandoned

    def close(self, timeout: float) -> None:
        """End all loops and idle threads, waiting up to `timeout` seconds; what hangs is left behind as daemon threads."""
        end = time.monotonic() + timeout
        for pool in self._pools.values():
            pool.close()
        for thread in self._loops.values():
            thread.stop()
        for thread in self._loops.values():
            if not thread.join(max(0.0, end - time.monotonic())):
                _log.warning("the loop of %s is blocked by plugin code and was left behind", thread.name)

    def _refuse_held(self, connector: RegisteredConnector) -> None:
        if (reason := self._held.get(connector)) is not None:
            raise ConnectorNotStartedError(reason, plugin=connector.plugin.name)

    def _context(self) -> contextvars.Context:
        return self._base_context.copy()

    def _end(self, name: str, timeout: float | None) -> float:
        """Return the moment, on the monotonic clock, at which a call that begins now has to be over."""
        return time.monotonic() + min(math.inf if timeout is None else timeout, self._limits.get(name, math.inf))

    async def _run(
        self,
        connector: RegisteredConnector,
        operation: Operation,
        work: Callable[[], Any],
        context: contextvars.Context,
        end: float,
    ) -> Any:
        runner = self._runner(connector, operation, work, context)
        call = Call(self._home, runner, partial(self._ended_late, connector))
        left = max(0.0, end - time.monotonic())
        timer = None if left == math.inf else asyncio.get_running_loop().call_later(left, call.expire)
        try:
            return await call.wait()
        except CodeError as carried:
            error = _translate(carried.error, connector, operation)
            raise error from error.__cause__
        except TimeoutError:
            self._give_up(call, connector)
            raise _too_late(connector, operation) from None
        except asyncio.CancelledError:
            self._give_up(call, connector)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _runner(
        self,
        connector: RegisteredConnector,
        operation: Operation,
        work: Callable[[], Any],
        context: contextvars.Context,
    ) -> Runner:
        if operation.kind.is_blocking:
            return PoolRunner(self._pool(connector), work, context)
        return LoopRunner(self._loop(connector), work, context)

    def _pool(self, connector: RegisteredConnector) -> BlockingPool:
        if (pool := self._pools.get(connector)) is None:
            name = f"the thread pool of connector {connector.name!r} (plugin {connector.plugin.name!r})"
            pool = self._pools[connector] = BlockingPool(name, self._workers, self._queue)
        return pool

    def _loop(self, connector: RegisteredConnector) -> LoopThread:
        name = connector.plugin.name
        if (thread := self._loops.get(name)) is None:
            thread = self._loops[name] = LoopThread(f"plugin {name}", self._new_loop)
        return thread

    def _give_up(self, call: Call, connector: RegisteredConnector) -> None:
        if call.give_up():
            self._abandoned += 1
            self._metrics.abandoned.labels(connector.plugin.name, connector.name).inc()

    def _ended_late(self, connector: RegisteredConnector) -> None:
        self._abandoned -= 1
        self._metrics.abandoned.labels(connector.plugin.name, connector.name).dec()


async def _call_async(operation: Operation, arguments: Mapping[str, Any]) -> Any:
    answer: Awaitable[Any] = operation.function(**operation.arguments(arguments))
    return encode_answer(operation.name, await answer, arguments)


def _call_blocking(operation: Operation, arguments: Mapping[str, Any]) -> Any:
    return encode_answer(operation.name, operation.function(**operation.arguments(arguments)), arguments)


def _translate(error: BaseException, connector: RegisteredConnector, operation: Operation) -> ConnectorError:
    """Return the `ConnectorError` for what plugin code raised, with the culprit's name on it."""
    translated: ConnectorError
    if isinstance(error, ConnectorError):
        translated = error
    elif isinstance(error, asyncio.CancelledError):
        translated = PluginCallError("the plugin cancelled its own call")
    elif isinstance(error, SystemExit):
        translated = PluginCallError(f"the plugin called sys.exit({error.code!r})")
    else:
        translated = PluginCallError(f"{type(error).__name__}: {error}")
    if translated is not error:
        translated.__cause__ = error
    translated.plugin = connector.plugin.name
    translated.operation = operation.name
    return translated


def _too_late(connector: RegisteredConnector, operation: Operation) -> DeadlineExceededError:
    return DeadlineExceededError(
        "it was not over at its deadline", plugin=connector.plugin.name, operation=operation.name
    )


def _log_failed_close(connector: RegisteredConnector, outcome: Outcome) -> None:
    _answer, error = outcome
    if error is not None:
        _log.warning("connector %s: get_logs() failed while it was closed", connector.name, exc_info=error)
