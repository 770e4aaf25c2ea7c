"""Routes an operation to where its kind of code runs, and turns whatever comes back into an answer or a `ConnectorError`."""

import asyncio
import contextlib
import contextvars
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from connector_core.errors import CapacityExceededError, ConnectorNotStartedError
from connector_core.invocation.answers import encoded
from connector_core.invocation.calls import Call, CodeError, LoopRunner, Outcome, PoolRunner, Runner
from connector_core.invocation.containment import Containment
from connector_core.invocation.executor import PoolExecutor
from connector_core.invocation.faults import Scrub, too_late
from connector_core.invocation.limits import CallLimits
from connector_core.invocation.loops import HomeLoop, LoopThread, RunningLoop
from connector_core.invocation.mailbox import Mailbox
from connector_core.invocation.places import Place, run_in_place
from connector_core.invocation.spans import CodeSpan, Trace, ended, run_within
from connector_core.invocation.streams import END, AsyncSteps, BlockingSteps, Steps
from connector_core.invocation.watch import LoopWatch
from connector_core.metrics import Metrics
from connector_core.observing.call_records import REQUEST
from connector_core.operations import Operation
from connector_core.registry import RegisteredConnector
from connector_core.secrets import SecretSource, use_source

_log = logging.getLogger(__name__)

_UNSET_LIMIT = 60.0
LIFECYCLE = frozenset({"start", "close"})
_NO_SPAN: contextlib.nullcontext[None] = contextlib.nullcontext()


class Invoker:
    """Runs plugin code for the loop that it was made on.

    Async code of one plugin shares a loop in a thread of its own; blocking code of one connector shares a pool of threads,
    and so does what its async code hands to `asyncio.to_thread`.
    So code that blocks, in a thread or wrongly on its loop, stalls neither the serving loop nor another plugin.

    A plugin that the operator vouches for runs its async code in place, on the serving loop, and saves the hop.

    Args:
        metrics: where calls that outlive their request are counted, and how late loops are.
        limits_of: what each connector's calls may take.
        secrets: where `get_secret` looks in plugin code.
        new_loop: makes the plugins' loops.
        stall_threshold: seconds after which a loop that does not come round is reported.
        trace: begins a span around a piece of plugin code, where there are traces.
        scrub: takes secrets out of the texts of errors, which go over the wire.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        limits_of: Callable[[RegisteredConnector], CallLimits] = lambda _connector: CallLimits(),
        secrets: SecretSource | None = None,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        stall_threshold: float = 1.0,
        trace: Trace | None = None,
        scrub: Scrub = str,
    ) -> None:
        self._metrics = metrics
        self._trace = trace
        self.scrub = scrub
        self._limits_of = limits_of
        self._new_loop = new_loop
        self._secrets = secrets or SecretSource()
        self._home = Mailbox(asyncio.get_running_loop())
        self._containment = Containment(asyncio.get_running_loop())
        self._home_loop = HomeLoop(asyncio.get_running_loop(), self._home, self._containment)
        self._loops: dict[str, LoopThread] = {}
        self._places: dict[RegisteredConnector, Place] = {}
        self._held: dict[RegisteredConnector, str] = {}
        self._abandoned = 0
        self._lends_threads = False
        self._base_context = contextvars.copy_context()
        self._base_context.run(use_source, self._secrets)
        self._base_context.run(REQUEST.set, None)
        self._watch = LoopWatch(metrics.loop_lag, stall_threshold)
        self._watch.add("serving", asyncio.get_running_loop(), threading.get_ident())

    async def invoke(
        self,
        connector: RegisteredConnector,
        name: str,
        arguments: Mapping[str, Any],
        timeout: float | None = None,
        *,
        end: float | None = None,
    ) -> Any:
        """Run one operation and return its answer as `operations.encode_answer` gives it.

        Args:
            connector: whose operation.
            name: which operation.
            arguments: what is offered to it; the operation takes what it asks for.
            timeout: seconds that the caller waits at the most; the operation's own limit holds besides.
            end: the moment on the monotonic clock at which the call has to be over, in place of both.

        Raises:
            ConnectorError: naming plugin and operation, whatever the plugin raised.
        """
        if self._held and name not in LIFECYCLE:
            self._refuse_held(connector)
        operation = connector.operation(name)
        place = self._place(connector)
        if end is None:
            end = _end(place, name, timeout)
        if self._trace is None:  # each poll comes by here
            return await self._route(place, operation, arguments, end, None)
        with self._span(place, operation) as span:
            return await self._route(place, operation, arguments, end, span)

    def _route(
        self, place: Place, operation: Operation, arguments: Mapping[str, Any], end: float, span: CodeSpan | None
    ) -> Awaitable[Any]:
        if not place.limits.in_place or operation.kind.is_blocking:
            return self._run(place, operation, self._runner(place, operation, arguments, span), end)
        use_source(self._secrets)
        if span is None:
            work = _call_async(operation, arguments)
        else:
            work = run_within(span, partial(_call_async, operation, arguments))
        return run_in_place(place, operation, work, end, self._containment)

    async def stream(
        self, connector: RegisteredConnector, name: str, arguments: Mapping[str, Any], timeout: float | None = None
    ) -> AsyncIterator[Any]:
        """Run one operation that may yield its answer piece by piece; as `invoke` otherwise."""
        operation = connector.operation(name)
        if not operation.kind.is_stream:
            yield await self.invoke(connector, name, arguments, timeout)
            return
        self._refuse_held(connector)
        place = self._place(connector)
        end = _end(place, name, timeout)
        with self._span(place, operation) as span:
            steps = self._steps(place, operation, arguments, span)
            has_ended = False
            try:
                while (piece := await self._run(place, operation, steps.step(), end)) is not END:
                    yield piece
                has_ended = True
            finally:
                if not has_ended:
                    _begin_close(connector, steps)

    def hold(self, connector: RegisteredConnector, reason: str) -> None:
        """Refuse the connector's calls as UNAVAILABLE with `reason`, until `release`."""
        self._held[connector] = reason

    def release(self, connector: RegisteredConnector) -> None:
        """Let the connector's calls through."""
        self._held.pop(connector, None)

    def limit(self, connector: RegisteredConnector, name: str) -> float:
        """Return the longest time that an operation may take, in seconds."""
        return self._place(connector).limits.deadlines.get(name, _UNSET_LIMIT)

    @property
    def abandoned(self) -> int:
        """How many calls run on although nobody waits for them any more."""
        return self._abandoned

    def close(self, timeout: float) -> None:
        """End all loops and idle threads, waiting up to `timeout` seconds; what hangs is left behind as daemon threads."""
        self._watch.close()
        end = time.monotonic() + timeout
        for place in self._places.values():
            place.pool.close()
        for thread in self._loops.values():
            thread.stop()
        for thread in self._loops.values():
            if not thread.join(max(0.0, end - time.monotonic())):
                _log.warning("the loop of %s is blocked by plugin code and was left behind", thread.name)

    def _refuse_held(self, connector: RegisteredConnector) -> None:
        if (reason := self._held.get(connector)) is not None:
            raise ConnectorNotStartedError(reason, plugin=connector.plugin.name)

    async def _run(self, place: Place, operation: Operation, runner: Runner, end: float) -> Any:
        place.enter(operation)
        ended = partial(self._ended, place, operation)
        call = Call(self._home, runner, ended, partial(place.translated, operation))
        timers = list(_timers(call, place, operation, end))
        try:
            return await call.wait()
        except CodeError as carried:
            raise carried.take()  # noqa: B904 - it has the cause that it has
        except CapacityExceededError as error:
            error.plugin, error.operation = place.connector.plugin.name, operation.name
            raise
        except TimeoutError:
            self._give_up(call, place.connector)
            raise too_late(place.connector, operation) from None
        except asyncio.CancelledError:
            self._give_up(call, place.connector)
            raise
        finally:
            for timer in timers:
                timer.cancel()
            del call, runner  # see `Call.wait`

    def _span(self, place: Place, operation: Operation) -> AbstractContextManager[CodeSpan | None]:
        if self._trace is None or operation.name in LIFECYCLE:
            return _NO_SPAN
        return ended(self._trace(place.subject(operation)))

    def _runner(
        self, place: Place, operation: Operation, arguments: Mapping[str, Any], span: CodeSpan | None
    ) -> Runner:
        context = _context(place, operation, span)
        if operation.kind.is_blocking:
            return PoolRunner(place.pool, partial(context.run, _call_blocking, operation, arguments))
        work = partial(_call_async, operation, arguments)
        return LoopRunner(self._loop(place), work, context, place.task_name(operation))

    def _steps(self, place: Place, operation: Operation, arguments: Mapping[str, Any], span: CodeSpan | None) -> Steps:
        context = _context(place, operation, span)
        if operation.kind.is_blocking:
            return BlockingSteps(operation, arguments, context, place.pool)
        name = place.task_name(operation)
        return AsyncSteps(operation, arguments, partial(LoopRunner, self._loop(place), context=context, name=name))

    def _place(self, connector: RegisteredConnector) -> Place:
        if (place := self._places.get(connector)) is None:
            place = self._places[connector] = Place(
                connector, self._limits_of(connector), self._base_context, self.scrub
            )
            if place.limits.in_place:
                self._lend_threads()
            labels = (connector.plugin.name, connector.name)
            self._metrics.pool_busy.labels(*labels).set_function(lambda: place.pool.busy)
            self._metrics.pool_waiting.labels(*labels).set_function(lambda: place.pool.waiting)
        return place

    def _lend_threads(self) -> None:
        """Have `asyncio.to_thread` on the serving loop use threads of ours, since plugin code runs there."""
        if not self._lends_threads:
            self._lends_threads = True
            self._home_loop.loop.set_default_executor(PoolExecutor(None))

    def _loop(self, place: Place) -> RunningLoop:
        if place.limits.in_place:
            return self._home_loop
        name = place.connector.plugin.name
        if (thread := self._loops.get(name)) is None or thread.loop.is_closed():
            thread = self._loops[name] = LoopThread(f"plugin {name}", self._new_loop, place.pool)
            self._watch.add(thread.name, thread.loop, thread.identity)
        return thread

    def _give_up(self, call: Call, connector: RegisteredConnector) -> None:
        if call.give_up():
            self._abandoned += 1
            self._metrics.abandoned.labels(connector.plugin.name, connector.name).inc()

    def _ended(self, place: Place, operation: Operation, was_abandoned: bool) -> None:
        place.leave(operation)
        if was_abandoned:
            self._abandoned -= 1
            self._metrics.abandoned.labels(place.connector.plugin.name, place.connector.name).dec()


def _context(place: Place, operation: Operation, span: CodeSpan | None) -> contextvars.Context:
    context = place.new_context(operation)
    if span is not None:
        context.run(span.enter)
    return context


async def _call_async(operation: Operation, arguments: Mapping[str, Any]) -> Any:
    answer: Awaitable[Any] = operation.function(**operation.arguments(arguments))
    return encoded(operation, await answer, arguments)


def _call_blocking(operation: Operation, arguments: Mapping[str, Any]) -> Any:
    return encoded(operation, operation.function(**operation.arguments(arguments)), arguments)


def _end(place: Place, name: str, timeout: float | None) -> float:
    """Return the moment, on the monotonic clock, at which a call that begins now has to be over."""
    return time.monotonic() + min(math.inf if timeout is None else timeout, place.limits.deadlines.get(name, math.inf))


def _timers(call: Call, place: Place, operation: Operation, end: float) -> Iterator[asyncio.TimerHandle]:
    loop, left = asyncio.get_running_loop(), max(0.0, end - time.monotonic())
    if left < math.inf:
        yield loop.call_later(left, call.expire)
    if operation.kind.is_blocking and place.limits.wait < left:
        reason = f"{place.pool.name} is full: a call waited {place.limits.wait:g} s for a thread (setting: wait)"
        yield loop.call_later(place.limits.wait, call.refuse_if_waiting, reason)


def _begin_close(connector: RegisteredConnector, steps: Steps) -> None:
    """Have a generator that was left halfway clean up; nobody waits for that, and a full pool is no excuse."""
    with contextlib.suppress(CapacityExceededError):  # a closed pool: nothing runs any more
        steps.close().begin(partial(_log_failed_close, connector))


def _log_failed_close(connector: RegisteredConnector, outcome: Outcome) -> None:
    _answer, error = outcome
    if error is not None:
        _log.warning("connector %s: get_logs() failed while it was closed", connector.name, exc_info=error)
