"""The loop of a query process: one query of its host after the other, each in a session of its own."""

import queue
from collections.abc import Callable, Sequence
from typing import Any

from connector_plugin_duckdb import client
from connector_plugin_duckdb.results import Kept
from connector_plugin_duckdb.wire import (
    Answer,
    Close,
    Described,
    Done,
    Failed,
    Fetch,
    Interrupt,
    Number,
    Query,
    RefusalError,
    Request,
    Rows,
    Size,
    Write,
    encode,
    pack,
    send,
)

_KEPT = 100 * 2**20
"""Bytes beyond those of its start with which a process takes no further query."""


class Queries:
    """The queries of a process: run in one thread, and told of the host's messages by another.

    Args:
        outgoing: the pipe to the host.
        threads: how many DuckDB may use for a query.
        resident: tells how many bytes of memory the process has.
    """

    def __init__(self, outgoing: int, threads: int, resident: Callable[[], int]) -> None:
        self._outgoing = outgoing
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._stop = client.Interruption()
        self._threads = threads
        self._connection = client.connect(threads)
        self._resident = resident
        self._usual = resident()
        self._is_clean = True
        self._is_closed = True
        self.is_busy = False

    def hand(self, request: Request) -> None:
        """Take a message, in the listening thread."""
        if isinstance(request, Interrupt):
            self._stop.ask()
        else:
            self.is_busy = not isinstance(request, Close)
            self._requests.put(request)

    def answer(self, message: Answer, most: int | None = None) -> None:
        """Send a message to the host, unless it is larger than that takes."""
        data = encode(message)
        if most is not None and len(data) > most:
            raise RefusalError(
                "invalid", f"the result has {len(data)} bytes, too many to be returned inline", "RESULT_TOO_LARGE"
            )
        send(self._outgoing, data)

    def serve(self) -> None:
        """Run queries, as long as the process lives."""
        while True:
            request = self._requests.get()
            self._is_closed = isinstance(request, Close)  # at once where nothing was asked after all
            try:
                if not self._is_closed:
                    self._run(request)
            except RefusalError as error:
                self._fail(error)
            except MemoryError:
                self._fail(client.out_of_memory("an allocation failed"))
            except Exception as error:  # noqa: BLE001 - whatever a query leads to, the host is told
                self._fail(RefusalError("transient", f"{type(error).__name__}: {error}"))
            self._stop = client.Interruption()
            self._connection.close()
            self.answer(Done(self._is_clean and self._resident() < self._usual + _KEPT))
            self._connection = client.connect(self._threads)

    def _run(self, query: Request) -> None:
        if not isinstance(query, Query):
            raise RefusalError("transient", f"{type(query).__name__} without a query")
        with client.open_session(self._connection, query.box, self._stop, query.database) as session:
            for view in query.views:
                session.offer(view.name, view.function, view.paths)
            for sql in query.setup:
                session.run(sql, query.parameters)
            kept = session.query(query.sql, query.parameters, query.most_rows)
            self.answer(Done() if kept is None else Described(kept.columns, kept.rows), query.most_bytes)
            while not isinstance(request := self._requests.get(), Close):
                self.answer(_answer(kept, request), query.most_bytes)
            self._is_closed = True

    def _fail(self, error: RefusalError) -> None:
        """Tell the host of a failure, and wait until it has closed the query."""
        if self._is_closed:
            raise error
        self._is_clean = self._is_clean and error.kind in ("invalid", "denied", "unavailable")
        self.answer(Failed.of(error))
        while not isinstance(self._requests.get(), Close):
            self.answer(Failed("transient", "the query is over"))


def _answer(kept: Kept | None, request: Request) -> Answer:
    if kept is not None:
        if isinstance(request, Size):
            return Number(kept.size())
        if isinstance(request, Fetch):
            return Rows(_travelling(kept.fetch()))
        if isinstance(request, Write):
            kept.write_parquet(request.path)
            return Done()
    raise RefusalError("transient", f"{type(request).__name__} has no answer")


def _travelling(rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    try:
        encode(Rows(rows))
    except OverflowError:  # integers of more than 64 bits, which few have
        return [pack(row) for row in rows]
    return rows
