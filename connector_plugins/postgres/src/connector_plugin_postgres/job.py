"""A job at the host that runs it: its turn, its statement in a transaction, and the row that is the last act of that."""

import asyncio
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flyteidl.core.literals_pb2 import LiteralMap

from connector_core import BackendUnavailableError, ConnectorError, InvalidInputError, Phase
from connector_plugin_postgres import client, failures
from connector_plugin_postgres.columns import Column, columns_of
from connector_plugin_postgres.config import Database
from connector_plugin_postgres.control import Control
from connector_plugin_postgres.ledger import Ending, application_name, locks_of
from connector_plugin_postgres.logs import JobLog
from connector_plugin_postgres.manifest import Manifest
from connector_plugin_postgres.outputs import Outputs
from connector_plugin_postgres.statement import Statement
from connector_plugin_postgres.storage import Storage
from connector_plugin_postgres.table_inputs import load_tables
from connector_plugin_postgres.tables import Rows

_AFFECTED = re.compile(r"(?:INSERT \d+|UPDATE|DELETE|MERGE|SELECT) (\d+)")
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """A job's statement, and the place for its result; `manifest` is `None` where a row stands for it."""

    statement: Statement
    inputs: Mapping[str, Any]
    tables: Mapping[str, str]
    outputs: Outputs
    transaction: bool
    manifest: Manifest | None
    storage: Storage


class Job:
    """A job of this host's.

    Args:
        job_id: what it is called in the database.
        request: what it runs.
        name: what callers call the database.
        database: its settings.
        control: the host's connection there.
        slots: bounds how many statements run at a time.

    Attributes:
        ending: how it ended, once this host knows.
        log: the statement's notices.
        is_here: whether this host runs it or waits with it; otherwise the database knows.
        is_waiting: whether it waits for its turn.
    """

    def __init__(
        self,
        job_id: str,
        request: Request,
        name: str,
        database: Database,
        control: Control,
        slots: asyncio.Semaphore,
    ) -> None:
        self.job_id = job_id
        self.ending: Ending | None = None
        self.log = JobLog()
        self.is_here = True
        self.is_waiting = True
        self._request = request
        self._name = name
        self._database = database
        self._control = control
        self._slots = slots
        self._accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The create that would have heard of an error may have been given up by then.
        self._accepted.add_done_callback(lambda future: future.exception())
        self._is_stopped = False
        self._deadline = 0.0
        self._rows: Rows | None = None
        self._pid = 0

    @property
    def was_refused(self) -> bool:
        """True if it could not be begun."""
        return self._accepted.done() and self._accepted.exception() is not None

    @property
    def weight(self) -> int:
        """The bytes that a job which is over takes."""
        return self.log.size + (len(self.ending.outputs) if self.ending is not None else 0)

    @property
    def words(self) -> str:
        """The current step of a running job."""
        rows = f", {self._rows.number} rows read" if self._rows is not None and self._rows.number else ""
        return f"runs on connection {self._name!r}, backend {self._pid}{rows}"

    async def accepted(self) -> None:
        """Wait until the job is the database's or waits for its turn.

        Raises:
            ConnectorError: it could not be begun, and nothing of it was.
        """
        await asyncio.shield(self._accepted)

    def stop(self) -> None:
        """Have the job end before its next step."""
        self._is_stopped = True

    def end(self, ending: Ending) -> None:
        """Take note of how the job ended; its log is complete from then on."""
        self.log.close()
        self.ending = ending

    async def run(self) -> None:
        """Run the job to its end, or as far as this host can tell."""
        try:
            if await self._is_to_be_run():
                await self._run_in_turn()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is how the job or its create ended
            await self._fail(error)
        finally:
            self.is_here = False
            self.log.close()
            # Jobs that are over are kept for their logs; what they were asked is not.
            self._request = replace(self._request, statement=Statement("", ()), inputs={})
            self._accept()
            with contextlib.suppress(ConnectorError):
                await self._control.release(self.job_id)

    async def _is_to_be_run(self) -> bool:
        if not await self._control.claim(self.job_id):
            return False
        self.ending = await self._control.find(self.job_id)
        if self.ending is None and self._request.manifest is not None:
            self.ending = await self._request.manifest.read()
        return self.ending is None

    async def _run_in_turn(self) -> None:
        if has_waited := self._slots.locked():
            self._accept()
        async with self._slots:
            connection = await self._connected()
            try:
                if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", locks_of(self.job_id)[1]):
                    return  # its statement still runs, begun by a host that is gone
                if has_waited:
                    self.ending = await self._control.find(self.job_id)
                if self.ending is None:
                    await self._execute(connection)
            finally:
                await client.close(connection)

    async def _connected(self) -> Any:
        """Open the job's own connection; a job that has waited goes on waiting for a server that is away."""
        wait = _FIRST_WAIT
        while not self._is_stopped:
            try:
                if self._accepted.done():
                    await self._control.claim(self.job_id)
                return await client.connect(self._name, self._database, application_name(self.job_id))
            except BackendUnavailableError:
                if not self._accepted.done():
                    raise
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
        raise failures.HaltedError(failures.ABORTED)

    async def _execute(self, connection: Any) -> None:
        timeout = self._database.statement_timeout
        self._deadline = asyncio.get_running_loop().time() + timeout if timeout else 0.0
        self._pid = connection.get_server_pid()
        connection.add_log_listener(self.log.hear)
        try:
            if self._request.transaction:
                await connection.execute("BEGIN READ ONLY" if self._database.read_only else "BEGIN")
            self.is_waiting = False
            self._accept()
            outputs = await self._results(connection)
            self._check()
            await self._commit(connection, Ending(Phase.SUCCEEDED, outputs.SerializeToString(deterministic=True)))
        except Exception as error:
            if not client.is_lost(error, connection):
                raise
            if self._is_stopped:
                self.end(await self._control.settle(self.job_id, failures.ABORTED))

    async def _results(self, connection: Any) -> LiteralMap:
        await load_tables(connection, self._request.storage, self._request.tables, self._check)
        prepared = await connection.prepare(self._request.statement.sql)
        arguments = self._request.statement.bind(prepared.get_parameters(), self._request.inputs)
        columns = columns_of(prepared.get_attributes())
        self._check()
        if not columns:
            await prepared.fetch(*arguments)
            return await self._request.outputs.collect(_affected(prepared.get_statusmsg()))
        if not self._request.transaction:
            raise InvalidInputError("a statement with a result needs its transaction; leave `transaction` out")
        cursor = await prepared.cursor(*arguments)
        self._rows = Rows(columns, cursor.fetch, self._check)
        return await self._request.outputs.collect(self._rows)

    async def _commit(self, connection: Any, ending: Ending) -> None:
        """Make the statement's work and the job's end one, and both durable."""
        if connection.is_in_transaction() != self._request.transaction:
            raise InvalidInputError("the statement ended or began a transaction; the connector keeps that")
        ledger = self._control.ledger
        if ledger is not None and not await ledger.record(connection, self.job_id, ending):
            return  # the job has ended in another way, which its row tells; what this statement did is undone
        if self._request.transaction:
            await connection.execute("COMMIT")
        if ledger is None and self._request.manifest is not None:
            await self._request.manifest.write(ending)
        self.end(ending)

    def _check(self) -> None:
        if self._is_stopped:
            raise failures.HaltedError(failures.ABORTED)
        if self._is_out_of_time():
            raise failures.HaltedError(failures.OUT_OF_TIME)

    def _is_out_of_time(self) -> bool:
        return bool(self._deadline) and asyncio.get_running_loop().time() >= self._deadline

    async def _fail(self, error: Exception) -> None:
        if not self._accepted.done() and not isinstance(error, failures.HaltedError):
            self._accepted.set_exception(error)
            return
        ending = failures.ending_of(
            error, self._request.statement, is_stopped=self._is_stopped, is_out_of_time=self._is_out_of_time()
        )
        with contextlib.suppress(ConnectorError):  # then it is known here alone
            ending = await self._control.settle(self.job_id, ending)
        self.end(ending)

    def _accept(self) -> None:
        if not self._accepted.done():
            self._accepted.set_result(None)


def _affected(status: str) -> Rows | None:
    """Return the number of rows that a statement wrote as a result of one row, if it says one."""
    found = _AFFECTED.fullmatch(status or "")
    if found is None:
        return None
    rows = [(int(found[1]),)]

    async def fetch(most: int) -> list[Any]:
        taken = rows[:most]
        del rows[:most]
        return taken

    return Rows([Column("rows", "int8")], fetch)
