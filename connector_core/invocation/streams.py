"""The pieces of a generator's answer, asked for one at a time, so that a slow reader slows the plugin down."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any

from connector_core.operations import Operation, encode_answer

END = object()
"""What a step answers when the generator has ended."""


class AsyncSteps:
    """An async generator; its methods run on the plugin's loop."""

    def __init__(self, operation: Operation, arguments: Mapping[str, Any]) -> None:
        self._operation = operation
        self._arguments = arguments
        self._generator: AsyncGenerator[Any, None] | None = None
        self._turn = asyncio.Lock()

    async def next(self) -> Any:
        """Return the next piece as it goes on the wire, or `END`."""
        async with self._turn:
            if self._generator is None:
                self._generator = self._operation.function(**self._operation.arguments(self._arguments))
            try:
                return encode_answer(self._operation.name, await anext(self._generator), self._arguments)
            except StopAsyncIteration:
                return END

    async def close(self) -> None:
        """Let the generator clean up, once the step under way has ended."""
        async with self._turn:
            if self._generator is not None:
                await self._generator.aclose()


class BlockingSteps:
    """A plain generator; its methods run in threads of the connector's pool, one at a time."""

    def __init__(self, operation: Operation, arguments: Mapping[str, Any]) -> None:
        self._operation = operation
        self._arguments = arguments
        self._generator: Generator[Any, None, None] | None = None
        self._turn = threading.Lock()
        self._closing = False

    def next(self) -> Any:
        """Return the next piece as it goes on the wire, or `END`."""
        with self._turn:
            if self._generator is None:
                self._generator = self._operation.function(**self._operation.arguments(self._arguments))
            try:
                return encode_answer(self._operation.name, next(self._generator), self._arguments)
            except StopIteration:
                return END
            finally:
                if self._closing:
                    self._generator.close()

    def close(self) -> None:
        """Let the generator clean up now, or else at the end of the step under way, which nothing can interrupt."""
        self._closing = True
        if self._turn.acquire(blocking=False):
            try:
                if self._generator is not None:
                    self._generator.close()
            finally:
                self._turn.release()
