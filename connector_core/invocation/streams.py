"""The pieces of a generator's answer, pulled one at a time, so that a slow reader slows the plugin down."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Protocol

from connector_core.invocation.answers import encode_answer
from connector_core.invocation.pools import BlockingPool
from connector_core.invocation.runners import PoolRunner, Runner

END = object()
"""The answer of a step when the generator has ended."""


class Steps(Protocol):
    """A generator, advanced and closed where its kind of code runs, all in one context."""

    def step(self) -> Runner:
        """Return the runner that gets the next piece as it goes on the wire, or `END`."""

    def close(self) -> Runner:
        """Return the runner that lets the generator clean up."""


class AsyncSteps:
    """An async generator, on the loop of its plugin.

    Args:
        generate: makes the generator; called where its code runs.
        operation: the operation's name.
        run_with: makes the runner of a piece of its code.
    """

    def __init__(
        self,
        generate: Callable[[], AsyncGenerator[Any, None]],
        operation: str,
        run_with: Callable[[Callable[[], Awaitable[Any]]], Runner],
    ) -> None:
        self._generate = generate
        self._operation = operation
        self._run_with = run_with
        self._generator: AsyncGenerator[Any, None] | None = None
        self._turn = asyncio.Lock()

    def step(self) -> Runner:
        """Return the runner that gets the next piece as it goes on the wire, or `END`."""
        return self._run_with(self.advance)

    def close(self) -> Runner:
        """Return the runner that lets the generator clean up, once the step under way has ended."""
        return self._run_with(self.clean_up)

    async def advance(self) -> Any:
        """Get the next piece, or `END`."""
        async with self._turn:
            if self._generator is None:
                self._generator = self._generate()
            try:
                return encode_answer(self._operation, await anext(self._generator))
            except StopAsyncIteration:
                return END

    async def clean_up(self) -> None:
        """Close the generator."""
        async with self._turn:
            if self._generator is not None:
                await self._generator.aclose()


class BlockingSteps:
    """A plain generator, in threads of its connector's pool, in one of them at a time."""

    def __init__(
        self,
        generate: Callable[[], Generator[Any, None, None]],
        operation: str,
        context: contextvars.Context,
        pool: BlockingPool,
    ) -> None:
        self._generate = generate
        self._operation = operation
        self._context = context
        self._pool = pool
        self._generator: Generator[Any, None, None] | None = None
        self._turn = threading.Lock()
        self._is_closing = False

    def step(self) -> Runner:
        """Return the runner that gets the next piece as it goes on the wire, or `END`."""
        return PoolRunner(self._pool, self._step)

    def close(self) -> Runner:
        """Return the runner that lets the generator clean up, at the end of the step under way, which nothing can interrupt."""
        return PoolRunner(self._pool, self._close, is_bounded=False)

    def _step(self) -> Any:
        try:
            with self._turn:  # a context is entered by one thread at a time, too
                return END if self._is_closing else self._context.run(self._advance)
        finally:
            if self._is_closing:
                self._close()

    def _close(self) -> None:
        self._is_closing = True
        if not self._turn.acquire(blocking=False):
            return  # the step under way will see the flag when it has released its turn
        try:
            if self._generator is not None:
                self._context.run(self._generator.close)
        finally:
            self._turn.release()

    def _advance(self) -> Any:
        if self._generator is None:
            self._generator = self._generate()
        try:
            return encode_answer(self._operation, next(self._generator))
        except StopIteration:
            return END
