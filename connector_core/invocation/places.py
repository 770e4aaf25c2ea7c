"""Places, which run a connector's calls, and bulkheads, which bound one connector's share of this process."""

import contextvars
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, Protocol

import msgspec

from connector_core.description import ConnectorDescription
from connector_core.errors import CapacityExceededError, ConnectorError
from connector_core.invocation.faults import Scrub, translate
from connector_core.invocation.offers import Offer
from connector_core.invocation.pools import POOL_OF_CALL, BlockingPool
from connector_core.observing.call_records import CODE, REQUEST, Subject

_log = logging.getLogger(__name__)


class CallLimits(msgspec.Struct, frozen=True):
    """The limits of one connector.

    Attributes:
        deadlines: the longest time that each operation may take, in seconds.
        workers: threads for its blocking code.
        queue: calls that may wait for a thread.
        wait: seconds for which a call may wait for a thread.
        in_flight: calls of its async code that may be in flight.
        refusals: why which operations are refused, whatever they ask for.
        in_place: whether its async code runs on the serving loop, since the operator vouches for it.
    """

    deadlines: Mapping[str, float]
    workers: int
    queue: int
    wait: float
    in_flight: int
    in_place: bool = False
    refusals: Mapping[str, str] = {}


class Place(Protocol):
    """Runs the operations of one connector: on threads and loops of this process, on the serving loop, elsewhere."""

    def invoke(self, operation: str, offer: Offer, end: float) -> Coroutine[Any, Any, Any]:
        """Run one operation and return its answer as `answers.encode_answer` gives it.

        Args:
            operation: one that the connector has.
            offer: the call.
            end: the moment on the monotonic clock at which the call has to be over.

        Raises:
            ConnectorError: naming plugin and operation, whatever the code raised.
        """
        ...

    def stream(self, operation: str, offer: Offer, end: float) -> AsyncIterator[Any]:
        """Run one operation that may yield its answer piece by piece; as `invoke` otherwise."""
        ...

    async def close(self) -> None:
        """Take no more calls, and let go of what only this connector uses."""
        ...


class Bulkhead:
    """A connector's bulkhead: its limits, its threads, the contexts that its code runs in, and its calls in flight."""

    __slots__ = ("_contexts", "_names", "_noted", "_scrub", "_subjects", "description", "in_flight", "limits", "pool")

    def __init__(
        self, description: ConnectorDescription, limits: CallLimits, context: contextvars.Context, scrub: Scrub
    ) -> None:
        self.description = description
        self.limits = limits
        self._scrub = scrub
        self._noted: set[str] = set()
        self.in_flight = 0
        name, plugin = description.name, description.plugin.name
        self.pool = BlockingPool(
            f"the thread pool of connector {name!r} (plugin {plugin!r})", limits.workers, limits.queue
        )
        self._subjects = {operation: Subject(plugin, name, operation) for operation in description.operations}
        self._contexts = {
            operation: self._made_context(context, subject) for operation, subject in self._subjects.items()
        }
        self._names = {
            operation: f"plugin {plugin!r}, connector {name!r}, {operation}()" for operation in description.operations
        }

    def new_context(self, operation: str) -> contextvars.Context:
        """Return a context for one call.

        It is the host's, with this connector's threads for `asyncio.to_thread`, and with what the call is about, which lines
        of the log carry.
        """
        context = self._contexts[operation].copy()
        if (request := REQUEST.get()) is not None:
            context.run(REQUEST.set, request)
        return context

    def subject(self, operation: str) -> Subject:
        """Return whose code an operation is."""
        return self._subjects[operation]

    def task_name(self, operation: str) -> str:
        """Return the name of a task of this connector, for those who look for the culprit of a stall."""
        return self._names[operation]

    def enter(self, operation: str) -> None:
        """Count a call of async code that begins; threads are counted by the pool.

        Raises:
            CapacityExceededError: as many as may be are in flight.
        """
        if self.in_flight >= self.limits.in_flight:
            raise CapacityExceededError(
                f"connector {self.description.name!r} has {self.in_flight} calls in flight, as many as it may "
                "(setting: in_flight)",
                plugin=self.description.plugin.name,
                operation=operation,
            )
        self.in_flight += 1

    def leave(self) -> None:
        """Count a call of async code that has ended."""
        self.in_flight -= 1

    def note(self, kind: str, text: str) -> None:
        """Warn of something in this connector's answers, once for each kind; called where its code runs."""
        if kind not in self._noted:
            self._noted.add(kind)
            _log.warning("connector %s: %s", self.description.name, text)

    def translated(self, operation: str, error: BaseException) -> ConnectorError:
        """Return what an operation's code raised as an error of this package, with no context but its cause."""
        translated = translate(error, self.description.plugin.name, operation, self._scrub)
        translated.__suppress_context__ = True
        return translated

    def _made_context(self, base: contextvars.Context, subject: Subject) -> contextvars.Context:
        context = base.copy()
        context.run(POOL_OF_CALL.set, self.pool)
        context.run(CODE.set, subject)
        return context
