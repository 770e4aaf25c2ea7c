"""What every RPC has around it: metrics, and the way from an error to a status."""

import asyncio
import contextlib
import functools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, Protocol, TypeVar

import grpc.aio
from grpc import StatusCode

from connector_core.calls import CallListener, CallRecord
from connector_core.errors import ConnectorError, Fault
from connector_core.metrics import NO_TASK_TYPE, UNKNOWN_TASK_TYPE, Metrics, RequestInstruments
from connector_core.registry import ConnectorRegistry, RegisteredConnector
from connector_core.services.status import status_of

_log = logging.getLogger(__name__)

_CLOCKS_APART = 0.1
"""A client whose deadline passes cancels the call, and that arrives up to so many seconds before the deadline as we know it."""

Context = grpc.aio.ServicerContext[Any, Any] if hasattr(grpc.aio.ServicerContext, "__class_getitem__") else Any


class Recorder:
    """Who is told of calls: the metrics, and the listeners of calls that have ended."""

    def __init__(self, metrics: Metrics, *listeners: CallListener) -> None:
        self.metrics = metrics
        self.listeners = listeners


class Recorded(Protocol):
    """A servicer whose methods can be recorded."""

    recorder: Recorder


class Request:
    """One RPC from arrival to answer: what it is about, how long it may take, and what became of it.

    Attributes:
        execution: which attempt of a task it is about, or what tells that when it is wanted.
    """

    __slots__ = (
        "_began",
        "_connector",
        "_context",
        "_failure",
        "_is_answered",
        "_listeners",
        "_metrics",
        "_operation",
        "_task_type",
        "execution",
    )

    def __init__(self, recorder: Recorder, operation: str, context: Any, task_type: str) -> None:
        self._metrics = metrics = recorder.metrics
        self._listeners = recorder.listeners
        self._operation = operation
        self._context = context
        self._task_type = task_type
        self._began = time.perf_counter()
        self._connector: RegisteredConnector | None = None
        self._failure: ConnectorError | None = None
        self._is_answered = False
        self.execution: str | Callable[[], str] = ""
        metrics.request(task_type, operation).in_flight.inc()

    def find(self, registry: ConnectorRegistry, task_type: str, version: int) -> RegisteredConnector:
        """Look up what this request is about; only names that are registered become metric labels.

        Raises:
            NotRegisteredError: nothing serves it.
        """
        connector = registry.lookup(task_type, version)
        self._metrics.request(self._task_type, self._operation).in_flight.dec()
        self._task_type = task_type
        self._connector = connector
        self._metrics.request(task_type, self._operation).in_flight.inc()
        return connector

    @property
    def timeout(self) -> float | None:
        """Seconds until the client's deadline; `None` where it set none."""
        left: float | None = self._context.time_remaining()
        return left

    def count_input(self, size: int) -> None:
        """Count the bytes of a task's inputs."""
        self._metrics.input_size(self._task_type).observe(size)

    def answered_failure(self, error: ConnectorError) -> None:
        """The answer is OK on the wire, but stands for this failure, and counts as one."""
        self._failure = error

    def answered(self) -> None:
        """All of the answer is about to be sent; a client that leaves from now on has what it came for."""
        self._is_answered = True

    def succeeded(self) -> None:
        """The answer is on its way."""
        if self._failure is None:
            self._ended("OK").success.inc()
            return
        reference = secrets.token_hex(6)
        status = status_of(self._failure, reference)
        self._failed(status.code.name, reference)
        self._log(self._failure, f"{status.code.name} (as a FAILED job)", status.details, reference)

    def cut_short(self) -> None:
        """The client has gone, by its deadline or on its own account."""
        if self._is_answered:
            self.succeeded()
            return
        left = self.timeout
        self._failed("DEADLINE_EXCEEDED" if left is not None and left <= _CLOCKS_APART else "CANCELLED")

    async def cancelled(self) -> None:
        """As `cut_short`, or code that ran in place has cancelled its own task: then the client is there, and is told."""
        self.cut_short()
        with contextlib.suppress(Exception):  # it has gone, which gRPC's core alone knows
            await self._context.abort(StatusCode.CANCELLED, "the call was cancelled on the host")

    async def failed(self, error: Exception) -> NoReturn:
        """Answer with the status of `error`; the traceback stays in the log."""
        reference = secrets.token_hex(6)
        status = status_of(error, reference)
        self._failed(status.code.name, reference)
        self._log(error, status.code.name, status.details, reference)
        await self._context.abort(*status)
        raise AssertionError("abort() raises")

    def _failed(self, code: str, reference: str = "") -> None:
        self._ended(code, reference)
        self._metrics.failure(self._task_type, self._operation, code).inc()

    def _ended(self, code: str, reference: str = "") -> RequestInstruments:
        instruments = self._metrics.request(self._task_type, self._operation)
        instruments.in_flight.dec()
        seconds = time.perf_counter() - self._began
        instruments.latency.observe(seconds)
        if self._listeners:
            self._tell(code, reference, seconds)
        return instruments

    def _tell(self, code: str, reference: str, seconds: float) -> None:
        connector = self._connector
        record = CallRecord(
            at=time.time(),
            seconds=seconds,
            operation=self._operation,
            task_type=self._task_type,
            plugin=connector.plugin if connector else None,
            connector=connector.name if connector else "",
            execution=self.execution if isinstance(self.execution, str) else self.execution(),
            code=code,
            reference=reference,
            is_failed_job=self._failure is not None,
        )
        for listener in self._listeners:
            listener(record)

    def _log(self, error: Exception, code: str, details: str, reference: str) -> None:
        caller_is_at_fault = isinstance(error, ConnectorError) and error.fault is Fault.CALLER
        with_traceback = not isinstance(error, ConnectorError) or error.__cause__ is not None
        _log.log(
            logging.INFO if caller_is_at_fault else logging.WARNING,
            "%s of %s answered %s [%s]: %s",
            self._operation,
            self._task_type or "the metadata",
            code,
            reference,
            details,
            exc_info=error if with_traceback else None,
        )


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
            request = Request(self.recorder, operation, context, task_type)
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
            request = Request(self.recorder, operation, context, task_type)
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
"""For methods that are about no task type."""
