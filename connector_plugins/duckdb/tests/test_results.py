"""What comes back from a query, by what the task declares."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.types_pb2 import EnumType, LiteralType, SchemaType, SimpleType, StructuredDatasetType, UnionType

from connector_core import InvalidInputError
from connector_plugin_duckdb.connector import DuckDBConnector

Ask = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
Connect = Callable[..., DuckDBConnector]
Asking = Callable[[DuckDBConnector], Ask]

INTEGER = LiteralType(simple=SimpleType.INTEGER)
FLOAT = LiteralType(simple=SimpleType.FLOAT)
STRING = LiteralType(simple=SimpleType.STRING)
BOOLEAN = LiteralType(simple=SimpleType.BOOLEAN)
DATETIME = LiteralType(simple=SimpleType.DATETIME)
DURATION = LiteralType(simple=SimpleType.DURATION)
STRUCT = LiteralType(simple=SimpleType.STRUCT)
BINARY = LiteralType(simple=SimpleType.BINARY)
NONE = LiteralType(simple=SimpleType.NONE)
DATASET = LiteralType(structured_dataset_type=StructuredDatasetType())


def listed(kind: LiteralType) -> LiteralType:
    return LiteralType(collection_type=kind)


def optional(kind: LiteralType) -> LiteralType:
    return LiteralType(union_type=UnionType(variants=[kind, NONE]))


class TestWithoutAnInterface:
    async def test_one_row_of_one_column_is_its_value(self, ask: Ask) -> None:
        assert await ask("SELECT 41 + 1") == {"result": 42}

    async def test_other_results_are_rows_as_dicts(self, ask: Ask) -> None:
        assert await ask("SELECT range AS n, range > 0 AS positive FROM range(2)") == {
            "result": [{"n": 0, "positive": False}, {"n": 1, "positive": True}]
        }

    async def test_an_empty_result_is_an_empty_list(self, ask: Ask) -> None:
        assert await ask("SELECT 1 WHERE false") == {"result": []}

    async def test_a_statement_without_result_has_no_outputs(self, ask: Ask) -> None:
        assert await ask("CREATE VIEW v AS SELECT 1") == {}

    async def test_the_number_of_changed_rows_is_a_result(self, ask: Ask) -> None:
        assert await ask("CREATE TABLE t (n INT); INSERT INTO t VALUES (1), (2)") == {"result": 2}

    async def test_returning_gives_the_rows(self, ask: Ask) -> None:
        sql = "CREATE TABLE t (n INT, m INT); INSERT INTO t VALUES (1, 2) RETURNING n, m"
        assert await ask(sql) == {"result": [{"n": 1, "m": 2}]}

    @pytest.mark.parametrize(
        ("sql", "expected"),
        [
            ("CREATE TABLE t (n INT); DESCRIBE t", "column_name"),
            ("CALL pragma_version()", "library_version"),
            ("EXPLAIN SELECT 1", "explain_key"),
            ("PRAGMA database_list", "name"),
            ("PREPARE p AS SELECT 1 AS a, 2 AS b; EXECUTE p", "a"),
        ],
    )
    async def test_statements_that_are_no_select_give_rows_too(self, ask: Ask, sql: str, expected: Any) -> None:
        (row, *_others) = (await ask(sql))["result"]
        assert expected in row

    async def test_a_pivot_is_a_result(self, ask: Ask) -> None:
        sql = "CREATE TABLE t AS SELECT * FROM (VALUES ('a', 1), ('b', 2)) v(k, n); PIVOT t ON k USING sum(n)"
        assert await ask(sql) == {"result": [{"a": 1, "b": 2}]}

    async def test_the_last_of_several_statements_gives_the_result(self, ask: Ask) -> None:
        assert await ask("SELECT 1; SELECT 2; -- the end\n") == {"result": 2}

    async def test_columns_of_one_name_are_all_kept(self, ask: Ask) -> None:
        assert await ask("SELECT 1 AS a, 2 AS a") == {"result": [{"a": 1, "a_1": 2}]}


class TestDeclaredValues:
    @pytest.mark.parametrize(
        ("sql", "kind", "expected"),
        [
            ("SELECT 9007199254740993", INTEGER, 9007199254740993),
            ("SELECT sum(range) FROM range(10)", INTEGER, 45),
            ("SELECT 7::UBIGINT", INTEGER, 7),
            ("SELECT 12.00::DECIMAL(9, 2)", INTEGER, 12),
            ("SELECT 2", FLOAT, 2.0),
            ("SELECT 0.5::FLOAT", FLOAT, 0.5),
            ("SELECT 'Infinity'::DOUBLE", FLOAT, float("inf")),
            ("SELECT 1.25::DECIMAL(9, 2)", FLOAT, 1.25),
            ("SELECT 1.10::DECIMAL(38, 2)", STRING, "1.10"),
            ("SELECT 'ä'", STRING, "ä"),
            ("SELECT 'a'::ENUM('a', 'b')", LiteralType(enum_type=EnumType(values=["a", "b"])), "a"),
            ("SELECT TIME '10:00:00.5'", STRING, "10:00:00.5"),
            ("SELECT true", BOOLEAN, True),
            ("SELECT TIMESTAMP '2024-02-29 12:00:00.000001'", DATETIME, datetime(2024, 2, 29, 12, 0, 0, 1, UTC)),
            ("SELECT TIMESTAMPTZ '2024-02-29 12:00:00+02'", DATETIME, datetime(2024, 2, 29, 10, tzinfo=UTC)),
            ("SELECT TIMESTAMP_NS '2024-02-29 12:00:00.5'", DATETIME, datetime(2024, 2, 29, 12, 0, 0, 500000, UTC)),
            ("SELECT DATE '2024-02-29'", DATETIME, datetime(2024, 2, 29, tzinfo=UTC)),
            ("SELECT INTERVAL '3 days 04:05:06.000007'", DURATION, timedelta(3, 4 * 3600 + 5 * 60 + 6, 7)),
            ("SELECT INTERVAL '-1 days' - INTERVAL '90 minutes'", DURATION, -timedelta(days=1, minutes=90)),
            ("SELECT INTERVAL '400 hours'", DURATION, timedelta(hours=400)),
            ("SELECT x'00ff'::BLOB", BINARY, b"\x00\xff"),
            ("SELECT NULL", optional(INTEGER), None),
            ("SELECT 1", optional(INTEGER), 1),
            ("SELECT [1, NULL]", listed(optional(INTEGER)), [1, None]),
            ("SELECT [[1], []]", listed(listed(INTEGER)), [[1], []]),
            ("SELECT {'a': 1, 'b': [DATE '2024-02-29']}", STRUCT, {"a": 1, "b": ["2024-02-29"]}),
            ("SELECT MAP {'a': 1}", LiteralType(map_value_type=INTEGER), {"a": 1}),
            ("SELECT MAP {7: 1.5::DECIMAL(3, 1)}", LiteralType(map_value_type=FLOAT), {"7": 1.5}),
        ],
    )
    async def test_a_value_is_what_it_is_in_duckdb(self, ask: Ask, sql: str, kind: Any, expected: Any) -> None:
        assert await ask(sql, outputs={"o0": kind}) == {"o0": expected}

    @pytest.mark.parametrize(
        ("sql", "kind", "said"),
        [
            ("SELECT 2::HUGEINT * 9223372036854775807 AS big", INTEGER, "big"),
            ("SELECT 1.5::DECIMAL(3, 1) AS n", INTEGER, "n"),
            ("SELECT 'one' AS n", INTEGER, "column 'n', VARCHAR"),
            ("SELECT NULL AS n", INTEGER, "nothing (None)"),
            ("SELECT TIMESTAMP 'infinity' AS t", DATETIME, "outside of the years"),
            ("SELECT TIMESTAMP_NS '2024-01-01 00:00:00.000000001' AS t", DATETIME, "finer than microseconds"),
            ("SELECT DATE '10000-01-01' AS d", DATETIME, "outside of the years"),
            ("SELECT DATE '0044-03-15 (BC)' AS d", DATETIME, "outside of the years"),
            ("SELECT INTERVAL '2 months 3 days' AS i", DURATION, "no fixed length"),
            ("SELECT INTERVAL '-1 year' AS i", DURATION, "no fixed length"),
        ],
    )
    async def test_a_value_that_would_change_is_refused(self, ask: Ask, sql: str, kind: Any, said: str) -> None:
        with pytest.raises(InvalidInputError) as caught:
            await ask(sql, outputs={"o0": kind})
        assert said in str(caught.value)

    async def test_outputs_are_columns_by_name(self, ask: Ask) -> None:
        outputs = {"n": INTEGER, "Name": STRING}
        assert await ask("SELECT 'x' AS name, 3 AS n, 0 AS other", outputs=outputs) == {"n": 3, "Name": "x"}

    async def test_an_output_without_column_is_an_error_that_names_the_columns(self, ask: Ask) -> None:
        with pytest.raises(InvalidInputError, match="output 'm' has no column of its name; the result has 'n', 'k'"):
            await ask("SELECT 1 AS n, 2 AS k", outputs={"m": INTEGER})

    async def test_a_list_is_a_column_of_all_rows(self, ask: Ask) -> None:
        assert await ask("FROM range(3)", outputs={"o0": listed(INTEGER)}) == {"o0": [0, 1, 2]}

    async def test_a_list_of_no_rows_is_empty(self, ask: Ask) -> None:
        assert await ask("SELECT 1 WHERE false", outputs={"o0": listed(INTEGER)}) == {"o0": []}

    async def test_a_list_of_lists_is_a_column_of_lists(self, ask: Ask) -> None:
        sql = "SELECT [n, n] FROM range(2) t(n)"
        assert await ask(sql, outputs={"o0": listed(listed(INTEGER))}) == {"o0": [[0, 0], [1, 1]]}

    async def test_several_lists_are_several_columns(self, ask: Ask) -> None:
        sql = "SELECT n, n::VARCHAR AS s FROM range(2) t(n)"
        assert await ask(sql, outputs={"n": listed(INTEGER), "s": listed(STRING)}) == {"n": [0, 1], "s": ["0", "1"]}

    async def test_a_list_of_dicts_is_the_rows(self, ask: Ask) -> None:
        sql = "SELECT n, -n AS m FROM range(2) t(n)"
        assert await ask(sql, outputs={"o0": listed(STRUCT)}) == {"o0": [{"n": 0, "m": 0}, {"n": 1, "m": -1}]}

    async def test_a_dict_is_the_row(self, ask: Ask) -> None:
        assert await ask("SELECT 1 AS n, 'x' AS s", outputs={"o0": STRUCT}) == {"o0": {"n": 1, "s": "x"}}

    @pytest.mark.parametrize("sql", ["FROM range(2)", "SELECT 1 WHERE false"])
    async def test_a_single_value_takes_exactly_one_row(self, ask: Ask, sql: str) -> None:
        with pytest.raises(InvalidInputError, match="takes one row"):
            await ask(sql, outputs={"o0": INTEGER})

    async def test_a_task_without_outputs_gets_none(self, ask: Ask) -> None:
        assert await ask("SELECT 1", outputs={}) == {}

    async def test_outputs_need_a_result(self, ask: Ask) -> None:
        with pytest.raises(InvalidInputError, match="no result"):
            await ask("CREATE VIEW v AS SELECT 1", outputs={"o0": INTEGER})

    async def test_a_table_among_several_outputs_is_refused_before_anything_runs(self, ask: Ask) -> None:
        with pytest.raises(InvalidInputError, match="declare the table alone"):
            await ask("this is no SQL", outputs={"t": DATASET, "n": INTEGER})

    async def test_a_schema_among_several_outputs_is_refused_too(self, ask: Ask) -> None:
        outputs = {"t": LiteralType(schema=SchemaType()), "n": INTEGER}
        with pytest.raises(InvalidInputError, match="declare the table alone"):
            await ask("SELECT 1", outputs=outputs)

    @pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden"])
    async def test_an_output_name_that_is_no_folder_name_is_refused(self, ask: Ask, name: str) -> None:
        with pytest.raises(InvalidInputError, match="output name"):
            await ask("SELECT 1", outputs={name: DATASET})


class TestSize:
    @pytest.fixture
    def ask_small(self, connect: Connect, asking: Asking, open_folder: Path) -> Ask:
        return asking(connect(inline_rows=10, inline_bytes="1kB", allowed_directories=[str(open_folder)]))

    async def test_many_rows_become_parquet_where_nothing_is_declared(self, ask_small: Ask, open_folder: Path) -> None:
        outputs = await ask_small("FROM range(11)", prefix=str(open_folder))
        assert outputs["result"].uri == f"{open_folder}/result"
        assert outputs["result"].format == "parquet"

    async def test_large_values_become_parquet_where_nothing_is_declared(
        self, ask_small: Ask, open_folder: Path
    ) -> None:
        outputs = await ask_small("SELECT repeat('x', 1001)", prefix=str(open_folder))
        assert outputs["result"].format == "parquet"

    async def test_many_long_names_become_parquet_where_nothing_is_declared(
        self, ask_small: Ask, open_folder: Path
    ) -> None:
        outputs = await ask_small(f"SELECT n AS {'n' * 200}, 1 AS m FROM range(10) t(n)", prefix=str(open_folder))
        assert outputs["result"].format == "parquet"

    @pytest.mark.parametrize(
        "sql", ["FROM range(11)", "SELECT repeat('x', 1001)", "FROM repeat_row('x', num_rows = 11)"]
    )
    async def test_declared_values_that_are_too_large_are_an_error_that_says_what_to_declare(
        self, ask_small: Ask, sql: str
    ) -> None:
        with pytest.raises(InvalidInputError, match="declare a StructuredDataset") as caught:
            await ask_small(sql, outputs={"o0": listed(LiteralType())})
        assert caught.value.error_code == "RESULT_TOO_LARGE"

    async def test_a_result_that_select_cannot_be_around_has_to_be_short(self, ask_small: Ask) -> None:
        with pytest.raises(InvalidInputError, match="more than 10 rows"):
            await ask_small("PRAGMA functions")

    async def test_the_query_runs_once_though_its_result_is_looked_at_twice(
        self, ask_small: Ask, open_folder: Path
    ) -> None:
        await ask_small(
            "INSERT INTO t SELECT range FROM range(11) RETURNING n",
            custom={"database": str(open_folder / "d.duckdb"), "read_only": False, "setup": "CREATE TABLE t (n INT)"},
            prefix=str(open_folder),
        )
        database = {"database": str(open_folder / "d.duckdb")}
        assert await ask_small("SELECT count(*) FROM t", custom=database) == {"result": 11}


class TestAllTypes:
    """Each of DuckDB's types, with its least and its greatest value."""

    async def test_a_value_that_has_no_literal_is_refused_by_name(self, ask: Ask) -> None:
        with pytest.raises(InvalidInputError, match=r"column 'date': .* is outside of the years 1 to 9999"):
            await ask("FROM test_all_types()")

    async def test_what_a_literal_can_hold_comes_back(self, ask: Ask) -> None:
        unfit = "date, interval, date_array, timestamp_array, timestamptz_array"
        unfit += (
            ", timestamp, timestamp_s, timestamp_ms, timestamp_ns, timestamp_tz, timestamp_tz_ns, hugeint, uhugeint"
        )
        (row, *_more) = (await ask(f"SELECT COLUMNS(lambda c: c NOT IN ({_texts(unfit)})) FROM test_all_types()"))[
            "result"
        ]
        assert row["empty_struct"] == {}
        assert row["uuid"] == "00000000-0000-0000-0000-000000000000"

    async def test_all_but_the_integers_beyond_64_bits_are_written_as_parquet(
        self, ask_open: Ask, open_folder: Path
    ) -> None:
        sql = "SELECT * EXCLUDE (hugeint, uhugeint) FROM test_all_types()"
        outputs = await ask_open(sql, outputs={"o0": DATASET}, prefix=str(open_folder))
        assert outputs["o0"].format == "parquet"


class TestOutputPrefix:
    @pytest.mark.parametrize("place", ["{file}", "{file}/below", "{file}/far/below"])
    async def test_a_file_in_the_way_is_an_error_before_anything_runs(
        self, ask_open: Ask, open_folder: Path, place: str
    ) -> None:
        (open_folder / "file.txt").touch()
        prefix = place.format(file=open_folder / "file.txt")
        with pytest.raises(InvalidInputError, match=r"file\.txt is a file; give another output prefix"):
            await ask_open("FROM range(2000)", outputs={"o0": DATASET}, prefix=prefix)

    async def test_a_folder_in_the_place_of_the_file_is_an_error(self, ask_open: Ask, open_folder: Path) -> None:
        (open_folder / "o0" / "00000.parquet").mkdir(parents=True)
        with pytest.raises(InvalidInputError, match="Is a directory"):
            await ask_open("SELECT 1", outputs={"o0": DATASET}, prefix=str(open_folder))
        assert [one.name for one in (open_folder / "o0").iterdir()] == ["00000.parquet"]

    async def test_a_name_that_is_too_long_is_an_error(self, ask_open: Ask, open_folder: Path) -> None:
        with pytest.raises(InvalidInputError, match="cannot be an output: File name too long"):
            await ask_open("SELECT 1", outputs={"o0": DATASET}, prefix=f"{open_folder}/{'n' * 300}")


def _texts(names: str) -> str:
    return ", ".join(f"'{name.strip()}'" for name in names.split(","))
