"""Callbacks handed to an event loop from other threads, with one wake-up for a whole batch."""

import asyncio
from collections import deque
from collections.abc import Callable


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
            return  # whoever set this will deliver after us: delivery resets it before it looks into the box
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
                self._loop.call_exception_handler({"message": "a posted callback failed", "exception": error})
