"""Keeps a task that vouched plugin code made on the serving loop from ending that loop: it ends alone."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

from connector_core.calls import CODE, Subject
from connector_core.errors import PluginCallError
from connector_core.invocation.faults import described

_log = logging.getLogger(__name__)

T = TypeVar("T")


def contain_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have tasks that plugin code makes on a loop end alone, whatever they raise; those of others are made as ever.

    asyncio lets SystemExit and KeyboardInterrupt of a task through its loop, on purpose, so that they end the program.
    """
    factory = loop.get_task_factory()
    if factory is None:
        loop.set_task_factory(_make)
    elif factory is not _make and not (isinstance(factory, partial) and factory.func is _make_by):
        loop.set_task_factory(partial(_make_by, factory))


def _make(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Future[Any]:
    if (whose := CODE.get()) is None:  # gRPC makes several for each call
        return asyncio.Task(coro, loop=loop, **options)
    return asyncio.Task(_contained(coro, whose), loop=loop, **options)


def _make_by(
    factory: Callable[..., asyncio.Future[Any]], loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
) -> asyncio.Future[Any]:
    """As `_make`, by the factory of the program around the host."""
    whose = CODE.get()
    return factory(loop, coro if whose is None else _contained(coro, whose), **options)


def _contained(coro: Any, whose: Subject) -> Any:
    return _Contained(coro, whose) if isinstance(coro, Coroutine) else coro


class _Contained(Coroutine[Any, Any, T]):
    """A coroutine that turns what would end the program into an error; it adds no frame, and closes like the one within."""

    __slots__ = ("_coro", "_whose")

    def __init__(self, coro: Coroutine[Any, Any, T], whose: Subject) -> None:
        self._coro = coro
        self._whose = whose

    def send(self, value: Any) -> Any:
        """Go on."""
        try:
            return self._coro.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise self._error(error) from error

    def throw(self, *error: Any) -> Any:
        """Go on with an exception."""
        try:
            return self._coro.throw(*error)
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
