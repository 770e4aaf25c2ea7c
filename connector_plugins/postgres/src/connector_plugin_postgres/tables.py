"""Results that are streamed: rows as the server sends them, written to Parquet in batches of bounded size."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from connector_plugin_postgres.columns import Column, arrow_schema, to_batch
from connector_plugin_postgres.storage import Storage, Target, translated

FILE_NAME = "00000.parquet"

_BATCH_BYTES = 4 * 1024 * 1024
_FIRST_ROWS, _MOST_ROWS, _GROWTH = 10, 10_000, 4
_SAMPLE_ROWS = 100
_VALUE_BYTES = 16


class Rows:
    """The rows of a running statement, in batches of some megabytes.

    Args:
        columns: what each row has.
        fetch: returns at most so many further rows, none when there are no more.
        check: raises when the job has to stop.

    Attributes:
        number: how many rows have come.
        size: some estimate of their bytes.
    """

    def __init__(
        self, columns: Sequence[Column], fetch: Callable[[int], Any], check: Callable[[], None] = lambda: None
    ) -> None:
        self.columns = columns
        self.number = 0
        self.size = 0
        self._fetch = fetch
        self._check = check
        self._next = _FIRST_ROWS

    async def batch(self) -> list[Any]:
        """Return the next rows; none when there are no more."""
        self._check()
        rows: list[Any] = await self._fetch(self._next)
        if rows:
            self.number += len(rows)
            mean = _mean_size(rows)
            self.size += mean * len(rows)
            # It grows by steps, so that large rows after small ones are not fetched by the thousand.
            self._next = max(1, min(_BATCH_BYTES // mean, _GROWTH * self._next, _MOST_ROWS))
        return rows


def _mean_size(rows: list[Any]) -> int:
    """Estimate the bytes of a row, from some of them."""
    sample = rows[:: max(1, len(rows) // _SAMPLE_ROWS)]
    sizes = (len(value) if isinstance(value, str | bytes) else _VALUE_BYTES for row in sample for value in row)
    return max(1, sum(sizes) // len(sample))


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
    batch = first or await rows.batch()
    while batch:
        await asyncio.to_thread(writer.write, batch)
        batch.clear()  # while the next ones come, these would be in memory beside them
        batch = await rows.batch()


class _Writer:
    """Runs in threads, one call at a time."""

    def __init__(self, storage: Storage, uri: str, columns: Sequence[Column]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._uri = uri
        self._columns = columns
        self._schema = arrow_schema(columns)
        self._target: Target = storage.open(uri)
        # What the default pool keeps for later is, for results of this size, most of what a host would hold.
        self._writer = pq.ParquetWriter(
            self._target.file, self._schema, compression="snappy", memory_pool=pa.system_memory_pool()
        )

    def write(self, rows: Sequence[Any]) -> None:
        """Write rows as a row group."""
        batch = to_batch(self._schema, self._columns, rows)
        with translated(f"write {self._uri}"):
            self._writer.write_batch(batch)

    def commit(self) -> None:
        with translated(f"write {self._uri}"):
            self._writer.close()
            self._target.commit()

    def discard(self) -> None:
        with contextlib.suppress(Exception):
            self._writer.close()  # before its file is; it would complain when it is collected
        self._target.discard()
