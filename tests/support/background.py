"""An async context kept open on a loop in a thread, for tests that are not async themselves."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60


@contextmanager
def in_background(context: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter an async context on a loop in a thread, give what it gives, and leave it when the block ends."""
    entered: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def keep_open() -> None:
        leave = asyncio.Event()
        async with context as value:
            entered.set_result((value, asyncio.get_running_loop(), leave))
            await leave.wait()

    def run() -> None:
        try:
            asyncio.run(keep_open())
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)

    thread = threading.Thread(target=run, name="in background")
    thread.start()
    value, loop, leave = entered.result(PATIENCE)
    try:
        yield value
    finally:
        loop.call_soon_threadsafe(leave.set)
        thread.join(PATIENCE)
