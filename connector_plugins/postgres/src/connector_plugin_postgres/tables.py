"""Results that are streamed: rows as the server sends them, written to Parquet in batches of bounded size."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from connector_plugin_postgres.columns import Column, arrow_schema, to_batch
from connector_plugin_postgres.storage import Storage, Target

FILE_NAME = "00000.parquet"

_BATCH_BYTES = 4 * 1024 * 1024
_FEWEST_ROWS, _MOST_ROWS = 100, 20_000


class Rows:
    """The rows of a running statement.

    Args:
        columns: what each row has.
        fetch: returns at most so many further rows, none when there are no more.
        check: raises when the job has to stop.
    """

    def __init__(
        self, columns: Sequence[Column], fetch: Callable[[int], Any], check: Callable[[], None] = lambda: None
    ) -> None:
        self.columns = columns
        self.number = 0
        self._fetch = fetch
        self._check = check

    async def fetch(self, most: int) -> list[Any]:
        """Return the next rows."""
        self._check()
        rows: list[Any] = await self._fetch(most)
        self.number += len(rows)
        return rows


async def write_table(storage: Storage, folder: str, rows: Rows, first: list[Any]) -> None:
    """Write `first`, which were fetched already, and all further rows to a Parquet file in a folder.

    Raises:
        ConnectorError: a value cannot be written, or the place does not take it.
    """
    writer = await asyncio.to_thread(_Writer, storage, f"{folder.rstrip('/')}/{FILE_NAME}", rows.columns)
    try:
        await _write_all(writer, rows, first)
        await asyncio.to_thread(writer.commit)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(writer.discard))
        raise


async def _write_all(writer: "_Writer", rows: Rows, first: list[Any]) -> None:
    batch = first or await rows.fetch(_FEWEST_ROWS)
    while batch:
        size = await asyncio.to_thread(writer.write, batch)
        fitting = int(_BATCH_BYTES * len(batch) / max(size, 1))
        # It grows by steps, so that a few large rows among small ones are not fetched by the thousand.
        most = max(1, min(fitting, 4 * max(len(batch), _FEWEST_ROWS), _MOST_ROWS))
        batch = await rows.fetch(most)


class _Writer:
    """Runs in threads, one call at a time."""

    def __init__(self, storage: Storage, uri: str, columns: Sequence[Column]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._columns = columns
        self._schema = arrow_schema(columns)
        self._target: Target = storage.open(uri)
        # What the default pool keeps for later is, for results of this size, most of what a host would hold.
        self._writer = pq.ParquetWriter(
            self._target.file, self._schema, compression="snappy", memory_pool=pa.system_memory_pool()
        )

    def write(self, rows: Sequence[Any]) -> int:
        """Write rows as a row group and return how many bytes they take in memory."""
        batch = to_batch(self._schema, self._columns, rows)
        self._writer.write_batch(batch)
        return int(batch.nbytes)

    def commit(self) -> None:
        self._writer.close()
        self._target.commit()

    def discard(self) -> None:
        with contextlib.suppress(Exception):
            self._writer.close()  # before its file is; it would complain when it is collected
        self._target.discard()
