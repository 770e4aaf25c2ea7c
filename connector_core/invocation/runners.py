"""One piece of plugin code under way: begun from the serving loop, run elsewhere, answered there once."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from connector_core.errors import CapacityExceededError
from connector_core.invocation.loops import Mailbox, RunningLoop
from connector_core.invocation.pools import BlockingPool

Outcome = tuple[Any, BaseException | None]
Translate = Callable[[BaseException], BaseException]


def _as_it_is(error: BaseException) -> BaseException:
    return error


class Runner(Protocol):
    """Runs one piece of plugin code and can be asked to give it up."""

    def begin(self, finish: Callable[[Outcome], None]) -> None:
        """Begin; call `finish` from whatever thread when it is over."""

    def give_up(self) -> bool:
        """Give up the wait; return whether the code may still be running."""

    def withdraw(self) -> bool:
        """Give it up if it has not begun; return whether it had not."""


class LoopRunner:
    """Runs a coroutine function as a task on a plugin's loop; giving up cancels it."""

    __slots__ = ("_cancelled", "_context", "_finish", "_function", "_has_begun", "_name", "_task", "_where")

    def __init__(
        self, where: RunningLoop, function: Callable[[], Awaitable[Any]], context: contextvars.Context, name: str
    ) -> None:
        self._where = where
        self._name = name
        self._function = function
        self._context = context
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._has_begun = False

    def begin(self, finish: Callable[[Outcome], None]) -> None:
        """Post the start to the plugin's loop."""
        self._finish = finish
        self._where.mailbox.post(self._start)

    def give_up(self) -> bool:
        """Cancel the task; it may go on for a while, or for good if it ignores that."""
        self._cancelled = True
        self._where.mailbox.post(self._cancel)
        return True

    def withdraw(self) -> bool:
        """Return False: work on an event loop never waits in a queue."""
        return False

    def _start(self) -> None:
        if self._cancelled:
            self._finish((None, asyncio.CancelledError()))
            return
        self._task = self._where.make_task(self._work(), self._context, self._name)

    def _cancel(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        if not self._has_begun:  # a task that is cancelled before its first step runs none of its code
            self._finish((None, asyncio.CancelledError()))

    async def _work(self) -> None:
        self._has_begun = True
        try:
            answer = await self._function()
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a call must end that call alone
            self._finish((None, error))
        else:
            self._finish((answer, None))


class PoolRunner:
    """Runs a blocking function in a thread of a connector's pool; what has begun cannot be stopped."""

    __slots__ = ("_finish", "_function", "_is_bounded", "_outcome", "_pool")

    def __init__(self, pool: BlockingPool, function: Callable[[], Any], *, is_bounded: bool = True) -> None:
        self._pool = pool
        self._function = function
        self._is_bounded = is_bounded
        self._outcome: Outcome = (None, None)

    def begin(self, finish: Callable[[Outcome], None]) -> None:
        """Submit to the pool."""
        self._finish = finish
        self._pool.submit(self._work, self._tell, is_bounded=self._is_bounded)

    def give_up(self) -> bool:
        """Withdraw what still waits for a thread."""
        return not self.withdraw()

    def withdraw(self) -> bool:
        """Take it back from the queue."""
        return self._pool.withdraw(self._work)

    def _work(self) -> None:
        try:
            self._outcome = (self._function(), None)
        except BaseException as error:  # noqa: BLE001 - as above
            self._outcome = (None, error)

    def _tell(self) -> None:
        outcome, self._outcome = self._outcome, (None, None)  # or an error knows this, and this the error
        self._finish(outcome)


class Call:
    """Waits on the serving loop for what a runner does elsewhere.

    `on_end` is called on the serving loop when the code itself has ended, with whether it was given up before that.
    `translate` turns what the code raised into what `CodeError` carries; it is called where the code ran.
    """

    __slots__ = ("_future", "_home", "_is_abandoned", "_is_settled", "_on_end", "_runner", "_translate")

    def __init__(
        self, home: Mailbox, runner: Runner, on_end: Callable[[bool], None], translate: Translate = _as_it_is
    ) -> None:
        self._home = home
        self._runner = runner
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._is_abandoned = False
        self._is_settled = False
        self._on_end = on_end
        self._translate = translate

    async def wait(self) -> Any:
        """Run to the end and return the answer.

        Raises:
            CodeError: with what the code raised.
            TimeoutError: `expire` was called first.
            CapacityExceededError: the queue is full, or `refuse_if_waiting` was called.
        """
        try:
            self._runner.begin(self._finish)
        except BaseException:
            self._on_end(False)
            raise
        try:
            return await self._future
        finally:
            del self  # or an error's traceback knows this call, which knows the future, which knows the error

    def expire(self) -> None:
        """Let `wait` raise TimeoutError, unless it is over already."""
        if not self._future.done():
            self._future.set_exception(TimeoutError())

    def refuse_if_waiting(self, reason: str) -> None:
        """Let `wait` raise CapacityExceededError if the code has not begun."""
        if not self._future.done() and self._runner.withdraw():
            self._is_settled = True
            self._on_end(False)
            self._future.set_exception(CapacityExceededError(reason))

    def give_up(self) -> bool:
        """Stop waiting; return whether plugin code may run on."""
        if self._is_settled:  # just now: the waiter had no turn yet
            return False
        self._is_abandoned = self._runner.give_up()
        if not self._is_abandoned:
            self._on_end(False)
        return self._is_abandoned

    def _finish(self, outcome: Outcome) -> None:
        answer, error = outcome
        if error is not None:
            outcome = (answer, self._translate(error))
        self._home.post(partial(self._settle, outcome))

    def _settle(self, outcome: Outcome) -> None:
        self._is_settled = True
        del self._runner  # knows this call: both would wait for the garbage collector, with all that it was about
        self._on_end(self._is_abandoned)
        if self._future.done():
            return
        answer, error = outcome
        if error is None:
            self._future.set_result(answer)
        else:
            self._future.set_exception(CodeError(error))


class CodeError(Exception):
    """Carries what plugin code raised through a future, which takes neither SystemExit nor StopIteration."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()  # without the error's text: authors' exceptions may not even be printable
        self._error: BaseException | None = error

    def take(self) -> BaseException:
        """Return the error, once, to be raised in place of this: neither may know the other then."""
        error, self._error = self._error, None
        assert error is not None  # noqa: S101 - it is taken where it arrives
        return error
