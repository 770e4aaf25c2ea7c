"""The key table: one row for each job that is over, written in the job's own transaction where it succeeded."""

import hashlib
from dataclasses import dataclass
from typing import Any

from connector_core import Phase

_COLUMNS = """\
    job         text PRIMARY KEY,
    phase       text NOT NULL,
    outputs     bytea NOT NULL DEFAULT '',
    message     text NOT NULL DEFAULT '',
    error_code  text NOT NULL DEFAULT '',
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp()"""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a job; `outputs` are the bytes of its `LiteralMap`."""

    phase: Phase
    outputs: bytes = b""
    message: str = ""
    error_code: str = ""


def job_id(connection: str, key: str) -> str:
    """Return what a job is called in the database: the same for the same key on the same connection."""
    return hashlib.sha256(f"{connection}\n{key}".encode()).hexdigest()[:48]


def application_name(job: str) -> str:
    """Return the name under which `pg_stat_activity` shows a job; PostgreSQL keeps 63 bytes."""
    return f"flyte-{job}"


def locks_of(job: str) -> tuple[int, int]:
    """Return the numbers of a job's two advisory locks: its host holds the first, its statement's connection the second."""
    digest = bytes.fromhex(job)
    return int.from_bytes(digest[:8], signed=True), int.from_bytes(digest[8:16], signed=True)


def ddl(table: str) -> str:
    """Return the statement that makes a key table."""
    return f"CREATE TABLE {table} (\n{_COLUMNS}\n);"


class Ledger:
    """Reads and writes rows of a key table.

    Args:
        table: its name as the settings have it, which is plain lower case.
    """

    def __init__(self, table: str) -> None:
        self.table = table
        quoted = ".".join(f'"{part}"' for part in table.split("."))
        self._insert = (
            f"INSERT INTO {quoted} (job, phase, outputs, message, error_code) "  # noqa: S608 - the operator's name, checked
            "VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING job"
        )
        self._select = f"SELECT phase, outputs, message, error_code FROM {quoted} WHERE job = $1"  # noqa: S608 - as above

    async def record(self, connection: Any, job: str, ending: Ending) -> bool:
        """Write a job's row; return whether there was none before."""
        message = ending.message.replace("\0", "")
        row = (job, ending.phase.name, ending.outputs, message, ending.error_code)
        return await connection.fetchval(self._insert, *row) is not None

    async def find(self, connection: Any, job: str) -> Ending | None:
        """Return how a job ended, if it has a row."""
        row = await connection.fetchrow(self._select, job)
        if row is None:
            return None
        phase = Phase.__members__.get(row["phase"], Phase.FAILED)
        return Ending(phase, row["outputs"], row["message"], row["error_code"])
