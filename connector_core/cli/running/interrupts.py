"""Ctrl-C, counted: the first one asks for an orderly end, the second one for an end at once."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The user wants no more of it."""


class Interrupts:
    """Counts SIGINT and SIGTERM while it is `listening`."""

    def __init__(self) -> None:
        self._first, self._second = asyncio.Event(), asyncio.Event()
        self._last = signal.SIGINT

    @property
    def is_interrupted(self) -> bool:
        """Whether there was one."""
        return self._first.is_set()

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that such a signal ended."""
        return 128 + self._last

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals of the running loop until the block ends."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.add, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def add(self, number: signal.Signals) -> None:
        """Count one."""
        self._last = number
        (self._second if self._first.is_set() else self._first).set()

    async def before_first(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` does, unless a Ctrl-C comes before that and cancels it.

        Raises:
            Interrupted: it came before.
        """
        return await _before(self._first, work)

    async def before_second(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` does, unless a second Ctrl-C comes before that and cancels it.

        Raises:
            Interrupted: it came before.
        """
        return await _before(self._second, work)


async def _before(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    if event.is_set():
        work.close()
        raise Interrupted
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Interrupted
        return working.result()
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
