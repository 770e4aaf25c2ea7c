"""One RPC on the loop, from its arrival to its status."""

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple, NoReturn

import grpc.aio
from grpc._cython.cygrpc import (
    ReceiveCloseOnServerOperation,
    ReceiveMessageOperation,
    SendMessageOperation,
    SendStatusFromServerOperation,
)

from connector_core.transport.arrivals import Arrivals
from connector_core.transport.held_statuses import HeldStatuses
from connector_core.transport.methods import Method, prepare
from connector_core.transport.receiving import Requests, cancel_again
from connector_core.transport.sending import NO_FLAGS, AnswerStream, Outbox, send_one

_log = logging.getLogger(__name__)

_NO_DEADLINE = 1e12
"""Seconds since the epoch that no deadline reaches; core gives a time in the far future, or an infinite one, for none."""

_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(rb"[ -~]*")
_BYTES = re.compile(rb".*", re.DOTALL)
"""Metadata that core sends; how it refuses other metadata differs by its version."""

Metadata = Sequence[tuple[str, str | bytes]]


class CallDetails(NamedTuple):
    """The details of a call by which handlers are found, and which interceptors see."""

    method: str
    invocation_metadata: Metadata


class _Status(NamedTuple):
    code: int
    details: bytes
    trailing_metadata: Metadata | None = None


def _status(code: grpc.StatusCode, details: str, trailing_metadata: Metadata | None = None) -> _Status:
    for key, value in trailing_metadata or ():
        raw = value.encode() if isinstance(value, str) else value
        if not _KEY.fullmatch(key) or not (_BYTES if key.endswith("-bin") else _TEXT).fullmatch(raw):
            raise ValueError(f"metadata cannot have {value!r} under {key!r}")
    return _Status(code.value[0], details.encode(errors="replace"), trailing_metadata)


_OK = _status(grpc.StatusCode.OK, "")
_CANCELLED = _status(grpc.StatusCode.CANCELLED, "the call was cancelled on the host")
_UNIMPLEMENTED = _status(grpc.StatusCode.UNIMPLEMENTED, "this host serves no such method")
_NO_REQUEST = _status(grpc.StatusCode.INTERNAL, "the call ended before its request had come")
_BAD_REQUEST = _status(grpc.StatusCode.INTERNAL, "the request's bytes are not a message of this method")
_FAILED = _status(grpc.StatusCode.UNKNOWN, "internal error in the host; see its log")


def shown(name: bytes) -> str:
    """Return a method's name, which a client may have put in no text at all."""
    return name.decode(errors="replace")


class Common(NamedTuple):
    """The state that the calls of a server share.

    Attributes:
        loop: what they run on.
        outbox: sends what they have to say.
        interceptors: wrap what answers them; the first is the outermost.
        outliving: keeps the tasks of those that are over, whose client has gone.
        held: keeps their statuses back while the server stops.
        arrivals: cuts those whose request does not come.
    """

    loop: asyncio.AbstractEventLoop
    outbox: Outbox
    interceptors: Sequence[grpc.aio.ServerInterceptor]
    outliving: set[asyncio.Task[None]]
    held: HeldStatuses
    arrivals: Arrivals


class Call:
    """One RPC; to servicers, the context as `grpc.aio` has it, as far as they use it.

    Args:
        event: its arrival.
        method: what answers it; `None` where there is no such method.
        server: what it has in common with the server's other calls.
    """

    __slots__ = (
        "_aborted",
        "_answers",
        "_core",
        "_deadline",
        "_is_over",
        "_metadata",
        "_method",
        "_name",
        "_requests",
        "_server",
        "_task",
        "_trailing",
    )

    def __init__(self, event: Any, method: Method | None, server: Common) -> None:
        self._core = core = event.call
        details = event.call_details
        self._name: bytes = details.method
        self._deadline: float = details.deadline
        self._metadata: Metadata = event.invocation_metadata
        self._method = method
        self._server = server
        self._task: asyncio.Task[None] | None = None
        self._requests: Requests | None = None
        self._answers: AnswerStream | None = None
        self._aborted: _Status | None = None
        self._trailing: Metadata | None = None
        self._is_over = False
        core.start_server_batch((ReceiveCloseOnServerOperation(NO_FLAGS),), self._closed)
        if method is None:
            self._end(_UNIMPLEMENTED)
        elif method.streams_in:
            server.arrivals.add(self)
            read = partial(self._read, method.read) if method.read else None
            self._requests = Requests(core, server.outbox, read, self._arrived)
            self._answer(self._requests)
        else:
            server.arrivals.add(self)
            core.start_server_batch((ReceiveMessageOperation(NO_FLAGS),), self._received)

    def time_remaining(self) -> float | None:
        """Return the seconds until the client's deadline, `None` where it set none."""
        deadline = self._deadline
        if deadline > _NO_DEADLINE:
            return None
        left = deadline - time.time()
        return left if left > 0 else 0.0

    def invocation_metadata(self) -> Metadata:
        """Return what the client sent besides the request."""
        return self._metadata

    def peer(self) -> str:
        """Return the client's address, as gRPC writes it."""
        address: bytes = self._core.peer()
        return address.decode()

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Send this with the status of a call that ends OK.

        Raises:
            TypeError, ValueError: the metadata cannot be sent.
        """
        self._trailing = _status(grpc.StatusCode.OK, "", metadata).trailing_metadata

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata | None = None
    ) -> NoReturn:
        """End the call with a status.

        Raises:
            grpc.aio.AbortError: always, but for
            TypeError, ValueError: the metadata cannot be sent.
        """
        self._aborted = _status(code, details, trailing_metadata)
        self._end(self._aborted)  # at once: what the handler still cleans up is not the client's to wait for
        raise grpc.aio.AbortError

    async def write(self, answer: Any) -> None:
        """Send one of many answers; return when the one before it is on its way."""
        if self._is_over:
            await cancel_again()
        if self._answers is None:
            self._arrived()  # as far as it is needed
            self._answers = AnswerStream(self._core, self._server.outbox)
        await self._answers.write(self._message(answer))

    def cut_late(self, seconds: float) -> None:
        """End it: its request did not arrive in so many seconds."""
        text = f"the request did not arrive within {seconds:g} s (setting: request_seconds)"
        self._aborted = _status(grpc.StatusCode.DEADLINE_EXCEEDED, text)
        self._end(self._aborted)
        if self._task is not None:
            self._task.cancel()

    def _arrived(self) -> None:
        self._server.arrivals.discard(self)

    def _received(self, event: Any) -> None:
        self._arrived()
        raw = event.batch_operations[0].message()
        if self._is_over:  # its client went before the request was looked at
            return
        if raw is None:
            self._end(_NO_REQUEST)
        else:
            self._answer(raw)

    def _closed(self, _event: Any) -> None:
        """The call is over for core; where no status was sent, its client has gone, or its deadline has passed."""
        task, is_over = self._task, self._is_over
        self._is_over = True
        self._arrived()
        if self._requests is not None:
            self._requests.end()
        if task is not None and not task.done():
            self._server.outliving.add(task)
            task.add_done_callback(self._server.outliving.discard)
            if not is_over:
                task.cancel()

    def _answer(self, given: Any) -> None:
        self._task = asyncio.Task(self._run(given), loop=self._server.loop)

    async def _run(self, given: Any) -> None:
        method = self._method
        assert method is not None  # noqa: S101 - calls of no method are not answered by a task
        try:
            if self._server.interceptors:
                method = self._method = await self._intercepted(method)
            if method.read is not None and not method.streams_in:
                given = self._read(method.read, given)
            if method.streams_out:
                await self._stream(method, given)
                self._end(_OK)
                return
            answer = await method.behavior(given, self)
            message = self._message(answer)
        except BaseException as error:
            self._failed(error)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
        else:
            self._end(_OK, message)

    async def _stream(self, method: Method, given: Any) -> None:
        if not method.is_generator:
            await method.behavior(given, self)
            return
        async with aclosing(method.behavior(given, self)) as answers:
            async for answer in answers:
                await self.write(answer)

    def _message(self, answer: Any) -> Any:
        method = self._method
        raw = answer if method is None or method.write is None else method.write(answer)
        return SendMessageOperation(raw, NO_FLAGS)

    def _read(self, read: Any, raw: bytes) -> Any:
        try:
            return read(raw)
        except Exception:
            self._aborted = _BAD_REQUEST
            raise

    async def _intercepted(self, method: Method) -> Method:
        async def continue_at(place: int, details: Any) -> Any:
            if place == len(self._server.interceptors):
                return method.handler
            return await self._server.interceptors[place].intercept_service(partial(continue_at, place + 1), details)

        return prepare(await continue_at(0, CallDetails(shown(self._name), self._metadata)))

    def _failed(self, error: BaseException) -> None:
        if self._aborted is not None:
            self._end(self._aborted)
        elif isinstance(error, asyncio.CancelledError):
            self._end(_CANCELLED)
        else:
            _log.error("%s failed", shown(self._name), exc_info=error)
            self._end(_FAILED)

    def _end(self, status: _Status, *messages: Any) -> None:
        if self._is_over:
            return
        self._is_over = True
        code, details, trailing_metadata = self._aborted or status
        last = SendStatusFromServerOperation(trailing_metadata or self._trailing, code, details, NO_FLAGS)
        if self._server.held.is_on:
            self._end_late(last, *messages)
        elif self._answers is None:
            send_one(self._core, self._server.outbox, *messages, last)
        else:
            self._answers.end(last)

    def _end_late(self, last: Any, *messages: Any) -> None:
        if self._answers is None:
            self._answers = AnswerStream(self._core, self._server.outbox)
        for message in messages:  # of a call with one answer, which has sent none before
            self._answers.put(message)
        self._server.held.add(self.peer(), partial(self._answers.end, last))
