"""The recorder of calls: counts each, writes its line in the log and passes its record to listeners."""

import logging
from time import perf_counter, time
from typing import NamedTuple

from connector_core.errors import ConnectorError, Fault, PluginCallError
from connector_core.metrics import Metrics, create_operation, delete_operation, do_operation
from connector_core.metrics.tallies import RequestTally, TallyKey
from connector_core.observing.call_records import REQUEST, CallListener, CallRecord, Subject
from connector_core.registry import ConnectorRegistry, RegisteredConnector

_log = logging.getLogger("connector_core.calls")

_CHANGES = frozenset({create_operation, delete_operation, do_operation})
"""Operations whose success is worth a line by default; polls come by the thousand."""


class CallKind(NamedTuple):
    """The parts that calls of one operation on one task type of one connector share: made once, looked up by each."""

    about: Subject
    tally: RequestTally


class Recorder:
    """The metrics, and the listeners of calls that have ended."""

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
        """Return the tally of calls that are about no connector, or whose connector is not found yet."""
        if (found := self._unknown.get(operation)) is None:
            found = self._unknown[operation] = self.metrics.requests.of(TallyKey(task_type, operation))
        return found


class CallRecording:
    """One RPC as it is recorded, from its arrival to its end."""

    _connector: RegisteredConnector | None = None
    _execution = ""

    def __init__(self, recorder: Recorder, operation: str, task_type: str) -> None:
        self._began = perf_counter()
        self._recorder = recorder
        self._operation = operation
        self._task_type = task_type
        self._tally = tally = recorder.unknown(task_type, operation)
        tally.in_flight += 1

    def find(
        self, registry: ConnectorRegistry, task_type: str, version: int, execution: str = ""
    ) -> RegisteredConnector:
        """Look up the connector that this request is about.

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

    def count_input(self, size: int) -> None:
        """Count the bytes of a task's inputs."""
        self._recorder.metrics.requests.input_size(self._task_type).observe(size)

    def ended(
        self,
        code: str,
        reference: str = "",
        error: Exception | None = None,
        details: str = "",
        *,
        is_failed_job: bool = False,
    ) -> None:
        """Count the end of the call, log it and tell the listeners.

        Args:
            code: the name of the gRPC status code that it ended with, or that its answer stands for.
            reference: finds the failure's line in the log; empty where nothing failed.
            error: what failed; `None` for a call that went well or was cut.
            details: the status' own text.
            is_failed_job: whether the wire says OK, with a job that GetTask calls FAILED.
        """
        seconds = perf_counter() - self._began
        self._tally.ended(code, seconds)
        level = self._level(code, error)
        is_logged = _log.isEnabledFor(level)
        listeners = self._recorder.listeners
        if is_logged or listeners:
            record = self._record(code, reference, seconds, is_failed_job)
            if is_logged:
                _write_line(level, record, error, details)
            for listener in listeners:
                listener(record)

    def _level(self, code: str, error: Exception | None) -> int:
        if code == "OK":
            return logging.INFO if self._operation in _CHANGES else logging.DEBUG
        is_callers_doing = error.fault is Fault.CALLER if isinstance(error, ConnectorError) else code == "CANCELLED"
        return logging.INFO if is_callers_doing else logging.WARNING

    def _record(self, code: str, reference: str, seconds: float, is_failed_job: bool) -> CallRecord:
        connector = self._connector
        plugin, name = (None, "") if connector is None else (connector.plugin, connector.name)
        about = self._operation, self._task_type, plugin, name, self._execution, code, reference
        return CallRecord(time(), seconds, *about, is_failed_job)


def _write_line(level: int, record: CallRecord, error: Exception | None, details: str) -> None:
    """Write a call's line, with fields for programs, and a traceback where it tells more than the line."""
    outcome = record.code + (" (as a FAILED job)" if record.is_failed_job else "")
    if error is not None:
        outcome += f" [{record.reference}]: {details}"
    _log.log(
        level,
        "%s of %s %s %s",
        record.operation,
        record.task_type or "the metadata",
        "was cut short:" if error is None and record.code != "OK" else "answered",
        outcome,
        exc_info=_worth_a_traceback(error),
        extra={**record.fields(), "milliseconds": round(record.seconds * 1000, 3)},
    )


def _worth_a_traceback(error: Exception | None) -> BaseException | None:
    """Return the error whose traceback tells more than the line: where the plugin failed in its code, or the host in its."""
    if isinstance(error, PluginCallError):
        return error.__cause__
    return error if error is None or not isinstance(error, ConnectorError) or error.__cause__ is not None else None
