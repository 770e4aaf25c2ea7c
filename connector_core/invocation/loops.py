"""Event loops: chosen by the settings, run in threads for plugins' async code, and handed callbacks in batches."""

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from connector_core.errors import SettingsError
from connector_core.invocation.fork_guard import end_children_on
from connector_core.invocation.pools import BlockingPool, PoolExecutor

_log = logging.getLogger(__name__)


LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factory(choice: str) -> LoopFactory:
    """Return the factory of event loops: uvloop's if the choice is `uvloop`, or `auto` and it is installed; else asyncio's."""
    if choice != "asyncio":
        try:
            import uvloop
        except ImportError:
            if choice == "uvloop":
                raise SettingsError("loop is uvloop, which is not installed here: pip install uvloop") from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


class Mailbox:
    """Delivers callbacks on one loop, in the order in which they were posted.

    `call_soon_threadsafe` writes to the loop's self-pipe at every call, which costs more than all the rest of a hop;
    here only the first letter of a batch does.
    """

    __slots__ = ("_letters", "_loop", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._letters: deque[Callable[[], None]] = deque()
        self._woken = False

    def post(self, letter: Callable[[], None]) -> None:
        """Have `letter` called on the loop; from any thread. A loop that has closed drops it."""
        self._letters.append(letter)
        if self._woken:
            return  # the poster that set this delivers after us: delivery resets it before it looks into the box
        self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # closed: nobody is left to tell
            self._letters.clear()
            self._woken = False

    def _deliver(self) -> None:
        self._woken = False
        for _ in range(len(self._letters)):
            letter = self._letters.popleft()
            try:
                letter()
            except Exception as error:  # noqa: BLE001 - one bad letter must not lose the others
                self._loop.call_exception_handler({"message": "posted callback failed", "exception": error})


class RunningLoop(Protocol):
    """A loop that runs somewhere, and the way to have something called on it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop."""

    @property
    def mailbox(self) -> Mailbox:
        """Delivers callbacks on it."""

    def make_task(self, work: Coroutine[Any, Any, None], context: contextvars.Context, name: str) -> asyncio.Task[None]:
        """Make a task of plugin code; called on the loop."""


class LoopThread:
    """Runs a loop until it is stopped, whatever the code on it does.

    The thread is a daemon: code that blocks the loop cannot keep the process alive. Nor can what the code hands to
    `asyncio.to_thread`, which runs in `pool`.
    """

    def __init__(self, name: str, new_loop: Callable[[], asyncio.AbstractEventLoop], pool: BlockingPool) -> None:
        self.name = name
        self._loop = new_loop()
        end_children_on(self._loop)
        self._loop.set_default_executor(PoolExecutor(pool))
        self._stopping = False
        self.mailbox = Mailbox(self._loop)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; only code that runs on it may use more of it than `mailbox` offers."""
        return self._loop

    def make_task(self, work: Coroutine[Any, Any, None], context: contextvars.Context, name: str) -> asyncio.Task[None]:
        """Make a task of plugin code; the loop survives whatever it does."""
        return self._loop.create_task(work, context=context, name=name)

    @property
    def identity(self) -> int:
        """The thread's identity."""
        return self._thread.ident or 0

    def stop(self) -> None:
        """Ask the loop to end; what still runs on it is cancelled."""
        self._stopping = True
        self.mailbox.post(self._loop.stop)

    def join(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the thread's end; return whether it ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._stopping and not self._loop.is_closed():
            self._run_once()
        if self._loop.is_closed():
            self._bury()
            return
        self._cancel_all()
        self._loop.close()

    def _bury(self) -> None:
        """Let the calls end that were under way on a loop which a thread of the plugin's own, or a hook, has closed."""
        _log.error(
            "event loop closed by code of %s: its calls fail; the next calls get a new event loop",
            self.name,
        )
        for task in asyncio.all_tasks(self._loop):
            with contextlib.suppress(BaseException):  # it is the plugin's code that ends here
                task.get_coro().close()

    def _run_once(self) -> None:
        try:
            self._loop.run_forever()
        except BaseException:  # noqa: BLE001 - whatever it is, the loop has to go on
            # A task that the plugin started by itself called sys.exit(): asyncio lets that through the loop.
            _log.exception("event loop kept running: code on the event loop of %s tried to stop it", self.name)

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        try:
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        except BaseException:  # noqa: BLE001 - the loop ends in any case
            _log.exception("event loop stopped with an error: code of %s failed during the stop", self.name)
