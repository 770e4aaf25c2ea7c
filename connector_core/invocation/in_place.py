"""Places on the serving loop, for plugins that the operator vouches for: they save the hop to another thread."""

import asyncio
import contextvars
import logging
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, NamedTuple, TypeVar

from connector_core.errors import CapacityExceededError, PluginCallError
from connector_core.inspection import InspectedConnector, Method
from connector_core.invocation.faults import described, too_late
from connector_core.invocation.fork_guard import end_children_on
from connector_core.invocation.loops import Mailbox, RunningLoop
from connector_core.invocation.offers import Offer
from connector_core.invocation.places import Bulkhead
from connector_core.invocation.pools import POOL_OF_CALL, PoolExecutor
from connector_core.invocation.runtime import LocalRuntime
from connector_core.invocation.spans import CodeSpan, run_within
from connector_core.invocation.threaded import ThreadedPlace
from connector_core.observing.call_records import CODE, Subject
from connector_core.secrets import use_source

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Containment:
    """Has tasks that plugin code makes on a loop end alone, whatever they raise.

    asyncio lets SystemExit and KeyboardInterrupt of a task through its loop, on purpose, so that they end the program.

    While plugin code takes a step, the loop has a task factory of ours, and none in between: gRPC makes several tasks for each
    call, each of which would pay for it.

    Args:
        loop: the serving one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_within = False

    def step(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call what takes a step in plugin code."""
        if self._is_within:
            return function(*arguments)
        loop = self._loop
        usual = loop.get_task_factory()
        loop.set_task_factory(self._make if usual is None else partial(self._make_by, usual))
        self._is_within = True
        try:
            return function(*arguments)
        finally:
            self._is_within = False
            loop.set_task_factory(usual)

    def contained(self, coro: Coroutine[Any, Any, T], whose: Subject) -> Coroutine[Any, Any, T]:
        """Return a coroutine, for a task, that ends alone, as the tasks do that it makes."""
        return _Contained(self, coro, whose)

    def _make(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Future[Any]:
        return asyncio.Task(self._held(coro), loop=loop, **options)

    def _make_by(
        self,
        factory: Callable[..., asyncio.Future[Any]],
        loop: asyncio.AbstractEventLoop,
        coro: Any,
        **options: Any,
    ) -> asyncio.Future[Any]:
        """As `_make`, by the factory of the program around the host."""
        return factory(loop, self._held(coro), **options)

    def _held(self, coro: Any) -> Any:
        whose = CODE.get()
        return coro if whose is None or not isinstance(coro, Coroutine) else self.contained(coro, whose)


class _Contained(Coroutine[Any, Any, T]):
    """A coroutine that turns what would end the program into an error; it adds no frame, and closes like the one within."""

    __slots__ = ("_containment", "_coro", "_whose")

    def __init__(self, containment: Containment, coro: Coroutine[Any, Any, T], whose: Subject) -> None:
        self._containment = containment
        self._coro = coro
        self._whose = whose

    def send(self, value: Any) -> Any:
        """Go on."""
        try:
            return self._containment.step(self._coro.send, value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise self._error(error) from error

    def throw(self, *error: Any) -> Any:
        """Go on with an exception."""
        try:
            return self._containment.step(self._coro.throw, *error)
        except (SystemExit, KeyboardInterrupt) as raised:
            raise self._error(raised) from raised

    def close(self) -> None:
        """End it where it stands."""
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coro.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)  # what asyncio shows of a task, such as `cr_code`

    def _error(self, error: BaseException) -> PluginCallError:
        whose, said = self._whose, described(error)
        _log.error(
            "task of a plugin tried to end the host; it ended alone: plugin %r, connector %r, made by %s(): %s",
            whose.plugin,
            whose.connector,
            whose.operation,
            said,
            exc_info=error,
        )
        return PluginCallError(f"a task of the plugin's own tried to end the host: {said}")


class HomeLoop(NamedTuple):
    """The loop that serves, for code that runs in place."""

    loop: asyncio.AbstractEventLoop
    mailbox: Mailbox
    containment: Containment

    @classmethod
    def of(cls, runtime: LocalRuntime) -> "HomeLoop":
        """Return it, and have `asyncio.to_thread` on it use threads of ours, since plugin code runs there."""
        end_children_on(runtime.serving_loop)
        runtime.serving_loop.set_default_executor(PoolExecutor(None))
        return cls(runtime.serving_loop, runtime.home, Containment(runtime.serving_loop))

    def make_task(self, work: Coroutine[Any, Any, None], context: contextvars.Context, name: str) -> asyncio.Task[None]:
        """Make a task of plugin code, which ends alone, as the tasks do that it makes."""
        whose = context.get(CODE) or Subject(name)
        return self.loop.create_task(self.containment.contained(work, whose), context=context, name=name)


class InPlace(ThreadedPlace):
    """Runs async code of one connector on the serving loop; its blocking code runs as in any other place.

    Args:
        inspected: the connector.
        bulkhead: its share of this process.
        runtime: what the places of this process share.
        home: the serving loop, with what keeps plugin code from ending it.
    """

    def __init__(
        self, inspected: InspectedConnector, bulkhead: Bulkhead, runtime: LocalRuntime, home: HomeLoop
    ) -> None:
        super().__init__(inspected, bulkhead, runtime)
        self._home = home

    def _route(self, method: Method, offer: Offer, end: float, span: CodeSpan | None) -> Coroutine[Any, Any, Any]:
        if method.kind.is_blocking:
            return super()._route(method, offer, end, span)
        use_source(self._runtime.secrets)
        call = partial(self._call_async, method, offer)
        work = call() if span is None else run_within(span, call)
        return _run_in_place(self._bulkhead, method.name, work, end, self._home.containment)

    def _loop(self) -> RunningLoop:
        return self._home


async def _run_in_place(
    bulkhead: Bulkhead, operation: str, work: Coroutine[Any, Any, Any], end: float, containment: Containment
) -> Any:
    """Run async code on the serving loop, until `end` on the monotonic clock, which is the loop's as well."""
    try:
        bulkhead.enter(operation)
    except CapacityExceededError:
        work.close()
        raise
    token, code = POOL_OF_CALL.set(bulkhead.pool), CODE.set(bulkhead.subject(operation))
    deadline = None
    task = asyncio.current_task()
    if task is not None:  # it is the host's own, but a report of a blocked loop has to name the plugin's code
        task.set_name(bulkhead.task_name(operation))
    try:
        try:
            first_wait = containment.step(work.send, None)
        except StopIteration as ended:  # it had to wait for nothing, as cached answers do: no timer was needed
            return ended.value
        async with asyncio.timeout_at(end) as deadline:
            return await _rest(work, first_wait, containment)
    except BaseException as error:
        if isinstance(error, TimeoutError) and deadline is not None and deadline.expired():
            raise too_late(bulkhead.description.plugin.name, operation) from None
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        raise bulkhead.translated(operation, error)  # noqa: B904 - in no variable of a frame that its traceback knows
    finally:
        POOL_OF_CALL.reset(token)
        CODE.reset(code)
        bulkhead.leave()
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
