"""Forked children of this process that would come back from plugin code: they are ended, before they go on as a second host."""

import asyncio
import os
import threading
import weakref
from collections import deque
from typing import NoReturn

_CODE = 70
_LAST_WORDS = (
    b"connector-host: a child that plugin code forked came back from that code; it is ended: end it with os._exit, "
    b"or start a program with subprocess\n"
)


class _Loops:
    """The loops that plugin code runs on: module state, since Python's hooks of forks are the process'."""

    def __init__(self) -> None:
        self._loops = weakref.WeakSet[asyncio.AbstractEventLoop]()
        self._forking = threading.local()
        self._is_hooked = False

    def add(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loops.add(loop)
        if not self._is_hooked:
            self._is_hooked = True
            os.register_at_fork(before=self._before, after_in_child=self._in_child)

    def _before(self) -> None:
        self._forking.loop = asyncio._get_running_loop()  # in the child, asyncio knows of none

    def _in_child(self) -> None:
        loop = self._forking.loop
        if loop is None or loop not in self._loops:
            return
        # Its next step is the last one; on asyncio's own loop nothing else of this turn is run twice either.
        ready = getattr(loop, "_ready", None)
        if isinstance(ready, deque):
            ready.clear()
        loop.call_soon(_end)


_LOOPS = _Loops()


def end_children_on(loop: asyncio.AbstractEventLoop) -> None:
    """Have children that code on this loop forks from now on ended, when that code lets the loop go on."""
    _LOOPS.add(loop)


def end_if_child_of(process: int) -> None:
    """End this process, if it is not the one with this number, in which its threads were started."""
    if os.getpid() != process:
        _end()


def _end() -> NoReturn:
    os.write(2, _LAST_WORDS)
    os._exit(_CODE)
