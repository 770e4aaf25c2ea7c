"""Calls of the servicers from the loop that serves HTTP: they run on the loop that serves gRPC, and drain with its calls."""

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager, nullcontext
from typing import Any, NoReturn, TypeVar

from google.protobuf.descriptor import MethodDescriptor
from grpc import StatusCode

_RICH_STATUS = "grpc-status-details-bin"
_END = None

_ROOM = 16
"""Messages of a stream that may wait for a slow reader before the connector's code waits too."""

_BACKSTOP = 0.1
"""Seconds after its deadline at which a call that has not ended by itself is cut; servicers keep deadlines themselves."""

_SECONDS_TO_CANCEL = 5.0

T = TypeVar("T")

NO_HEADERS: Mapping[str, str] = {}
TraceCall = Callable[[MethodDescriptor, Mapping[str, str]], AbstractContextManager[object]]
"""Makes a span of a call, within the trace that the request's headers name; entered on the loop that serves gRPC."""


class CallFailed(Exception):  # noqa: N818 - what a call ended with; no error of this host
    """A call ended with a status other than OK.

    Args:
        code: its code.
        details: its text.
        rich: a serialised `google.rpc.Status` with more about it, if there is one.
    """

    def __init__(self, code: StatusCode, details: str, rich: bytes = b"") -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.rich = rich


class CallContext:
    """The parts of gRPC's context that the servicers use."""

    __slots__ = ("_end", "trailing")

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout
        self.trailing: Mapping[str, str] = NO_HEADERS

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        """Keep what goes along with an answer that is OK."""
        self.trailing = dict(metadata)

    def time_remaining(self) -> float | None:
        """Return the seconds until the client's deadline, `None` where it set none."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    async def abort(
        self, code: StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, bytes]] = ()
    ) -> NoReturn:
        """End the call.

        Raises:
            CallFailed: always.
        """
        raise CallFailed(code, details, dict(trailing_metadata).get(_RICH_STATUS, b""))


class ServedCalls:
    """Makes calls as gRPC would, with raw messages both ways; `unary`, `stream` and `ask` are for other loops.

    Make it on the loop that serves gRPC.

    Args:
        servicers: by the full name of their service.
        trace: makes spans, where there are traces.
    """

    def __init__(self, servicers: Mapping[str, object], trace: TraceCall | None = None) -> None:
        self._servicers = servicers
        self._trace: TraceCall = trace or (lambda _method, _headers: nullcontext())
        self._loop = asyncio.get_running_loop()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._is_draining = False

    async def unary(
        self, method: MethodDescriptor, raw: bytes, timeout: float | None, headers: Mapping[str, str] = NO_HEADERS
    ) -> tuple[bytes, Mapping[str, str]]:
        """Call a method with one answer; return that, and the trailing metadata.

        Args:
            method: which.
            raw: its request.
            timeout: the caller's deadline, in seconds from now.
            headers: what the caller sent besides, which may name a trace.

        Raises:
            CallFailed: it did not answer OK.
        """
        return await self._on_serving_loop(self._call(method, raw, timeout, headers))

    async def stream(
        self,
        method: MethodDescriptor,
        raw: bytes | Sequence[bytes],
        timeout: float | None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> AsyncGenerator[bytes, None]:
        """Call a method with a stream of answers, as `unary`; a sequence is a stream of requests.

        Raises:
            CallFailed: it did not end OK.
        """
        arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        room = asyncio.Semaphore(_ROOM)

        async def deliver(answer: bytes) -> None:
            await room.acquire()
            arrived.put_nowait(answer)

        here = asyncio.get_running_loop()

        async def hand_over(answer: bytes) -> None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(deliver(answer), here))

        def end(call: asyncio.Task[None]) -> None:
            if not call.cancelled():
                call.exception()  # looked at here, as a reader who has gone does not
            arrived.put_nowait(_END)

        call = asyncio.create_task(self._on_serving_loop(self._pump(method, raw, timeout, headers, hand_over)))
        call.add_done_callback(end)
        try:
            while (answer := await arrived.get()) is not _END:
                yield answer
                room.release()
            call.result()
        finally:
            call.cancel()

    async def ask(self, question: Callable[[], T], patience: float) -> T:
        """Return what a function answers on the loop that serves gRPC.

        Raises:
            TimeoutError: that loop did not respond within `patience` seconds.
        """

        async def answer() -> T:
            return question()

        return await asyncio.wait_for(self._on_serving_loop(answer()), patience)

    async def drain(self, grace: float) -> None:
        """Refuse new calls, let those under way end within `grace` seconds, and cancel the others."""
        self._is_draining = True
        if not self._under_way:
            return
        _ended, late = await asyncio.wait(self._under_way, timeout=grace)
        for call in late:
            call.cancel()
        if late:
            await asyncio.wait(late, timeout=_SECONDS_TO_CANCEL)

    async def _on_serving_loop(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed: the program around the host has ended without stopping it
            work.close()
            raise CallFailed(StatusCode.UNAVAILABLE, "the host has stopped") from None
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise CallFailed(StatusCode.UNAVAILABLE, "the host stopped before this call had ended") from None

    async def _call(
        self, method: MethodDescriptor, raw: bytes, timeout: float | None, headers: Mapping[str, str]
    ) -> tuple[bytes, Mapping[str, str]]:
        call: Callable[[bytes, CallContext], Awaitable[bytes]] = self._method(method)
        context = CallContext(timeout)
        with self._admitted(), self._trace(method, headers):
            async with _deadline(timeout):
                return await call(raw, context), context.trailing

    async def _pump(
        self,
        method: MethodDescriptor,
        raw: bytes | Sequence[bytes],
        timeout: float | None,
        headers: Mapping[str, str],
        hand_over: Callable[[bytes], Awaitable[None]],
    ) -> None:
        call: Callable[[Any, CallContext], Any] = self._method(method)
        requests = raw if isinstance(raw, bytes) else _each(raw)
        with self._admitted(), self._trace(method, headers):
            async with _deadline(timeout), aclosing(call(requests, CallContext(timeout))) as answers:
                async for answer in answers:
                    await hand_over(answer)

    def _method(self, method: MethodDescriptor) -> Any:
        return getattr(self._servicers[method.containing_service.full_name], method.name)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._is_draining:
            raise CallFailed(StatusCode.UNAVAILABLE, "the host is stopping and takes no new calls")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        self._under_way.add(task)
        try:
            yield
        finally:
            self._under_way.discard(task)


@asynccontextmanager
async def _deadline(timeout: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(None if timeout is None else timeout + _BACKSTOP):
            yield
    except TimeoutError:
        raise CallFailed(StatusCode.DEADLINE_EXCEEDED, "the call did not end before its deadline") from None


async def _each(requests: Iterable[bytes]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request
