"""A host's connection to a database for all that is not a job's statement: claims, look-ups, cancellations."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from connector_core import BackendUnavailableError, PermanentError, Phase
from connector_core.errors import InPoll
from connector_plugin_postgres import client
from connector_plugin_postgres.config import SECTION, Database
from connector_plugin_postgres.ledger import Ending, Ledger, application_name, ddl, locks_of

_APPLICATION = "flyte-connector"
_HOLDERS = """
    SELECT l.pid FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.classid = (($1::bigint >> 32) & 4294967295)::oid AND l.objid = ($1::bigint & 4294967295)::oid
"""
_STATE = """
    SELECT pid, coalesce(state, '') AS state, coalesce(wait_event_type, '') AS wait
    FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()
"""
# The lock's holder and its name have to agree, so that a process number which was given away is not signalled.
_SIGNAL = "SELECT {function}(pid) FROM pg_stat_activity WHERE pid IN ({holders}) AND application_name = $2"

AnswerT = TypeVar("AnswerT")


class KeyTableError(PermanentError):
    """The key table is not as it has to be: no job can begin, while of those that run it tells nothing."""

    in_poll = InPoll.RIDDEN_OUT


class Alive(NamedTuple):
    """The database's view of a job that is not over: its backend, `pid` 0 while it waits for its turn at a host."""

    pid: int
    state: str = ""
    wait: str = ""


class Control:
    """Opened when it is first needed, and again after it was lost.

    Args:
        name: what callers call the database.
        database: its settings.
    """

    def __init__(self, name: str, database: Database) -> None:
        self._name = name
        self._database = database
        self._ledger = Ledger(database.key_table) if database.key_table else None
        self._connection: Any = None
        self._turn = asyncio.Lock()
        self._claimed: set[str] = set()

    @property
    def ledger(self) -> Ledger | None:
        """The key table; `None` where transactions are read-only."""
        return self._ledger

    async def close(self) -> None:
        """Close the connection, and with it give up all claims."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def claim(self, job: str) -> bool:
        """Take a job for this host; return whether it is this host's."""
        lock, _ = locks_of(job)

        async def take(connection: Any) -> bool:
            if job not in self._claimed and await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock):
                self._claimed.add(job)
            return job in self._claimed

        return await self._ask(take)

    async def release(self, job: str) -> None:
        """Give a job up; one whose claim was lost with the connection is not held any more."""
        lock, _ = locks_of(job)

        async def give(connection: Any) -> None:
            if job in self._claimed:
                self._claimed.discard(job)
                await connection.fetchval("SELECT pg_advisory_unlock($1)", lock)

        await self._ask(give)

    async def alive(self, job: str) -> Alive | None:
        """Return what runs a job or waits with it, at whichever host; `None` when nothing does."""
        claim, running = locks_of(job)

        async def look(connection: Any) -> Alive | None:
            if (pid := await connection.fetchval(_HOLDERS, running)) is not None:
                row = await connection.fetchrow(_STATE, application_name(job))
                return Alive(pid, row["state"], row["wait"]) if row else Alive(pid)
            return Alive(0) if await connection.fetchval(_HOLDERS, claim) is not None else None

        return await self._ask(look)

    async def find(self, job: str) -> Ending | None:
        """Return the job's row."""
        ledger = self._ledger
        return None if ledger is None else await self._ask(lambda connection: ledger.find(connection, job))

    async def settle(self, job: str, ending: Ending) -> Ending:
        """Make an ending the job's, unless it has one; return the one that it has.

        A row that says "lost" keeps a statement that was thought dead from being committed after all.
        """
        ledger = self._ledger
        if ledger is None:
            return ending

        async def write(connection: Any) -> Ending:
            if await ledger.record(connection, job, ending):
                return ending
            return await ledger.find(connection, job) or ending

        return await self._ask(write)

    async def cancel(self, job: str) -> bool:
        """Ask the job's backend to cancel its statement; return whether there is one."""
        return await self._signal("pg_cancel_backend", job)

    async def terminate(self, job: str) -> bool:
        """End the job's connection; return whether there is one."""
        return await self._signal("pg_terminate_backend", job)

    async def _signal(self, function: str, job: str) -> bool:
        query = _SIGNAL.format(function=function, holders=_HOLDERS)
        arguments = (locks_of(job)[1], application_name(job))
        return await self._ask(lambda connection: connection.fetchval(query, *arguments)) is not None

    async def _ask(self, question: Callable[[Any], Awaitable[AnswerT]]) -> AnswerT:
        """Put a question to the database; once more where the connection turns out to be gone.

        Raises:
            BackendUnavailableError: the server cannot be reached.
            KeyTableError: the key table is not as it has to be.
        """
        import asyncpg

        async with self._turn:
            for attempt in (1, 2):
                connection = await self._opened()
                try:
                    async with asyncio.timeout(self._database.connect_timeout):
                        return await question(connection)
                except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                    if not isinstance(error, TimeoutError) and not client.is_lost(error, connection):
                        raise self._explained(error) from error
                    await self.close()
                    if attempt == 2 or isinstance(error, TimeoutError):
                        reason = str(error) or type(error).__name__
                        raise BackendUnavailableError(f"connection {self._name!r}: lost: {reason}") from error
        raise AssertionError("not reached")

    async def _opened(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._claimed.clear()
            self._connection = await client.connect(self._name, self._database, _APPLICATION)
        return self._connection

    def _explained(self, error: Exception) -> Exception:
        state = getattr(error, "sqlstate", "") or ""
        if state.startswith("53"):
            return BackendUnavailableError(f"connection {self._name!r}: {error}")
        if self._ledger is None:
            return PermanentError(f"connection {self._name!r}: {error}", error_code=f"SQLSTATE_{state}")
        return KeyTableError(
            f"connection {self._name!r}: the key table {self._ledger.table} cannot be used: {error}; the operator of the host "
            f"names it in {SECTION}, makes it, and grants SELECT and INSERT:\n{ddl(self._ledger.table)}",
            error_code="KEY_TABLE",
        )


def phase_of(alive: Alive, name: str) -> tuple[Phase, str]:
    """Return the phase and the words for a job that is not over."""
    if not alive.pid:
        return Phase.WAITING_FOR_RESOURCES, f"waits for one of the `max_jobs` of connection {name!r}"
    words = f"runs on connection {name!r}, backend {alive.pid}"
    if alive.wait == "Lock":
        return Phase.RUNNING, f"{words}, and waits for a lock"
    return Phase.RUNNING, words
