"""Inputs that are tables: Parquet in a folder, a table of its name for the statement, and nothing of it afterwards."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connector_core import Phase
from connector_core.literals import StructuredDataset
from connector_core.testing import running_server

from .conftest import TABLE, Bench, outputs, run, task

NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)


def table(folder: Path, *parts: dict[str, Any]) -> StructuredDataset:
    """A dataset of one file for each part, beside files that are not of it."""
    folder.mkdir()
    for number, part in enumerate(parts):
        pq.write_table(pa.table(part), folder / f"{number:05}.parquet")
    (folder / "_SUCCESS").touch()
    return StructuredDataset(str(folder), "parquet")


async def test_a_table_is_there_by_its_name(bench: Bench, tmp_path: Path) -> None:
    days = table(tmp_path / "days", {"n": [1, 2]}, {"n": [3]})
    async with running_server(bench.connector()) as host:
        query = task("SELECT sum(n)::int8 + $more::int8 FROM days")
        assert await outputs(host, query, {"days": days, "more": 10}) == {"result": 16}
        again = await run(host, task("SELECT * FROM days"))
        assert again.agent_error.code == "SQLSTATE_42P01"


async def test_what_a_statement_wrote_as_a_table_another_one_reads(bench: Bench) -> None:
    made = "SELECT n, n::float8 / 2 AS x, 'é' || n AS t, now() AS at FROM generate_series(1, 20000) AS n"
    async with running_server(bench.connector()) as host:
        written = (await outputs(host, task(made, {"t": TABLE}), prefix=bench.prefix))["t"]
        query = task("INSERT INTO kept SELECT n, x FROM rows WHERE t = 'é' || n AND at <= now()")
        await bench.sql("CREATE TABLE kept (n int, x float8)", "SELECT 1")
        assert await outputs(host, query, {"rows": written}) == {"result": 20000}
    assert await bench.sql("SELECT sum(x) FROM kept") == 20000 * 20001 / 4


async def test_columns_keep_their_types_and_names(bench: Bench, tmp_path: Path) -> None:
    columns = {
        'a"b': pa.array([1, None], pa.int8()),
        "u": pa.array([2**64 - 1, 0], pa.uint64()),
        "d": pa.array([Decimal("1.50"), None]),
        "s": pa.array(["x", "y"]).dictionary_encode(),
        "bin": pa.array([b"\0x", None], pa.large_binary()),
        "day": pa.array([NOON.date(), None]),
        "at": pa.array([NOON, None], pa.timestamp("ns", "UTC")),
        "plain": pa.array([NOON.replace(tzinfo=None), None], pa.timestamp("ms")),
        "b": [True, None],
    }
    types = """
        SELECT string_agg(DISTINCT concat_ws(' ', pg_typeof("a""b"), pg_typeof(u), pg_typeof(d), pg_typeof(s),
            pg_typeof(bin), pg_typeof(day), pg_typeof(at), pg_typeof(plain), pg_typeof(b)), ';') AS types,
            max(u)::text AS u, max(d)::text AS d, max(at) AS at, max(s) AS s, count("a""b")::int AS ones
        FROM "of all"
    """
    async with running_server(bench.connector()) as host:
        inputs = {"of all": table(tmp_path / "t", columns)}
        (found,) = (await outputs(host, task(types), inputs))["result"]
    assert found["types"].startswith(
        "smallint numeric numeric text bytea date timestamp with time zone timestamp without"
    )
    assert (found["u"], found["d"], found["s"], found["ones"]) == (str(2**64 - 1), "1.50", "y", 1)
    assert found["at"] == NOON.isoformat()


async def test_an_empty_table_has_its_columns(bench: Bench, tmp_path: Path) -> None:
    empty = table(tmp_path / "t", {"n": pa.array([], pa.int32())})
    async with running_server(bench.connector()) as host:
        assert await outputs(host, task("SELECT count(n)::int FROM t"), {"t": empty}) == {"result": 0}


@pytest.mark.parametrize(
    ("make", "query", "words"),
    [
        (lambda folder: table(folder, {"n": [1]}), "SELECT $t::text", "write it as one in the statement"),
        (lambda folder: StructuredDataset(str(folder), "csv"), "TABLE t", "of format 'csv'; Parquet is read"),
        (lambda folder: StructuredDataset(str(folder), "parquet"), "TABLE t", "there is no file at"),
        (lambda folder: StructuredDataset("/etc", "parquet"), "TABLE t", "in none of the allowed_directories"),
        (lambda folder: table(folder, {"l": [[1]]}), "TABLE t", "is of type list<element: int64>, which is not read"),
        (lambda folder: table(folder, {"n": [1]}, {"m": [1]}), "TABLE t", "have different columns"),
        (
            lambda folder: table(folder, {"t": pa.array([1], pa.timestamp("ns"))}),
            "TABLE t",
            "would lose data",
        ),
        (lambda folder: table(folder, {"s": ["a\0b"]}), "TABLE t", "invalid byte sequence"),
    ],
)
async def test_a_table_that_cannot_be_read_fails_the_job(
    bench: Bench, tmp_path: Path, make: Any, query: str, words: str
) -> None:
    async with running_server(bench.connector()) as host:
        over = await run(host, task(query), {"t": make(tmp_path / "t")})
    assert Phase(over.phase) is Phase.FAILED, over.message
    assert words in over.message


async def test_what_is_not_parquet_is_told(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("a,b\n1,2\n")
    async with running_server(bench.connector()) as host:
        over = await run(host, task("TABLE t"), {"t": StructuredDataset(str(tmp_path / "t.parquet"))})
    assert (Phase(over.phase), "cannot be read" in over.message) == (Phase.FAILED, True)


async def test_a_table_needs_a_transaction_that_writes(bench: Bench, tmp_path: Path) -> None:
    inputs = {"t": table(tmp_path / "t", {"n": [1]})}
    async with running_server(bench.connector(read_only=True)) as host:
        over = await run(host, task("TABLE t"), inputs)
        assert "which cannot be made on a read-only connection" in over.message
    async with running_server(bench.connector()) as host:
        over = await run(host, task("VACUUM", transaction=False), inputs)
        assert "which cannot be made without a transaction" in over.message
