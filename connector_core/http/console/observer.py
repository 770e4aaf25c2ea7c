"""Keeps up with the calls that end: once a second, on the loop that serves HTTP, whether somebody looks or not."""

import asyncio
import logging
from collections import defaultdict

from connector_core.calls import CallJournal, CallRecord
from connector_core.http.console.figures import Figures, Window, window_of
from connector_core.http.console.recent import RecentCalls
from connector_core.metrics import NO_TASK_TYPE, list_agents_operation, list_connectors_operation

_log = logging.getLogger(__name__)

TURN_SECONDS = 1.0

ConnectorKey = tuple[str, str]
"""The names of a plugin and of one of its connectors."""

NO_CONNECTOR: ConnectorKey = ("", "")


class Observer:
    """What is known of calls that have ended.

    Args:
        journal: where they are noted.
        each: how many calls are kept of each operation, failed ones apart.
        stopping: ends it.

    Attributes:
        turns: how often it has looked; what was derived in one turn is out of date in the next.
        recent: the last calls.
        by_connector: figures of the calls that are about tasks, by connector; `NO_CONNECTOR` has those that found none.
        listed_at: when connectors were last listed, which the engine does every few seconds.
    """

    def __init__(self, journal: CallJournal, each: int, stopping: asyncio.Event) -> None:
        self._journal = journal
        self._stopping = stopping
        self._next_turn = asyncio.Event()
        self.turns = 0
        self.recent = RecentCalls(each)
        self.by_connector: defaultdict[ConnectorKey, Figures] = defaultdict(Figures)
        self.listed_at: float | None = None

    async def run(self) -> None:
        """Look once a second until it is time to stop."""
        try:
            await self._run()
        except Exception:  # noqa: BLE001 - HTTP is served without it
            _log.critical("the console is not kept up to date any more: the host has a bug", exc_info=True)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self.look()
            self._wake()
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await self._stopping.wait()
            except TimeoutError:
                continue
        self._wake()

    async def next_turn(self) -> bool:
        """Wait until it has looked again; say whether it goes on after that."""
        if not self._stopping.is_set():
            await self._next_turn.wait()
        return not self._stopping.is_set()

    def look(self) -> None:
        """Take in the calls that have ended since."""
        for record in self._journal.take():
            self._take_in(record)
        self.turns += 1

    def _wake(self) -> None:
        waiting, self._next_turn = self._next_turn, asyncio.Event()
        waiting.set()

    def until(self, now: float) -> Window:
        """Return the window that ends now, of all calls that are about tasks."""
        return window_of(self.by_connector.values(), now)

    def _take_in(self, record: CallRecord) -> None:
        """Each poll comes by here, in a process that has other things to do."""
        self.recent.add(record)
        if record.task_type != NO_TASK_TYPE:
            plugin = record.plugin
            self.by_connector[NO_CONNECTOR if plugin is None else (plugin.name, record.connector)].add(record)
        elif record.operation in {list_agents_operation, list_connectors_operation} and record.code == "OK":
            self.listed_at = record.at
