"""The recorder of calls: counts each, writes its line in the log and passes its record to listeners."""

import logging
from collections import OrderedDict
from dataclasses import dataclass
from time import perf_counter, time
from typing import NamedTuple

from connector_core.description import ConnectorDescription
from connector_core.errors import ConnectorError, Fault, PluginCallError
from connector_core.metrics import Metrics, create_operation, delete_operation, do_operation
from connector_core.metrics.tallies import RequestTally, TallyKey
from connector_core.observing.call_records import REQUEST, CallListener, CallRecord, Subject
from connector_core.registry import ConnectorRegistry

_log = logging.getLogger("connector_core.calls")

_CHANGES = frozenset({create_operation, delete_operation, do_operation})
"""Operations whose success is worth a line by default; polls come by the thousand."""


_MOST_JOBS = 5_000
"""Jobs whose names are kept, those that were called last; some 2 MB."""

_REFUSALS_LOGGED = 10
_REFUSALS_SECONDS = 60.0
"""So many calls of one kind that fail by their caller's doing have lines at info within so many seconds, others at debug."""


class CallKind(NamedTuple):
    """The parts that calls of one operation on one task type of one connector share: made once, looked up by each."""

    about: Subject
    tally: RequestTally


class Recorder:
    """The metrics, and the listeners of calls that have ended."""

    def __init__(self, metrics: Metrics, *listeners: CallListener) -> None:
        self.metrics = metrics
        self.listeners = listeners
        self._kinds: dict[tuple[str, str, str], CallKind] = {}
        self._unknown: dict[str, RequestTally] = {}
        self._job_names: OrderedDict[int, tuple[str, str]] = OrderedDict()
        """By task type and resource meta: the job's name, and the output prefix that its polls bring."""
        self._prefixes: OrderedDict[str, str] = OrderedDict()
        """By execution: the output prefix of the first task that brought it."""
        self._refusals: dict[tuple[str, str], _Refusals] = {}

    def kind(self, connector: ConnectorDescription, task_type: str, operation: str) -> CallKind:
        """Return what calls share that are about this; only names that are registered become metric labels."""
        key = (connector.name, task_type, operation)
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

    def name_job(self, task_type: str, resource_meta: bytes, execution: str, output_prefix: str) -> str:
        """Return the name of a job that was created, for all calls about it: polls and deletes do not bring the execution.

        That is the execution, or the output prefix where another task has the same one: a sub-workflow that is used twice.
        """
        names, prefixes = self._job_names, self._prefixes
        if prefixes.setdefault(execution, output_prefix) != output_prefix:
            execution = output_prefix
        names[hash((task_type, resource_meta))] = execution, output_prefix
        if len(prefixes) > _MOST_JOBS:
            prefixes.popitem(last=False)
        if len(names) > _MOST_JOBS:
            names.popitem(last=False)
        return execution

    def job_name(self, task_type: str, resource_meta: bytes, output_prefix: str) -> str:
        """Return the one name of the job that a call is about; the output prefix, where this host has not seen its create.

        Several jobs may have one resource meta: a prefix tells them apart.
        """
        names = self._job_names
        key = hash((task_type, resource_meta))
        if (known := names.get(key)) is not None:
            names.move_to_end(key)
            name, its_prefix = known
            return name if not output_prefix or output_prefix == its_prefix else output_prefix
        if output_prefix:
            names[key] = output_prefix, output_prefix
            if len(names) > _MOST_JOBS:
                names.popitem(last=False)
        return output_prefix

    def refused(self, operation: str, task_type: str, now: float) -> tuple[int, int]:
        """Return the level of the line about a call that failed by its caller's doing, and how many had none since the last.

        Callers repeat their mistakes, many times a second where a program makes them; the log keeps its room for others.
        """
        key = (operation, task_type)
        if (refusals := self._refusals.get(key)) is None or now - refusals.since > _REFUSALS_SECONDS:
            left_out = 0 if refusals is None else refusals.left_out
            self._refusals[key] = _Refusals(now)
            return logging.INFO, left_out
        refusals.logged += 1
        if refusals.logged <= _REFUSALS_LOGGED:
            return logging.INFO, 0
        refusals.left_out += 1
        return logging.DEBUG, 0


@dataclass(slots=True)
class _Refusals:
    """Calls of one kind that failed by their caller's doing, since a moment."""

    since: float
    logged: int = 1
    left_out: int = 0


class CallRecording:
    """One RPC as it is recorded, from its arrival to its end."""

    _connector: ConnectorDescription | None = None
    _execution = ""

    def __init__(self, recorder: Recorder, operation: str, task_type: str) -> None:
        self._began = perf_counter()
        self._recorder = recorder
        self._operation = operation
        self._task_type = task_type
        self._tally = tally = recorder.unknown(task_type, operation)
        tally.in_flight += 1

    def find(
        self, registry: ConnectorRegistry, task_type: str, version: int, execution: str = "", resource_meta: bytes = b""
    ) -> ConnectorDescription:
        """Look up the connector that this request is about.

        Args:
            registry: where.
            task_type: which task type.
            version: of that.
            execution: which attempt of a task it is about, as far as the request says.
            resource_meta: the job's, where the request has one; its name replaces the execution.

        Raises:
            NotRegisteredError: nothing serves it.
        """
        self._execution = execution
        connector = registry.lookup(task_type, version)
        if resource_meta:
            self._execution = execution = self._recorder.job_name(task_type, resource_meta, execution)
        about, tally = self._recorder.kind(connector, task_type, self._operation)
        self._tally.in_flight -= 1
        tally.in_flight += 1
        self._tally = tally
        self._task_type = task_type
        self._connector = connector
        REQUEST.set((about, execution))
        return connector

    def created(self, resource_meta: bytes, output_prefix: str) -> None:
        """Give the job that was created this request's execution as its name, for the calls to come."""
        if execution := self._execution or output_prefix:
            self._execution = self._recorder.name_job(self._task_type, resource_meta, execution, output_prefix)

    def delete_given_up(self, error: ConnectorError) -> None:
        """Log and count a deletion that is answered OK although the job may still run."""
        plugin, name = ("", "") if self._connector is None else (self._connector.plugin.name, self._connector.name)
        self._recorder.metrics.deletes_given_up.labels(plugin, name).inc()
        _log.error(
            "delete given up; the job may still run: plugin %s, connector %s: %s",
            plugin or "unknown",
            name or "unknown",
            error,
            exc_info=error.__cause__,
        )

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
        now = perf_counter()
        seconds = now - self._began
        is_callers_doing, left_out = False, 0
        if code == "OK":
            level = logging.INFO if self._operation in _CHANGES else logging.DEBUG
        elif is_callers_doing := _is_callers_doing(code, error):
            level, left_out = self._recorder.refused(self._operation, self._task_type, now)
        else:
            level = logging.WARNING
        self._tally.ended(code, seconds, is_callers_doing)
        is_logged = _log.isEnabledFor(level)
        listeners = self._recorder.listeners
        if is_logged or listeners:
            connector = self._connector
            plugin, name = (None, "") if connector is None else (connector.plugin, connector.name)
            about = self._operation, self._task_type, plugin, name, self._execution, code, reference
            record = CallRecord(time(), seconds, *about, is_failed_job, is_callers_doing, details)
            if is_logged:
                _write_line(level, record, error, left_out)
            for listener in listeners:
                listener(record)


def _is_callers_doing(code: str, error: Exception | None) -> bool:
    return error.fault is Fault.CALLER if isinstance(error, ConnectorError) else code == "CANCELLED"


def _write_line(level: int, record: CallRecord, error: Exception | None, left_out: int) -> None:
    """Write a call's line, with fields for programs, and a traceback where it tells more than the line."""
    outcome = record.code + (" (as a FAILED job)" if record.is_failed_job else "")
    if error is not None:
        outcome += f" [{record.reference}]: {record.message}"
    if left_out:
        outcome += f" ({left_out:,} similar calls left out: set `connector_core.calls=debug` to log them)"
    _log.log(
        level,
        "%s of %s %s %s",
        record.operation,
        record.task_type or "the metadata",
        "was cut short:" if error is None and record.code != "OK" else "answered",
        outcome,
        exc_info=_worth_a_traceback(record, error),
        extra={**record.fields(), "milliseconds": round(record.seconds * 1000, 3)},
    )


def _worth_a_traceback(record: CallRecord, error: Exception | None) -> BaseException | None:
    """Return the error whose traceback tells more than the line: where the plugin failed in its code, or the host in its."""
    if record.is_callers_doing and not _log.isEnabledFor(logging.DEBUG):
        return None
    if isinstance(error, PluginCallError):
        return error.__cause__
    return error if error is None or not isinstance(error, ConnectorError) or error.__cause__ is not None else None
