"""What a query is given: named parameters, files and tables."""

import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from connector_core import InvalidInputError, PermissionDeniedError
from connector_core.literals import Directory, File, Schema, StructuredDataset

Ask = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


def write_parquet(path: Path, sql: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
    return path


class TestParameters:
    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            (1, "INTEGER"),
            (2**40, "BIGINT"),
            (-(2**63), "BIGINT"),
            (0.1, "DOUBLE"),
            (True, "BOOLEAN"),
            ("ä'; DROP TABLE t; --", "VARCHAR"),
            (None, '"NULL"'),
            (datetime(2024, 2, 29, 12, tzinfo=UTC), "TIMESTAMP WITH TIME ZONE"),
            (timedelta(days=400, seconds=3), "INTERVAL"),
            ([1, 2], "INTEGER[]"),
            ([], '"NULL"[]'),
            ({"a": 1, "b": ["x"]}, "STRUCT(a INTEGER, b VARCHAR[])"),
            (b"\x00", "BLOB"),
        ],
    )
    async def test_a_value_arrives_in_the_type_that_it_has(self, ask: Ask, value: Any, kind: Any) -> None:
        assert await ask("SELECT typeof($x)", {"x": value}) == {"result": kind}

    async def test_parameters_are_values_and_never_sql(self, ask: Ask) -> None:
        sql = "CREATE TABLE t AS SELECT 1; SELECT $x"
        assert await ask(sql, {"x": "1); DROP TABLE t; --"}) == {"result": "1); DROP TABLE t; --"}

    async def test_each_statement_takes_the_inputs_that_it_names(self, ask: Ask) -> None:
        sql = "CREATE TABLE t AS SELECT $a AS n; INSERT INTO t VALUES ($b); SELECT sum(n) FROM t"
        assert await ask(sql, {"a": 1, "b": 2, "unused": 3}) == {"result": 3}

    async def test_set_up_statements_take_inputs_too(self, ask: Ask) -> None:
        custom = {"setup": ["CREATE TABLE t (n INT)", "INSERT INTO t VALUES ($a)"]}
        assert await ask("SELECT n FROM t", {"a": 5}, custom=custom) == {"result": 5}

    async def test_names_are_found_in_any_case(self, ask: Ask) -> None:
        assert await ask("SELECT $Year", {"year": 2024}) == {"result": 2024}

    async def test_a_missing_parameter_is_an_error_that_names_the_inputs(self, ask: Ask) -> None:
        with pytest.raises(InvalidInputError, match=r"parameter \$c, but the task has no such input; it has \$a, \$b"):
            await ask("SELECT $c", {"b": 1, "a": 2})

    async def test_a_value_without_sql_counterpart_is_an_error(self, ask: Ask) -> None:
        with pytest.raises(InvalidInputError, match="input 'x' is a value of type object, which SQL has no value for"):
            await ask("SELECT $x", {"x": object()})


class TestLocalTables:
    async def test_a_structured_dataset_is_a_view_of_its_name(self, ask_open: Ask, open_folder: Path) -> None:
        write_parquet(open_folder / "d" / "00000", "SELECT 3 AS n")
        assert await ask_open("SELECT n FROM d", {"d": StructuredDataset(f"{open_folder}/d", "parquet")}) == {
            "result": 3
        }

    async def test_all_files_of_a_folder_belong_to_the_table_but_for_hidden_ones(
        self, ask_open: Ask, open_folder: Path
    ) -> None:
        for number in range(3):
            write_parquet(open_folder / "d" / f"{number:05}", f"SELECT {number} AS n")
        (open_folder / "d" / "_SUCCESS").write_text("")
        inputs = {"d": StructuredDataset(f"file://{open_folder}/d")}
        assert await ask_open("SELECT sum(n) FROM d", inputs) == {"result": 3}

    async def test_a_schema_is_a_table_of_parquet(self, ask_open: Ask, open_folder: Path) -> None:
        write_parquet(open_folder / "s" / "00000", "SELECT 3 AS n")
        assert await ask_open("SELECT n FROM s", {"s": Schema(f"{open_folder}/s")}) == {"result": 3}

    async def test_a_table_of_no_declared_format_is_parquet_whatever_its_name(
        self, ask_open: Ask, open_folder: Path
    ) -> None:
        write_parquet(open_folder / "d.v2" / "00000", "SELECT 3 AS n")
        assert await ask_open("SELECT n FROM d", {"d": StructuredDataset(f"{open_folder}/d.v2")}) == {"result": 3}

    async def test_a_table_of_csv_as_flytekit_writes_it_is_a_view(self, ask_open: Ask, open_folder: Path) -> None:
        (open_folder / ".csv").write_text("n\n3\n")
        (open_folder / ".csv.crc").write_text("no table")
        assert await ask_open("SELECT n FROM d", {"d": StructuredDataset(str(open_folder), "csv")}) == {"result": 3}

    async def test_names_with_percent_signs_and_hashes_are_taken_as_they_are(
        self, ask_open: Ask, open_folder: Path
    ) -> None:
        (open_folder / "100%25#1.csv").write_text("n\n3\n")
        assert await ask_open("SELECT n FROM t", {"t": File(f"file://{open_folder}/100%25#1.csv")}) == {"result": 3}

    async def test_partitions_are_columns(self, ask_open: Ask, open_folder: Path) -> None:
        for year in (2023, 2024):
            write_parquet(open_folder / "d" / f"year={year}" / "a.parquet", "SELECT 1 AS n")
        assert await ask_open("SELECT sum(year) FROM d", {"d": StructuredDataset(f"{open_folder}/d")}) == {
            "result": 4047
        }

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("t.csv", "n,s\n1,a\n2,b\n"),
            ("t.tsv", "n\ts\n1\ta\n2\tb\n"),
            ("t.json", json.dumps([{"n": 1, "s": "a"}, {"n": 2, "s": "b"}])),
            ("t.jsonl", '{"n": 1, "s": "a"}\n{"n": 2, "s": "b"}\n'),
        ],
    )
    async def test_a_file_of_a_known_format_is_a_view_too(
        self, ask_open: Ask, open_folder: Path, name: str, text: str
    ) -> None:
        (open_folder / name).write_text(text)
        inputs = {"t": File(f"{open_folder}/{name}")}
        assert await ask_open("SELECT n, s FROM t ORDER BY n", inputs) == {
            "result": [{"n": 1, "s": "a"}, {"n": 2, "s": "b"}]
        }

    async def test_a_files_declared_format_goes_before_its_name(self, ask_open: Ask, open_folder: Path) -> None:
        (open_folder / "t.txt").write_text("n\n1\n")
        assert await ask_open("SELECT n FROM t", {"t": File(f"{open_folder}/t.txt", "csv")}) == {"result": 1}

    async def test_a_file_is_also_a_parameter_for_duckdbs_readers(self, ask_open: Ask, open_folder: Path) -> None:
        (open_folder / "t.csv").write_text("n;m\n1;2\n")
        sql = "SELECT m FROM read_csv($t, delim = ';', header = true)"
        assert await ask_open(sql, {"t": File(f"{open_folder}/t.csv")}) == {"result": 2}

    async def test_a_file_of_another_format_is_only_a_parameter(self, ask_open: Ask, open_folder: Path) -> None:
        (open_folder / "t.txt").write_text("hello")
        assert await ask_open("SELECT content FROM read_text($t)", {"t": File(f"{open_folder}/t.txt")}) == {
            "result": "hello"
        }

    async def test_a_directory_is_a_view_or_the_list_of_its_files(self, ask_open: Ask, open_folder: Path) -> None:
        for number in range(2):
            (open_folder / f"{number}.csv").write_text(f"n\n{number}\n")
        inputs = {"d": Directory(str(open_folder), "csv"), "files": [File(f"{open_folder}/1.csv")]}
        assert await ask_open("SELECT sum(n), len($d) FROM d", inputs) == {"result": [{"sum(n)": 1, "len($d)": 2}]}
        assert await ask_open("SELECT n FROM read_csv($files)", inputs) == {"result": 1}

    async def test_a_view_hides_a_table_of_the_database_file(self, ask_open: Ask, open_folder: Path) -> None:
        with duckdb.connect(str(open_folder / "base.duckdb")) as connection:
            connection.execute("CREATE TABLE t AS SELECT 'base' AS n")
        (open_folder / "t.csv").write_text("n\ninput\n")
        custom = {"database": f"{open_folder}/base.duckdb"}
        assert await ask_open("SELECT n FROM t", {"t": File(f"{open_folder}/t.csv")}, custom=custom) == {
            "result": "input"
        }

    async def test_a_name_that_sql_has_to_quote_is_a_view_too(self, ask_open: Ask, open_folder: Path) -> None:
        (open_folder / "t.csv").write_text("n\n1\n")
        assert await ask_open('SELECT n FROM "a ""b"', {'a "b': File(f"{open_folder}/t.csv")}) == {"result": 1}


class TestRefusals:
    async def test_an_unknown_format_is_an_error_that_names_the_known_ones(
        self, ask_open: Ask, open_folder: Path
    ) -> None:
        with pytest.raises(InvalidInputError, match=r"format 'arrow'; DuckDB reads parquet, csv"):
            await ask_open("SELECT 1", {"d": StructuredDataset(str(open_folder), "arrow")})

    async def test_a_missing_file_is_an_error(self, ask_open: Ask, open_folder: Path) -> None:
        with pytest.raises(InvalidInputError, match="no file at"):
            await ask_open("SELECT 1", {"d": File(f"{open_folder}/none.csv")})

    async def test_a_path_that_is_none_is_an_error(self, ask_open: Ask) -> None:
        with pytest.raises(InvalidInputError, match="NUL"):
            await ask_open("SELECT 1", {"t": File("/a\0b")})

    async def test_a_table_without_files_is_an_error(self, ask_open: Ask, open_folder: Path) -> None:
        with pytest.raises(InvalidInputError, match="no file at"):
            await ask_open("SELECT 1", {"d": StructuredDataset(str(open_folder))})

    async def test_a_file_that_is_not_of_its_format_is_an_error(self, ask_open: Ask, open_folder: Path) -> None:
        (open_folder / "t.parquet").write_text("no parquet at all")
        with pytest.raises(InvalidInputError, match=r"t\.parquet"):
            await ask_open("SELECT 1", {"t": File(f"{open_folder}/t.parquet")})

    async def test_a_local_input_outside_of_the_allowed_directories_is_refused(
        self, ask_open: Ask, secret_file: Path
    ) -> None:
        with pytest.raises(PermissionDeniedError, match=r"none of the allowed_directories of \[plugins.duckdb\]"):
            await ask_open("FROM t", {"t": File(str(secret_file))})

    @pytest.mark.parametrize("uri", ["{open}/../secret.csv", "{open}/link.csv", "file://{open}/../secret.csv"])
    async def test_a_way_out_of_the_allowed_directories_is_refused(
        self, ask_open: Ask, open_folder: Path, secret_file: Path, uri: str
    ) -> None:
        (open_folder / "link.csv").symlink_to(secret_file)
        with pytest.raises(PermissionDeniedError):
            await ask_open("FROM t", {"t": File(uri.format(open=open_folder))})

    @pytest.mark.parametrize("name", ["link.csv", "linked/secret.csv"])
    async def test_a_link_in_a_folder_that_leads_out_is_refused(
        self, ask_open: Ask, open_folder: Path, secret_file: Path, name: str
    ) -> None:
        table = open_folder / "table"
        table.mkdir()
        (table / "link.csv").symlink_to(secret_file)
        (table / "linked").symlink_to(secret_file.parent)
        with pytest.raises(PermissionDeniedError):
            await ask_open("FROM t", {"t": Directory(str(table), "csv")})

    @pytest.mark.parametrize(
        "uri",
        [
            "http://127.0.0.1:1/x.csv",
            "https://example.org/x.csv",
            "memory://x.csv",
            "zip://x.csv::s3://bucket/x.zip",
            "s3://bucket/x.zip::file:///etc/passwd",
            "simplecache::file:///etc/passwd",
            "filecache::s3://bucket/x.csv",
            "github://org:repo@main/x.csv",
            "s3://bucket/../other/x.csv",
            "local:///etc/passwd",
            "S3://bucket/x.csv",
        ],
    )
    async def test_a_place_that_is_neither_local_nor_an_allowed_object_store_is_refused(
        self, ask_open: Ask, uri: str
    ) -> None:
        with pytest.raises(PermissionDeniedError):
            await ask_open("SELECT 1", {"t": File(uri)})
