"""A plugin's `asyncio.to_thread`, run in a pool of the host's making."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

from connector_core.invocation.pools import BlockingPool

POOL_OF_CALL: ContextVar[BlockingPool | None] = ContextVar("connector_core.pool_of_call", default=None)
"""The pool of the connector whose call runs."""

P = ParamSpec("P")
T = TypeVar("T")


class PoolExecutor(ThreadPoolExecutor):
    """The default executor of a plugin's loop.

    Work goes into the pool of the connector whose call hands it over, so that each keeps to its own threads, and into
    `pool` where no call does.

    It is a `ThreadPoolExecutor` because asyncio takes nothing else, and runs nothing of a plugin's in threads of that: their
    number would be asyncio's choice and not the operator's, and the interpreter would wait at its exit for code that hangs.

    Args:
        pool: for what no call hands over; `None` on the loop that serves, where that is not a plugin's, and is run as ever.
    """

    def __init__(self, pool: BlockingPool | None) -> None:
        super().__init__(thread_name_prefix="asyncio")  # as asyncio calls its own
        self._pool = pool

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in the pool.

        Raises:
            CapacityExceededError: the pool is full.
        """
        pool = POOL_OF_CALL.get() or self._pool
        if pool is None:
            return super().submit(fn, *args, **kwargs)
        future: Future[T] = Future()
        # `asyncio.to_thread` carries the context over by itself, `run_in_executor` does not.
        work = partial(_run, future, partial(copy_context().run, fn, *args, **kwargs))
        future.add_done_callback(lambda ended: ended.cancelled() and pool.withdraw(work))
        pool.submit(work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End idle threads; nothing waits for a plugin's code, and what runs of it is left behind."""
        super().shutdown(wait, cancel_futures=cancel_futures)


def _run(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        answer = function()
    except BaseException as error:  # noqa: BLE001 - the code that awaits it gets whatever it is
        future.set_exception(error)
    else:
        future.set_result(answer)
