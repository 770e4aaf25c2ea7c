"""One connector's place in the host: its limits, its threads, and how many of its calls are under way."""

import asyncio
import contextvars
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any

from connector_core.errors import CapacityExceededError, ConnectorError
from connector_core.invocation.containment import Containment
from connector_core.invocation.executor import POOL_OF_CALL
from connector_core.invocation.faults import Scrub, too_late, translate
from connector_core.invocation.limits import CallLimits
from connector_core.invocation.pools import BlockingPool
from connector_core.observing.call_records import CODE, REQUEST, Subject
from connector_core.operations import Operation
from connector_core.registry import RegisteredConnector


class Place:
    """Keeps one connector from taking more than its share: a bulkhead."""

    __slots__ = ("_contexts", "_names", "_scrub", "_subjects", "connector", "in_flight", "limits", "pool")

    def __init__(
        self, connector: RegisteredConnector, limits: CallLimits, context: contextvars.Context, scrub: Scrub
    ) -> None:
        self.connector = connector
        self.limits = limits
        self._scrub = scrub
        self.in_flight = 0
        whose = f"connector {connector.name!r} (plugin {connector.plugin.name!r})"
        self.pool = BlockingPool(f"the thread pool of {whose}", limits.workers, limits.queue)
        plugin = connector.plugin.name
        self._subjects = {name: Subject(plugin, connector.name, name) for name in connector.operations}
        self._contexts = {name: self._made_context(context, subject) for name, subject in self._subjects.items()}
        self._names = {
            name: f"plugin {connector.plugin.name!r}, connector {connector.name!r}, {name}()"
            for name in connector.operations
        }

    def new_context(self, operation: Operation) -> contextvars.Context:
        """Return a context for one call.

        It is the host's, with this connector's threads for `asyncio.to_thread`, and with what the call is about, which lines
        of the log carry.
        """
        context = self._contexts[operation.name].copy()
        if (request := REQUEST.get()) is not None:
            context.run(REQUEST.set, request)
        return context

    def subject(self, operation: Operation) -> Subject:
        """Say whose code it is and which."""
        return self._subjects[operation.name]

    def task_name(self, operation: Operation) -> str:
        """Name a task of this connector, for those who look for the culprit of a stall."""
        return self._names[operation.name]

    def enter(self, operation: Operation) -> None:
        """Count a call of async code that begins; threads are counted by the pool.

        Raises:
            CapacityExceededError: there are as many as may be.
        """
        if operation.kind.is_blocking:
            return
        if self.in_flight >= self.limits.in_flight:
            raise CapacityExceededError(
                f"connector {self.connector.name!r} has {self.in_flight} calls in flight, as many as it may "
                "(setting: in_flight)",
                plugin=self.connector.plugin.name,
                operation=operation.name,
            )
        self.in_flight += 1

    def leave(self, operation: Operation) -> None:
        """Count a call of async code that has ended."""
        if not operation.kind.is_blocking:
            self.in_flight -= 1

    def translated(self, operation: Operation, error: BaseException) -> ConnectorError:
        """Return what an operation's code raised as an error of this package, with no context but its cause."""
        translated = translate(error, self.connector, operation, self._scrub)
        translated.__suppress_context__ = True
        return translated

    def _made_context(self, base: contextvars.Context, subject: Subject) -> contextvars.Context:
        context = base.copy()
        context.run(POOL_OF_CALL.set, self.pool)
        context.run(CODE.set, subject)
        return context


async def run_in_place(
    place: Place, operation: Operation, work: Coroutine[Any, Any, Any], end: float, containment: Containment
) -> Any:
    """Run async code on the loop that serves, for a plugin that the operator vouches for.

    Args:
        place: whose code.
        operation: which of its operations.
        work: the code.
        end: when it has to be over, on the monotonic clock, which is the loop's as well.
        containment: what its steps are taken in.

    Raises:
        ConnectorError: naming plugin and operation, whatever the code raised.
    """
    try:
        place.enter(operation)
    except CapacityExceededError:
        work.close()
        raise
    token, code = POOL_OF_CALL.set(place.pool), CODE.set(place.subject(operation))
    deadline = None
    task = asyncio.current_task()
    if task is not None:  # it is the host's own, but whoever looks for the culprit of a stall wants another name
        task.set_name(place.task_name(operation))
    try:
        try:
            first_wait = containment.step(work.send, None)
        except StopIteration as ended:  # it had to wait for nothing, as cached answers do: no timer was needed
            return ended.value
        async with asyncio.timeout_at(end) as deadline:
            return await _rest(work, first_wait, containment)
    except BaseException as error:
        if isinstance(error, TimeoutError) and deadline is not None and deadline.expired():
            raise too_late(place.connector, operation) from None
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        raise place.translated(operation, error)  # noqa: B904 - in no variable of a frame that its traceback knows
    finally:
        POOL_OF_CALL.reset(token)
        CODE.reset(code)
        place.leave(operation)
        del task, deadline  # or an error's traceback knows the task, which comes to know the error


@types.coroutine
def _rest(work: Coroutine[Any, Any, Any], waits_for: Any, containment: Containment) -> Generator[Any, Any, Any]:
    """Go on with a coroutine that has run up to its first wait, as `await` would from the beginning."""
    while True:
        try:
            woken_with = yield waits_for
        except BaseException as error:  # noqa: BLE001 - it is the coroutine's, whatever it is
            step = partial(work.throw, error)
        else:
            step = partial(work.send, woken_with)
        try:
            waits_for = containment.step(step)
        except StopIteration as ended:
            return ended.value
