"""Keeps a task that vouched plugin code made on the serving loop from ending that loop: it ends alone."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

from connector_core.errors import PluginCallError
from connector_core.invocation.faults import described
from connector_core.observing.call_records import CODE, Subject

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
            "plugin %r, connector %r: a task that %s() made on the serving loop tried to end the host; it ended alone: %s",
            whose.plugin,
            whose.connector,
            whose.operation,
            said,
            exc_info=error,
        )
        return PluginCallError(f"a task of the plugin's own tried to end the host: {said}")
