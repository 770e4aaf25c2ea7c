"""Places of this process: async code on the loop of its plugin, blocking code in the threads of its connector."""

import asyncio
import contextlib
import contextvars
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from connector_core.description import ConnectorDescription
from connector_core.errors import CapacityExceededError
from connector_core.inspection import InspectedConnector, Method
from connector_core.invocation.answers import encode_answer
from connector_core.invocation.batches import Batches
from connector_core.invocation.custom_info import Note
from connector_core.invocation.faults import too_late
from connector_core.invocation.loops import RunningLoop
from connector_core.invocation.offers import JobOffer, Offer
from connector_core.invocation.places import Bulkhead
from connector_core.invocation.runners import Call, CodeError, LoopRunner, Outcome, PoolRunner, Runner
from connector_core.invocation.runtime import LocalRuntime
from connector_core.invocation.spans import CodeSpan, ended
from connector_core.invocation.streams import END, AsyncSteps, BlockingSteps, Steps
from connector_core.operations import LIFECYCLE

_log = logging.getLogger(__name__)

_NO_SPAN: contextlib.nullcontext[None] = contextlib.nullcontext()


class ThreadedPlace:
    """Runs one connector away from the loop that serves.

    Async code of one plugin shares a loop in a thread of its own; blocking code of one connector shares a pool of threads,
    and so does what its async code hands to `asyncio.to_thread`. So code that blocks, in a thread or wrongly on its loop,
    stalls neither the serving loop nor another plugin.

    Args:
        inspected: the connector.
        bulkhead: its share of this process.
        runtime: what the places of this process share.
    """

    def __init__(self, inspected: InspectedConnector, bulkhead: Bulkhead, runtime: LocalRuntime) -> None:
        self._inspected = inspected
        self._bulkhead = bulkhead
        self._runtime = runtime
        self._batches = Batches(self._ask_many, bulkhead, runtime.batch) if "get_many" in inspected.methods else None

    def invoke(self, operation: str, offer: Offer, end: float) -> Coroutine[Any, Any, Any]:
        """Run one operation; see `Place`."""
        if self._batches is not None and operation == "get":
            assert isinstance(offer, JobOffer)  # noqa: S101 - nothing else is offered to `get`
            return self._batches.get(offer, end)
        return self._invoke(self._inspected.methods[operation], offer, end)

    async def stream(self, operation: str, offer: Offer, end: float) -> AsyncIterator[Any]:
        """Run one operation that may yield; see `Place`."""
        method = self._inspected.methods[operation]
        if not method.kind.is_stream:
            yield await self.invoke(operation, offer, end)
            return
        with self._span(method) as span:
            steps = self._steps(method, offer, span)
            has_ended = False
            try:
                while (piece := await self._run(method, steps.step(), end)) is not END:
                    yield piece
                has_ended = True
            finally:
                if not has_ended:
                    _begin_close(self._bulkhead.description, steps)

    async def close(self) -> None:
        """Let idle threads end, and give up batches."""
        self._bulkhead.pool.close()
        if self._batches is not None:
            await self._batches.close()

    def _ask_many(self, offer: Offer, end: float) -> Coroutine[Any, Any, Any]:
        return self._invoke(self._inspected.methods["get_many"], offer, end)

    def _invoke(self, method: Method, offer: Offer, end: float) -> Coroutine[Any, Any, Any]:
        if self._runtime.trace is None:  # each poll comes by here
            return self._route(method, offer, end, None)
        return self._traced(method, offer, end)

    async def _traced(self, method: Method, offer: Offer, end: float) -> Any:
        with self._span(method) as span:
            return await self._route(method, offer, end, span)

    def _route(self, method: Method, offer: Offer, end: float, span: CodeSpan | None) -> Coroutine[Any, Any, Any]:
        return self._run(method, self._runner(method, offer, span), end)

    def _runner(self, method: Method, offer: Offer, span: CodeSpan | None) -> Runner:
        context = self._context(method, span)
        if method.kind.is_blocking:
            work = partial(context.run, self._call_blocking, method, offer)
            return PoolRunner(self._bulkhead.pool, work)
        name = self._bulkhead.task_name(method.name)
        return LoopRunner(self._loop(), partial(self._call_async, method, offer), context, name)

    def _steps(self, method: Method, offer: Offer, span: CodeSpan | None) -> Steps:
        context = self._context(method, span)
        generate = partial(self._generate, method, offer)
        if method.kind.is_blocking:
            return BlockingSteps(generate, method.name, context, self._bulkhead.pool)
        name = self._bulkhead.task_name(method.name)
        return AsyncSteps(generate, method.name, partial(LoopRunner, self._loop(), context=context, name=name))

    def _generate(self, method: Method, offer: Offer) -> Any:
        return method.function(**offer.arguments(method, self._inspected.metadata_type))

    def _call_async(self, method: Method, offer: Offer) -> Coroutine[Any, Any, Any]:
        return _answered(method, offer, self._inspected.metadata_type, self._bulkhead.note)

    def _call_blocking(self, method: Method, offer: Offer) -> Any:
        answer = method.function(**offer.arguments(method, self._inspected.metadata_type))
        return encode_answer(method.name, answer, offer.template, self._bulkhead.note)

    async def _run(self, method: Method, runner: Runner, end: float) -> Any:
        bulkhead, operation = self._bulkhead, method.name
        if not method.kind.is_blocking:
            bulkhead.enter(operation)
        plugin = bulkhead.description.plugin.name
        call = Call(self._runtime.home, runner, partial(self._ended, method), partial(bulkhead.translated, operation))
        timers = list(self._timers(call, method, end))
        try:
            return await call.wait()
        except CodeError as carried:
            raise carried.take()  # noqa: B904 - it has the cause that it has
        except CapacityExceededError as error:
            error.plugin, error.operation = plugin, operation
            raise
        except TimeoutError:
            self._give_up(call)
            raise too_late(plugin, operation) from None
        except asyncio.CancelledError:
            self._give_up(call)
            raise
        finally:
            for timer in timers:
                timer.cancel()
            del call, runner  # see `Call.wait`

    def _timers(self, call: Call, method: Method, end: float) -> Iterator[asyncio.TimerHandle]:
        loop, left = asyncio.get_running_loop(), max(0.0, end - time.monotonic())
        if left < math.inf:
            yield loop.call_later(left, call.expire)
        longest_wait = self._bulkhead.limits.wait
        if method.kind.is_blocking and longest_wait < left:
            pool = self._bulkhead.pool.name
            reason = f"{pool} is full: a call waited {longest_wait:g} s for a thread (setting: wait)"
            yield loop.call_later(longest_wait, call.refuse_if_waiting, reason)

    def _give_up(self, call: Call) -> None:
        if call.give_up():
            self._runtime.count_abandoned(self._bulkhead.description, 1)

    def _ended(self, method: Method, was_abandoned: bool) -> None:
        if not method.kind.is_blocking:
            self._bulkhead.leave()
        if was_abandoned:
            self._runtime.count_abandoned(self._bulkhead.description, -1)

    def _loop(self) -> RunningLoop:
        return self._runtime.loop_of(self._bulkhead.description.plugin.name, self._bulkhead.pool)

    def _span(self, method: Method) -> AbstractContextManager[CodeSpan | None]:
        trace = self._runtime.trace
        if trace is None or method.name in LIFECYCLE:
            return _NO_SPAN
        return ended(trace(self._bulkhead.subject(method.name)))

    def _context(self, method: Method, span: CodeSpan | None) -> contextvars.Context:
        context = self._bulkhead.new_context(method.name)
        if span is not None:
            context.run(span.enter)
        return context


async def _answered(method: Method, offer: Offer, metadata_type: Any, note: Note) -> Any:
    answer: Awaitable[Any] = method.function(**offer.arguments(method, metadata_type))
    return encode_answer(method.name, await answer, offer.template, note)


def _begin_close(description: ConnectorDescription, steps: Steps) -> None:
    """Have a generator that was left halfway clean up; nobody waits for that, and a full pool is not an excuse."""
    with contextlib.suppress(CapacityExceededError):  # a closed pool: nothing runs any more
        steps.close().begin(partial(_log_failed_close, description))


def _log_failed_close(description: ConnectorDescription, outcome: Outcome) -> None:
    _answer, error = outcome
    if error is not None:
        _log.warning("get_logs() failed while being closed: connector %s", description.name, exc_info=error)
