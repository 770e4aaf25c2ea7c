"""What comes back: values inline as they are declared, tables as Parquet, and nothing that was changed on the way."""

import errno
import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flyteidl.core.types_pb2 import LiteralType

from connector_core import Phase
from connector_core.literals import to_python_map
from connector_core.testing import running_server
from connector_plugin_postgres.storage import LocalTarget

from .conftest import DATETIME, FLOAT, INTEGER, STRING, STRUCT, TABLE, Bench, outputs, run, task

LIST = LiteralType(collection_type=INTEGER)
LISTED = LiteralType(collection_type=STRING)
DICTS = LiteralType(collection_type=LiteralType(simple=STRUCT.simple))
NEW_YEAR = datetime(2020, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "declared", "expected"),
    [
        ("SELECT 7::int2", {"n": INTEGER}, {"n": 7}),
        ("SELECT 9223372036854775807", {"n": INTEGER}, {"n": 2**63 - 1}),
        ("SELECT 1.5::numeric", {"x": FLOAT}, {"x": 1.5}),
        ("SELECT 12345678901234567890.0123456789", {"x": STRING}, {"x": "12345678901234567890.0123456789"}),
        ("SELECT 7.0::numeric", {"n": INTEGER}, {"n": 7}),
        ("SELECT 'NaN'::numeric", {"x": STRING}, {"x": "NaN"}),
        ("SELECT timestamptz '2020-01-01 14:00+02'", {"t": DATETIME}, {"t": NEW_YEAR}),
        ("SELECT timestamp '2020-01-01 12:00'", {"t": DATETIME}, {"t": NEW_YEAR}),
        ("SELECT date '2020-01-01'", {"t": DATETIME}, {"t": datetime(2020, 1, 1, tzinfo=UTC)}),
        ("SELECT date '9999-12-31'", {"t": DATETIME}, {"t": datetime(9999, 12, 31, tzinfo=UTC)}),
        ("""SELECT '{"a": [1, null]}'::jsonb""", {"j": STRUCT}, {"j": {"a": [1, None]}}),
        ("""SELECT '{"a":1}'::json""", {"j": STRING}, {"j": '{"a":1}'}),
        (
            "SELECT '6f9619ff-8b86-d011-b42d-00c04fc964ff'::uuid",
            {"u": STRING},
            {"u": "6f9619ff-8b86-d011-b42d-00c04fc964ff"},
        ),
        ("SELECT inet '10.0.0.0/8'", {"i": STRING}, {"i": "10.0.0.0/8"}),
        ("SELECT time '12:30'", {"t": STRING}, {"t": "12:30:00"}),
        ("SELECT 'calm'::mood", {"m": STRING}, {"m": "calm"}),
        ("SELECT interval '1 month 2 days'", {"i": STRING}, {"i": "1 mon 2 days"}),
        ("SELECT 1 AS a, 'x' AS b, 2 AS further", {"a": INTEGER, "b": STRING}, {"a": 1, "b": "x"}),
        ("SELECT * FROM generate_series(1, 3)", {"n": LIST}, {"n": [1, 2, 3]}),
        ("SELECT ARRAY[1, 2]", {"n": LIST}, {"n": [1, 2]}),
        ("SELECT 1 WHERE false", {"n": LIST}, {"n": []}),
        ("SELECT 1 AS a, 'x' AS b", {"rows": DICTS}, {"rows": [{"a": 1, "b": "x"}]}),
        ("SELECT 1", {}, {}),
        ("CREATE TABLE made_empty (n int)", {}, {}),
        ("CREATE TABLE made_full AS SELECT * FROM generate_series(1, 3)", {"n": INTEGER}, {"n": 3}),
        ("SELECT 1 AS a, 2.50 AS b WHERE true", None, {"result": [{"a": 1, "b": "2.50"}]}),
        ("SELECT 1 WHERE false", None, {"result": []}),
        ("SELECT NULL::int", None, {"result": None}),
    ],
)
async def test_values_come_back_as_they_are_declared(shared: Bench, query: str, declared: Any, expected: Any) -> None:
    async with running_server(shared.connector()) as host:
        assert await outputs(host, task(query, declared)) == expected


@pytest.mark.parametrize("kind", ["float8", "numeric"])
async def test_a_number_that_is_none_stays_so(shared: Bench, kind: str) -> None:
    async with running_server(shared.connector()) as host:
        found = await outputs(host, task(f"SELECT 'NaN'::{kind}", {"x": FLOAT}))
    assert math.isnan(found["x"])


@pytest.mark.parametrize(
    ("query", "declared", "words"),
    [
        ("SELECT timestamptz 'infinity'", {"t": DATETIME}, "infinity is not a moment"),
        ("SELECT date '-infinity'", {"t": DATETIME}, "-infinity is not a moment"),
        ("SELECT timestamp '20000-01-01'", {"t": DATETIME}, "a year outside of 1 to 9999"),
        ("SELECT int4range(1, 3)", {"r": STRING}, "cast it to text"),
        ("SELECT point(1, 2)", None, "cast it to text"),
        ("SELECT 1 WHERE false", {"n": INTEGER}, "takes one row, but the result has 0"),
        ("SELECT * FROM generate_series(1, 2)", {"n": INTEGER}, "takes one row, but the result has 2"),
        ("SELECT 1 AS a, 2 AS b", {"n": INTEGER}, "has no column of its name"),
        ("SELECT NULL::int", {"n": INTEGER}, "output 'n'"),
        ("SELECT 1 AS a, 2 AS a", None, "two columns have the same name"),
        ("SELECT * FROM generate_series(1, 2000)", {"n": LIST}, "declare a StructuredDataset"),
        ("SELECT repeat('x', 2000000)", {"s": STRING}, "declare a StructuredDataset"),
        ("SELECT repeat('x', 1000000) FROM generate_series(1, 5000)", {"s": LISTED}, "declare a StructuredDataset"),
        ("CREATE TABLE made (n int)", {"n": INTEGER}, "the statement has no result"),
        ("SELECT 1", {"t": TABLE, "n": INTEGER}, "declare the table alone"),
        ("SELECT 1", {"../n": INTEGER}, "cannot be used as the name of a folder"),
    ],
)
async def test_a_result_that_does_not_fit_is_refused_and_its_statement_undone(
    shared: Bench, query: str, declared: Any, words: str
) -> None:
    async with running_server(shared.connector()) as host:
        over = await run(host, task(query, declared), prefix=shared.prefix)
    assert Phase(over.phase) is Phase.FAILED
    assert words in over.message
    assert await shared.sql("SELECT count(*) FROM pg_class WHERE relname = 'made'") == 0


MANY_TYPES = """
    SELECT n::int2 AS i2, n AS i4, n::int8 AS i8, n::float4 AS f4, CASE WHEN n = 2 THEN 'NaN'::float8 ELSE n END AS f8,
        n / 3.0 AS num, CASE WHEN n = 2 THEN 'NaN'::numeric END AS odd, n % 2 = 0 AS b, 'é' || n AS t, 'x'::bytea AS bin,
        date '2020-01-01' AS d, timestamp '2020-01-01 12:00' AS ts, timestamptz '2020-01-01 14:00+02' AS tz,
        ARRAY[n, NULL] AS l, ARRAY[timestamptz '2020-01-01 12:00Z'] AS lt, '{"a": 1}'::jsonb AS j,
        interval '1 month' AS iv, NULL::int AS nothing
    FROM generate_series(1, 3) AS n
"""


async def test_a_table_is_parquet_with_the_types_of_its_columns(bench: Bench) -> None:
    prefix = bench.prefix
    async with running_server(bench.connector()) as host:
        found = (await outputs(host, task(MANY_TYPES, {"t": TABLE}), prefix=prefix))["t"]
    assert (found.uri, found.format) == (f"{prefix}/t", "parquet")
    assert ("f8", float) in found.columns
    table = pq.read_table(Path(found.uri) / "00000.parquet")
    kinds = dict(zip(table.schema.names, table.schema.types, strict=True))
    assert (kinds["i2"], kinds["i8"], kinds["f4"], kinds["tz"]) == (
        pa.int16(), pa.int64(), pa.float32(), pa.timestamp("us", tz="UTC"),
    )  # fmt: skip
    first, second, _third = table.to_pylist()
    noon = datetime(2020, 1, 1, 12, tzinfo=UTC)
    assert first["i4"] == 1
    assert Decimal(first["num"]) == Decimal("0.33333333333333333333")
    assert (first["tz"], first["ts"], first["d"]) == (noon, noon.replace(tzinfo=None), noon.date())
    assert (first["b"], first["t"], first["bin"], first["l"], first["lt"]) == (False, "é1", b"x", [1, None], [noon])
    assert (first["j"], first["iv"], first["nothing"]) == ('{"a": 1}', "1 mon", None)
    assert math.isnan(second["f8"])
    assert (first["odd"], second["odd"]) == (None, "NaN")


async def test_an_empty_table_has_its_columns(bench: Bench) -> None:
    async with running_server(bench.connector()) as host:
        found = (await outputs(host, task("SELECT 1 AS a WHERE false", {"t": TABLE}), prefix=bench.prefix))["t"]
    table = pq.read_table(Path(found.uri) / "00000.parquet")
    assert (table.num_rows, table.schema.names) == (0, ["a"])


async def test_a_long_result_that_nothing_declares_becomes_a_table(bench: Bench) -> None:
    query = task("SELECT n, 'row ' || n AS t FROM generate_series(1, 50000) AS n")
    async with running_server(bench.connector()) as host:
        found = (await outputs(host, query, prefix=bench.prefix))["result"]
    table = pq.read_table(Path(found.uri) / "00000.parquet")
    assert table["n"].to_pylist() == list(range(1, 50001))
    assert table["t"][49999].as_py() == "row 50000"


async def test_a_moment_that_parquet_does_not_have_fails_the_job_and_leaves_no_file(bench: Bench) -> None:
    query = task(
        "SELECT CASE WHEN n = 5000 THEN 'infinity' ELSE now() END AS t FROM generate_series(1, 9000) AS n", {"t": TABLE}
    )
    async with running_server(bench.connector()) as host:
        over = await run(host, query, prefix=bench.prefix)
    assert Phase(over.phase) is Phase.FAILED
    assert "infinity is not a moment" in over.message
    assert [path for path in bench.folder.rglob("*") if path.is_file()] == []


async def test_rows_of_a_writing_statement_come_back_with_its_work_done(bench: Bench) -> None:
    await bench.sql("CREATE TABLE t (n int)", "SELECT 1")
    query = task("INSERT INTO t SELECT * FROM generate_series(1, 30000) RETURNING n", {"t": TABLE})
    nobody_reads = task("INSERT INTO t SELECT * FROM generate_series(1, 30000) RETURNING n", {})
    async with running_server(bench.connector()) as host:
        found = (await outputs(host, query, prefix=bench.prefix))["t"]
        assert await outputs(host, nobody_reads) == {}
    assert pq.read_table(Path(found.uri) / "00000.parquet").num_rows == 30000
    assert await bench.sql("SELECT count(*) FROM t") == 60000


async def test_a_full_disk_is_told_and_can_be_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: LocalTarget) -> None:
        self.file.close()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalTarget, "commit", full)
    await bench.sql("CREATE TABLE t (n int)", "SELECT 1")
    async with running_server(bench.connector()) as host:
        over = await run(host, task("INSERT INTO t VALUES (1) RETURNING n", {"t": TABLE}), prefix=bench.prefix)
    assert Phase(over.phase) is Phase.RETRYABLE_FAILED
    assert "No space left on device" in over.message
    assert await bench.sql("SELECT count(*) FROM t") == 0
    assert [path for path in bench.folder.rglob("*") if path.is_file()] == []


async def test_results_go_only_where_the_operator_allows_it(bench: Bench, tmp_path: Path) -> None:
    async with running_server(bench.connector()) as host:
        for prefix in (
            "/etc/results",
            f"{tmp_path}/../elsewhere",
            "s3://bucket/x",
            "ftp://server/x",
            f"{tmp_path}/a\0b",
        ):
            over = await run(host, task("SELECT 1 AS a", {"t": TABLE}), prefix=prefix)
            assert Phase(over.phase) is Phase.FAILED, prefix


async def test_a_read_only_connection_writes_no_row_and_its_manifest_is_the_end(bench: Bench) -> None:
    prefix = bench.prefix
    await bench.sql("CREATE TABLE t (n int)", "SELECT 1")
    async with running_server(bench.connector(read_only=True)) as host:
        meta = await host.create(task("SELECT 42 AS n", {"n": INTEGER}), output_prefix=prefix)
        first = await run(host, task("SELECT 42 AS n", {"n": INTEGER}), prefix=prefix)
        refused = await run(host, task("INSERT INTO t VALUES (1)"))
        outside = await run(host, task("VACUUM t", transaction=False))
    assert (Phase(refused.phase), refused.agent_error.code) == (Phase.FAILED, "READ_ONLY")
    assert Phase(outside.phase) is Phase.FAILED
    async with running_server(bench.connector(read_only=True)) as host:
        over = await host.get("postgres_query", meta)
    assert to_python_map(over.outputs) == to_python_map(first.outputs) == {"n": 42}
    assert await bench.sql("SELECT count(*) FROM flyte_jobs") == 0


async def test_without_a_place_for_the_manifest_a_result_is_lost_with_its_host(bench: Bench) -> None:
    async with running_server(bench.connector(read_only=True)) as host:
        meta = await host.create(task("SELECT 42"), output_prefix="s3://nowhere/0")
        assert Phase((await run(host, task("SELECT 42"), prefix="s3://nowhere/0")).phase) is Phase.SUCCEEDED
    async with running_server(bench.connector(read_only=True)) as host:
        over = await host.get("postgres_query", meta)
    assert Phase(over.phase) is Phase.RETRYABLE_FAILED
    assert "it only read" in over.message
