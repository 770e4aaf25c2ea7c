"""The calls that ended last, bounded such that frequent ones do not push out those that somebody looks for."""

import heapq
from collections import defaultdict
from collections.abc import Iterator
from itertools import count, islice
from typing import NamedTuple

import msgspec

from connector_core.metrics import (
    NO_TASK_TYPE,
    create_operation,
    delete_operation,
    do_operation,
    get_logs_operation,
    get_metrics_operation,
    get_operation,
)
from connector_core.observing.call_records import CallRecord

TASK_OPERATIONS = (
    create_operation,
    get_operation,
    delete_operation,
    do_operation,
    get_logs_operation,
    get_metrics_operation,
)

ANY = ""
OK = "ok"
FAILED = "failed"
CALLERS = "callers"
"""Those of the failed ones that failed by their caller's doing."""


class Filter(msgspec.Struct, frozen=True):
    """A filter of recent calls.

    Attributes:
        text: found, in any case, in task type, connector, plugin, execution, status or reference; all words of it.
        operation: one of `TASK_OPERATIONS`, or any.
        status: `OK`, `FAILED`, `CALLERS`, the name of a status code, or any.
    """

    text: str = ""
    operation: str = ANY
    status: str = ANY

    @property
    def is_on(self) -> bool:
        """True where it leaves anything out."""
        return bool(self.text.strip() or self.operation or self.status)

    def takes(self, call: CallRecord) -> bool:
        """Say whether it is one of them."""
        if self.operation and call.operation != self.operation:
            return False
        return (not self.status or self.status in _statuses(call)) and self._has_text(call)

    def _has_text(self, call: CallRecord) -> bool:
        if not self.text:
            return True
        plugin = call.plugin.name if call.plugin else ""
        parts = (call.operation, call.task_type, call.connector, plugin, call.execution, call.code, call.reference)
        where = "\n".join(parts).casefold()
        return all(word in where for word in self.text.casefold().split())


def _statuses(call: CallRecord) -> set[str]:
    if call.code == "OK":
        return {OK, call.code}
    return {FAILED, CALLERS, call.code} if call.is_callers_doing else {FAILED, call.code}


class KeptCall(NamedTuple):
    """A call, or the last of several polls of one job that went well.

    Attributes:
        number: tells it from the others; polls of one job have one number.
        call: the call.
        times: how many polls it stands for.
    """

    number: int
    call: CallRecord
    times: int = 1


class RecentCalls:
    """The last calls of each operation, those that failed apart: a thousand polls leave one failed create in sight.

    So are those that failed by their caller's doing, who may repeat a mistake many times.

    Polls of one job that go well are kept as one. What the metadata service answers well is not kept: the engine asks it
    every few seconds.

    Calls are added on the serving loop, each poll among them, and read in the thread that serves HTTP.

    Args:
        each: how many of each kind are kept.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._numbers = count()
        self._kept: defaultdict[tuple[str, bool, bool], dict[object, KeptCall]] = defaultdict(dict)

    def __len__(self) -> int:
        return sum(map(len, self._kept.copy().values()))

    def add(self, call: CallRecord) -> None:
        """Keep a call, in place of the oldest of its kind."""
        is_failed = call.code != "OK"
        if call.task_type == NO_TASK_TYPE and not is_failed:
            return
        kept = self._kept[call.operation, is_failed, call.is_callers_doing]
        number, times = next(self._numbers), 1
        key: object = number
        if call.operation == get_operation and not is_failed and call.execution:
            key = (call.task_type, call.execution)
            if (before := kept.pop(key, None)) is not None:
                number, times = before.number, before.times + 1
        kept[key] = KeptCall(number, call, times)
        if len(kept) > self._each:
            del kept[next(iter(kept))]

    def newest(self, wanted: Filter, at_most: int) -> tuple[list[KeptCall], int]:
        """Return calls that a filter takes, the newest first, and how many there are."""
        copies = [kept.copy() for kept in self._kept.copy().values()]  # one step of the interpreter each
        found = [[one for one in reversed(kept.values()) if wanted.takes(one.call)] for kept in copies]
        merged: Iterator[KeptCall] = heapq.merge(*found, key=lambda one: one.call.at, reverse=True)
        return list(islice(merged, at_most)), sum(map(len, found))
