"""The decorators that surround every RPC's method: its recording, and the way from an error to a status."""

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, Protocol, TypeVar

from grpc import StatusCode

from connector_core.errors import ConnectorError
from connector_core.metrics import NO_TASK_TYPE, UNKNOWN_TASK_TYPE
from connector_core.observing.recorder import CallRecording, Recorder
from connector_core.protocol.statuses import GIVEN_UP, Status, status_of, where_to_look
from connector_core.texts import cut_ascii

_REFERENCE_BYTES = 6
_GIVEN_UP_BYTES = 500

_CLOCKS_APART = 0.1
"""Seconds before the deadline, as the host knows it, from which a cancelled call counts as one whose deadline passed."""


class Recorded(Protocol):
    """A servicer whose methods can be recorded."""

    recorder: Recorder


class Request(CallRecording):
    """One RPC from arrival to answer: its recording, the time that it may take, and gRPC's context."""

    context: Any
    """gRPC's; set from outside, as a constructor of its own would cost each call a tenth of a microsecond."""

    _failure: ConnectorError | None = None
    _is_answered = False
    _is_failed_job = True

    @property
    def timeout(self) -> float | None:
        """Seconds until the client's deadline; `None` where it set none."""
        left: float | None = self.context.time_remaining()
        return left

    def answered_failure(self, error: ConnectorError) -> None:
        """Count an answer that is OK on the wire as the failure that it stands for."""
        self._failure = error

    def gave_up(self, error: ConnectorError) -> None:
        """Count a deletion that is answered OK as the failure that it is, and tell a client that can read it."""
        self.delete_given_up(error)
        self.context.set_trailing_metadata(((GIVEN_UP, cut_ascii(f"given up: {error}", _GIVEN_UP_BYTES)),))
        self._failure = error
        self._is_failed_job = False

    def answered(self) -> None:
        """Count the request as a success, as all of its answer is about to be sent; a client that leaves now has it.

        So the request has succeeded now: when a client leaves, gRPC may close a stream later, and in another context.
        """
        self.succeeded()
        self._is_answered = True

    def succeeded(self) -> None:
        """End the recording of a request whose answer is on its way."""
        if self._is_answered:
            return
        if self._failure is None:
            self.ended("OK")
            return
        reference = os.urandom(_REFERENCE_BYTES).hex()
        status = status_of(self._failure, reference)
        self._ended_by(self._failure, status, reference, is_failed_job=self._is_failed_job)

    def cut_short(self) -> None:
        """End the recording of a request whose client has gone, by its deadline or on its own account."""
        if self._is_answered:
            return
        left = self.timeout
        self.ended("DEADLINE_EXCEEDED" if left is not None and left <= _CLOCKS_APART else "CANCELLED")

    async def cancelled(self) -> None:
        """As `cut_short`, or code that ran in place has cancelled its own task: then the client is there, and is told."""
        self.cut_short()
        # A client that has gone is known to gRPC's core alone.
        with contextlib.suppress(Exception):
            await self.context.abort(StatusCode.CANCELLED, "the call was cancelled on the host")

    async def failed(self, error: Exception) -> NoReturn:
        """Answer with the status of `error`; the traceback stays in the log."""
        reference = os.urandom(_REFERENCE_BYTES).hex()
        status = status_of(error, reference)
        self._ended_by(error, status, reference)
        await self.context.abort(*status)
        raise AssertionError("abort() raises")

    def _ended_by(self, error: Exception, status: Status, reference: str, *, is_failed_job: bool = False) -> None:
        details = status.details.removesuffix(where_to_look(reference))
        self.ended(status.code.name, reference, error, details, is_failed_job=is_failed_job)


S = TypeVar("S", bound=Recorded)
Unary = Callable[[S, Any, Request], Awaitable[bytes]]
Stream = Callable[[S, Any, Request], AsyncIterator[bytes]]


def record_connector_metrics(
    operation: str, task_type: str = UNKNOWN_TASK_TYPE
) -> Callable[[Unary[S]], Callable[[S, Any, Any], Awaitable[bytes]]]:
    """Wrap a servicer's method with one answer: count it, time it, and answer errors with their status.

    The method takes the raw request and a `Request`; what comes out takes the raw request and gRPC's context. Until the
    method has found out what the request is about, it counts under `task_type`.
    """

    def decorate(method: Unary[S]) -> Callable[[S, Any, Any], Awaitable[bytes]]:
        @functools.wraps(method)
        async def recorded(self: S, raw: Any, context: Any) -> bytes:
            request = Request(self.recorder, operation, task_type)
            request.context = context
            try:
                answer = await method(self, raw, request)
            except asyncio.CancelledError:
                await request.cancelled()
                raise
            except Exception as error:  # noqa: BLE001 - the one place where errors become statuses
                await request.failed(error)
            request.succeeded()
            return answer

        return recorded

    return decorate


def record_connector_stream(
    operation: str, task_type: str = UNKNOWN_TASK_TYPE
) -> Callable[[Stream[S]], Callable[[S, Any, Any], AsyncIterator[bytes]]]:
    """Wrap a servicer's method with a stream of answers, as `record_connector_metrics` wraps one with one."""

    def decorate(method: Stream[S]) -> Callable[[S, Any, Any], AsyncIterator[bytes]]:
        @functools.wraps(method)
        async def recorded(self: S, raw: Any, context: Any) -> AsyncIterator[bytes]:
            request = Request(self.recorder, operation, task_type)
            request.context = context
            try:
                async for answer in method(self, raw, request):
                    yield answer
            except asyncio.CancelledError:
                await request.cancelled()
                raise
            except GeneratorExit:
                request.cut_short()
                raise
            except Exception as error:  # noqa: BLE001 - as above
                await request.failed(error)
            request.succeeded()

        return recorded

    return decorate


metadata_request = functools.partial(record_connector_metrics, task_type=NO_TASK_TYPE)
"""The task type of methods that are not about one."""
