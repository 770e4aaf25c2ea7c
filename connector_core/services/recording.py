"""What every RPC has around it: metrics, and the way from an error to a status."""

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter, time
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

from grpc import StatusCode

from connector_core.calls import REQUEST, CallListener, CallRecord, Subject
from connector_core.errors import ConnectorError, Fault, PluginCallError
from connector_core.metrics import (
    NO_TASK_TYPE,
    UNKNOWN_TASK_TYPE,
    Metrics,
    create_operation,
    delete_operation,
    do_operation,
)
from connector_core.metrics.tallies import RequestTally, TallyKey
from connector_core.registry import ConnectorRegistry, RegisteredConnector
from connector_core.services.status import status_of, where_to_look

_log = logging.getLogger("connector_core.calls")

_CHANGES = frozenset({create_operation, delete_operation, do_operation})
"""Operations whose success is worth a line by default; polls come by the thousand."""

_REFERENCE_BYTES = 6

_CLOCKS_APART = 0.1
"""A client whose deadline passes cancels the call, and that arrives up to so many seconds before the deadline as we know it."""


class CallKind(NamedTuple):
    """What all calls of one operation on one task type of one connector share, made once and looked up by each."""

    about: Subject
    tally: RequestTally


class Recorder:
    """Who is told of calls: the metrics, and the listeners of calls that have ended."""

    def __init__(self, metrics: Metrics, *listeners: CallListener) -> None:
        self.metrics = metrics
        self.listeners = listeners
        self._kinds: dict[tuple[RegisteredConnector, str, str], CallKind] = {}
        self._unknown: dict[str, RequestTally] = {}

    def kind(self, connector: RegisteredConnector, task_type: str, operation: str) -> CallKind:
        """Return what calls share that are about this; only names that are registered become metric labels."""
        key = (connector, task_type, operation)
        if (found := self._kinds.get(key)) is None:
            plugin, name = connector.plugin.name, connector.name
            tally = self.metrics.requests.of(TallyKey(task_type, operation, plugin, name))
            about = Subject(plugin, name, operation, task_type)
            found = self._kinds[key] = CallKind(about, tally)
        return found

    def unknown(self, task_type: str, operation: str) -> RequestTally:
        """Return the tally of calls that are about no connector, or of which one does not know yet."""
        if (found := self._unknown.get(operation)) is None:
            found = self._unknown[operation] = self.metrics.requests.of(TallyKey(task_type, operation))
        return found


class Recorded(Protocol):
    """A servicer whose methods can be recorded."""

    recorder: Recorder


class Request:
    """One RPC from arrival to answer: what it is about, how long it may take, and what became of it."""

    _connector: RegisteredConnector | None = None
    _failure: ConnectorError | None = None
    _is_answered = False
    _execution = ""

    def __init__(self, recorder: Recorder, operation: str, context: Any, task_type: str) -> None:
        self._began = perf_counter()
        self._recorder = recorder
        self._operation = operation
        self._context = context
        self._task_type = task_type
        self._tally = tally = recorder.unknown(task_type, operation)
        tally.in_flight += 1

    def find(
        self, registry: ConnectorRegistry, task_type: str, version: int, execution: str = ""
    ) -> RegisteredConnector:
        """Look up what this request is about.

        Args:
            registry: where.
            task_type: which task type.
            version: of that.
            execution: which attempt of a task it is about, as far as the request says.

        Raises:
            NotRegisteredError: nothing serves it.
        """
        self._execution = execution
        connector = registry.lookup(task_type, version)
        about, tally = self._recorder.kind(connector, task_type, self._operation)
        self._tally.in_flight -= 1
        tally.in_flight += 1
        self._tally = tally
        self._task_type = task_type
        self._connector = connector
        REQUEST.set((about, execution))
        return connector

    @property
    def timeout(self) -> float | None:
        """Seconds until the client's deadline; `None` where it set none."""
        left: float | None = self._context.time_remaining()
        return left

    def count_input(self, size: int) -> None:
        """Count the bytes of a task's inputs."""
        self._recorder.metrics.requests.input_size(self._task_type).observe(size)

    def answered_failure(self, error: ConnectorError) -> None:
        """The answer is OK on the wire, but stands for this failure, and counts as one."""
        self._failure = error

    def answered(self) -> None:
        """All of the answer is about to be sent; a client that leaves from now on has what it came for.

        So the request has succeeded now: when a client leaves, gRPC may close a stream later, and in another context.
        """
        self.succeeded()
        self._is_answered = True

    def succeeded(self) -> None:
        """The answer is on its way."""
        if self._is_answered:
            return
        if self._failure is None:
            self._ended("OK")
            return
        reference = os.urandom(_REFERENCE_BYTES).hex()
        status = status_of(self._failure, reference)
        self._ended(status.code.name, reference, self._failure, status.details)

    def cut_short(self) -> None:
        """The client has gone, by its deadline or on its own account."""
        if self._is_answered:
            return
        left = self.timeout
        self._ended("DEADLINE_EXCEEDED" if left is not None and left <= _CLOCKS_APART else "CANCELLED")

    async def cancelled(self) -> None:
        """As `cut_short`, or code that ran in place has cancelled its own task: then the client is there, and is told."""
        self.cut_short()
        with contextlib.suppress(Exception):  # it has gone, which gRPC's core alone knows
            await self._context.abort(StatusCode.CANCELLED, "the call was cancelled on the host")

    async def failed(self, error: Exception) -> NoReturn:
        """Answer with the status of `error`; the traceback stays in the log."""
        reference = os.urandom(_REFERENCE_BYTES).hex()
        status = status_of(error, reference)
        self._ended(status.code.name, reference, error, status.details)
        await self._context.abort(*status)
        raise AssertionError("abort() raises")

    def _ended(self, code: str, reference: str = "", error: Exception | None = None, details: str = "") -> None:
        seconds = perf_counter() - self._began
        self._tally.ended(code, seconds)
        level = self._level(code, error)
        is_logged = _log.isEnabledFor(level)
        listeners = self._recorder.listeners
        if is_logged or listeners:
            record = self._record(code, reference, seconds)
            if is_logged:
                _write_line(level, record, error, details)
            for listener in listeners:
                listener(record)

    def _level(self, code: str, error: Exception | None) -> int:
        if code == "OK":
            return logging.INFO if self._operation in _CHANGES else logging.DEBUG
        is_callers_doing = error.fault is Fault.CALLER if isinstance(error, ConnectorError) else code == "CANCELLED"
        return logging.INFO if is_callers_doing else logging.WARNING

    def _record(self, code: str, reference: str, seconds: float) -> CallRecord:
        connector = self._connector
        plugin, name = (None, "") if connector is None else (connector.plugin, connector.name)
        is_failed_job = self._failure is not None
        about = self._operation, self._task_type, plugin, name, self._execution, code, reference
        return CallRecord(time(), seconds, *about, is_failed_job)


def _write_line(level: int, record: CallRecord, error: Exception | None, details: str) -> None:
    """Write a call's line, with the traceback if there is one that says more, and fields for programs that read it."""
    said = record.code + (" (as a FAILED job)" if record.is_failed_job else "")
    if error is not None:
        said += f" [{record.reference}]: {details.removesuffix(where_to_look(record.reference))}"
    _log.log(
        level,
        "%s of %s %s %s",
        record.operation,
        record.task_type or "the metadata",
        "was cut short:" if error is None and record.code != "OK" else "answered",
        said,
        exc_info=_worth_a_traceback(error),
        extra={**record.fields(), "milliseconds": round(record.seconds * 1000, 3)},
    )


def _worth_a_traceback(error: Exception | None) -> BaseException | None:
    """Return the error whose traceback says more than the line: where in its code the plugin failed, or the host in its."""
    if isinstance(error, PluginCallError):
        return error.__cause__
    return error if error is None or not isinstance(error, ConnectorError) or error.__cause__ is not None else None


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
