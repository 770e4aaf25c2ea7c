"""Answers to clients: one with its status in one go, or one of many at a time."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from grpc._cython.cygrpc import SendInitialMetadataOperation

NO_FLAGS = 0


class Outbox:
    """Sends what the calls of one turn of the loop have to say together, in the next.

    Sending goes deep into core. Calls that are worked on by turns with it find the processor's caches taken, and clients
    that are answered one by one send their next calls one by one.

    Attributes:
        loop: the server's.
        is_closed: whether nothing may be begun any more.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_closed = False
        self._waiting: list[Callable[[], int]] = []

    def add(self, send: Callable[[], int]) -> None:
        """Have this called; it returns 0 where core has taken what was to be sent."""
        if not self._waiting:
            self.loop.call_soon(self._send)
        self._waiting.append(send)

    def close(self) -> None:
        """Drop what is not sent: all calls are over, and core ends the process that begins something on a closed queue."""
        self.is_closed = True

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self.is_closed:
            return
        for send in waiting:
            try:
                refusal = send()
            except Exception as error:  # noqa: BLE001 - one call's trouble is not the others'
                self.loop.call_exception_handler({"message": "an answer could not be sent", "exception": error})
            else:
                if refusal:
                    self.loop.call_exception_handler({"message": f"gRPC's core refused to send: error {refusal}"})


def send_one(core: Any, outbox: Outbox, *answer: Any) -> None:
    """Send all of a call's answer: its message, if it has one, and its status."""
    operations = (SendInitialMetadataOperation(None, NO_FLAGS), *answer)
    outbox.add(partial(core.start_server_batch, operations, _ended))


class AnswerStream:
    """Sends many answers, each when the one before it is on its way; the last goes with the status, if that is there in time.

    Args:
        core: the call.
        outbox: takes what is to be sent.
    """

    __slots__ = ("_core", "_has_begun", "_is_sending", "_message", "_outbox", "_status", "_writer")

    def __init__(self, core: Any, outbox: Outbox) -> None:
        self._core = core
        self._outbox = outbox
        self._has_begun = self._is_sending = False
        self._message: Any = None
        self._status: Any = None
        self._writer: asyncio.Future[None] | None = None

    async def write(self, message: Any) -> None:
        """Send a message, once the one before it is on its way.

        To a client that has gone nothing is ever on its way: then this waits until its task is cancelled.
        """
        while self._message is not None or self._is_sending:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer
        self.put(message)

    def put(self, message: Any) -> None:
        """Send a message, before which none waits."""
        self._message = message
        self._outbox.add(self._send)

    def end(self, status: Any) -> None:
        """Send the status, behind what was written."""
        self._status = status
        if self._message is None and not self._is_sending:
            self._outbox.add(self._send)

    def _send(self) -> int:
        operations = [] if self._has_begun else [SendInitialMetadataOperation(None, NO_FLAGS)]
        self._has_begun = True
        if self._message is not None:
            operations.append(self._message)
        is_last = self._status is not None
        if is_last:
            operations.append(self._status)
        self._message, self._is_sending = None, True
        refusal: int = self._core.start_server_batch(tuple(operations), _ended if is_last else self._sent)
        return refusal

    def _sent(self, event: Any) -> None:
        if not event.success:  # the client has gone
            return
        self._is_sending = False
        if self._status is not None:
            self._outbox.add(self._send)
        elif self._writer is not None and not self._writer.done():
            self._writer.set_result(None)


def _ended(_event: Any) -> None:
    """The status is on its way, or the client has gone, of which its call is told elsewhere."""
