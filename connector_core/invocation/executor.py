"""A plugin's `asyncio.to_thread`, run in a pool of the host's making."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
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

    It is a `ThreadPoolExecutor` because asyncio takes nothing else, and runs nothing in threads of that: their number
    would be asyncio's choice and not the operator's, and the interpreter would wait at its exit for code that hangs.
    """

    def __init__(self, pool: BlockingPool) -> None:
        super().__init__(max_workers=1)
        self._pool = pool

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in the pool.

        Raises:
            CapacityExceededError: the pool is full.
        """
        future: Future[T] = Future()
        work = partial(_run, future, partial(fn, *args, **kwargs))
        pool = POOL_OF_CALL.get() or self._pool
        future.add_done_callback(lambda ended: ended.cancelled() and pool.withdraw(work))
        pool.submit(work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing waits: what runs is left behind."""


def _run(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        answer = function()
    except BaseException as error:  # noqa: BLE001 - the code that awaits it gets whatever it is
        future.set_exception(error)
    else:
        future.set_result(answer)
