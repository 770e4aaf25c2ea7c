"""The box around callers' SQL: what it tries to reach, and how much it tries to take."""

import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from connector_core import InvalidInputError, PermanentError, PermissionDeniedError
from connector_plugin_duckdb.connector import DuckDBConnector

Ask = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
Connect = Callable[..., DuckDBConnector]
Asking = Callable[[DuckDBConnector], Ask]

LOCAL_READS = [
    "FROM read_csv('{secret}')",
    "FROM read_text('{secret}')",
    "FROM read_blob('{secret}')",
    "FROM read_json('{secret}')",
    "FROM read_parquet('{secret}')",
    "FROM parquet_metadata('{secret}')",
    "FROM sniff_csv('{secret}')",
    "FROM '{secret}'",
    "FROM glob('{folder}/*')",
    "FROM read_text('file://{secret}')",
    "FROM read_text('/proc/self/environ')",
    "FROM read_text('/dev/stdin')",
    "FROM read_duckdb('{secret}', table_name = 't')",
    "CREATE TABLE t (word VARCHAR); COPY t FROM '{secret}'",
    "CREATE MACRO m() AS TABLE FROM read_text('{secret}'); FROM m()",
    "CREATE TYPE e AS ENUM (FROM read_csv('{secret}'))",
    "SELECT * FROM query('FROM read_text(''{secret}'')')",
    "PREPARE p AS FROM read_text('{secret}'); EXECUTE p",
    "ATTACH '{folder}/base.duckdb'",
    "ATTACH '{folder}/base.duckdb' (READ_ONLY)",
    "IMPORT DATABASE '{folder}'",
]
LOCAL_WRITES = [
    "COPY (SELECT 1) TO '{secret}'",
    "COPY (SELECT 1) TO '{folder}/new.parquet' (FORMAT parquet)",
    "COPY (SELECT 1) TO '/dev/stdout'",
    "CREATE TABLE t AS SELECT 1; EXPORT DATABASE '{folder}/export'",
    "ATTACH '{folder}/new.duckdb'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{secret}'",
    "WITH w AS (COPY (SELECT 1) TO '{secret}') FROM w",
]
LOCKED = [
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET memory_limit = '100GB'",
    "PRAGMA memory_limit = '100GB'",
    "RESET memory_limit",
    "SET GLOBAL threads = 64",
    "SET max_temp_directory_size = '100GB'",
    "SET temp_directory = '{folder}'",
    "SET home_directory = '{folder}'",
    "SET allowed_directories = ['/']",
    "SET allowed_paths = ['{secret}']",
    "SET allowed_configs = ['threads']",
    "SET secret_directory = '{folder}'",
    "SET extension_directories = ['{folder}']",
    "SET allow_unsigned_extensions = true",
    "SET allow_community_extensions = true",
    "SET custom_extension_repository = 'http://127.0.0.1:1'",
    "SET python_enable_replacements = true",
    "SET log_query_path = '{folder}/log'",
    "PRAGMA profiling_output = '{folder}/profile'",
    "PRAGMA enable_profiling",
    "CALL enable_logging(storage = 'file', storage_path = '{folder}/log')",
    "CALL enable_logging(storage = 'stdout')",
]
EXTENSIONS = [
    "INSTALL httpfs",
    "FORCE INSTALL httpfs",
    "INSTALL httpfs FROM core_nightly",
    "INSTALL httpfs FROM community",
    "INSTALL httpfs FROM 'http://127.0.0.1:1'",
    "INSTALL '{folder}/x.duckdb_extension'",
    "LOAD httpfs",
    "LOAD '{folder}/x.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "ATTACH 'x' (TYPE sqlite)",
    "ATTACH 'host=127.0.0.1' (TYPE postgres)",
]
REMOTE = [
    "FROM read_csv('http://127.0.0.1:1/x.csv')",
    "FROM read_parquet('s3://bucket/x.parquet')",
    "COPY (SELECT 1) TO 's3://bucket/x.parquet'",
]
ALL = LOCAL_READS + LOCAL_WRITES + LOCKED + EXTENSIONS + REMOTE


@pytest.fixture
def folder(secret_file: Path) -> Path:
    with duckdb.connect(str(secret_file.parent / "base.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 'hush' AS word")
    return secret_file.parent


@pytest.fixture
def before(folder: Path) -> Iterator[set[Path]]:
    """Sees to it that nothing is left in the folder that was not there before."""
    ours = {"staging", "allowed"}
    found = {one for one in folder.iterdir() if one.name not in ours}
    yield found
    assert {one for one in folder.iterdir() if one.name not in ours} == found


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


class TestReach:
    @pytest.mark.parametrize("sql", ALL)
    async def test_the_query_cannot(self, ask: Ask, secret_file: Path, folder: Path, before: None, sql: str) -> None:
        with pytest.raises(PermissionDeniedError):
            await ask(sql.format(secret=secret_file, folder=folder))

    @pytest.mark.parametrize("sql", ALL)
    async def test_set_up_statements_cannot_either(
        self, ask: Ask, secret_file: Path, folder: Path, before: None, sql: str
    ) -> None:
        with pytest.raises(PermissionDeniedError):
            await ask("SELECT 1", custom={"setup": sql.format(secret=secret_file, folder=folder)})

    @pytest.mark.parametrize("sql", LOCAL_READS + LOCAL_WRITES)
    async def test_not_even_when_a_folder_beside_is_allowed(
        self, ask_open: Ask, secret_file: Path, folder: Path, before: None, sql: str
    ) -> None:
        with pytest.raises(PermissionDeniedError):
            await ask_open(sql.format(secret=secret_file, folder=folder))

    @pytest.mark.parametrize(
        "path", ["{open}/../secret.csv", "{open}/link.csv", "{open}/linked/secret.csv", "{open}2/secret.csv"]
    )
    async def test_no_way_leads_out_of_an_allowed_folder(
        self, ask_open: Ask, open_folder: Path, secret_file: Path, path: str
    ) -> None:
        (open_folder / "link.csv").symlink_to(secret_file)
        (open_folder / "linked").symlink_to(secret_file.parent)
        beside = open_folder.with_name("allowed2")
        beside.mkdir()
        (beside / "secret.csv").write_text("word\nhush\n")
        with pytest.raises(PermissionDeniedError):
            await ask_open(f"FROM read_csv('{path.format(open=open_folder)}')")

    async def test_an_allowed_folder_can_be_read_and_written(self, ask_open: Ask, open_folder: Path) -> None:
        await ask_open(f"COPY (SELECT 1 AS n) TO '{open_folder}/a.csv'")
        assert await ask_open(f"FROM read_csv('{open_folder}/a.csv')") == {"result": 1}

    async def test_an_allowed_folder_may_be_reached_by_a_link(
        self, connect: Connect, asking: Asking, open_folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "link").symlink_to(open_folder)
        ask = asking(connect(allowed_directories=[str(tmp_path / "link")]))
        await ask(f"COPY (SELECT 1 AS n) TO '{open_folder}/a.csv'")
        assert (open_folder / "a.csv").read_text() == "n\n1\n"

    async def test_variables_of_the_hosts_code_are_no_tables(self, ask: Ask) -> None:
        with pytest.raises(InvalidInputError, match="does not exist"):
            await ask("FROM sql")

    async def test_environment_variables_are_out_of_reach(self, ask: Ask) -> None:
        with pytest.raises(InvalidInputError, match="getenv does not exist"):
            await ask("SELECT getenv('HOME')")

    async def test_no_extension_is_downloaded(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        """DuckDB goes through the proxy of the environment; nobody may come there."""
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with _listener() as (address, visitors):
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
                monkeypatch.setenv(name, f"http://{address}")
            for sql in [*EXTENSIONS, "SELECT * FROM sqlite_scan('a', 'b')", "FROM 'https://example.org/x.parquet'"]:
                with pytest.raises(PermanentError):
                    await ask(sql.format(folder="/nowhere"))
        assert visitors == []

    async def test_no_extension_is_put_into_the_users_home_even_where_that_is_allowed(
        self, ask_open: Ask, open_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(open_folder))
        with pytest.raises(PermissionDeniedError):
            await ask_open("INSTALL httpfs")
        assert names(open_folder) == []

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("autoinstall_known_extensions", "false"),
            ("autoload_known_extensions", "false"),
            ("allow_community_extensions", "false"),
            ("allow_unsigned_extensions", "false"),
            ("allow_extension_repositories", "forbidden"),
            ("allow_persistent_secrets", "false"),
            ("python_enable_replacements", "false"),
            ("enable_external_access", "false"),
            ("lock_configuration", "true"),
            ("TimeZone", "UTC"),
        ],
    )
    async def test_what_is_not_needed_is_off(self, ask: Ask, setting: str, value: str) -> None:
        assert await ask(f"SELECT current_setting('{setting}')::VARCHAR") == {"result": value}

    async def test_what_one_query_leaves_the_next_does_not_see(self, ask: Ask) -> None:
        await ask("CREATE TABLE t AS SELECT 1; SET VARIABLE v = 1")
        with pytest.raises(InvalidInputError, match="t does not exist"):
            await ask("FROM t")
        assert await ask("SELECT getvariable('v')") == {"result": None}

    async def test_what_callers_may_set_they_can(self, ask: Ask) -> None:
        assert await ask("SET VARIABLE v = 3; SELECT getvariable('v')") == {"result": 3}

    async def test_extensions_that_are_built_in_work(self, ask: Ask) -> None:
        assert await ask("""SELECT '{"a": [1, 2]}'::JSON -> '$.a[1]'""") == {"result": "2"}
        assert await ask("SELECT TIMESTAMPTZ '2024-07-01 12:00:00+00' AT TIME ZONE 'Europe/Berlin'") == await ask(
            "SELECT TIMESTAMP '2024-07-01 14:00:00'"
        )


class TestLimits:
    async def test_more_memory_than_the_limit_is_a_permanent_failure(self, ask: Ask) -> None:
        with pytest.raises(PermanentError) as caught:
            await ask("SELECT list(range) FROM range(200_000_000)")
        assert caught.value.error_code == "OUT_OF_MEMORY"

    async def test_more_spilled_data_than_the_limit_is_a_permanent_failure(
        self, connect: Connect, asking: Asking
    ) -> None:
        ask = asking(connect(memory_limit="60MB", disk_limit="10MB"))
        with pytest.raises(PermanentError) as caught:
            await ask(
                "SELECT count(*) FROM (SELECT random() r, md5(range::VARCHAR) m FROM range(4_000_000) ORDER BY r, m)"
            )
        assert caught.value.error_code in {"OUT_OF_MEMORY", "DISK_LIMIT_EXCEEDED"}

    async def test_a_result_larger_than_the_disk_limit_is_a_permanent_failure(
        self, connect: Connect, asking: Asking, open_folder: Path
    ) -> None:
        ask = asking(connect(memory_limit="60MB", disk_limit="10MB", allowed_directories=[str(open_folder)]))
        with pytest.raises(PermanentError) as caught:
            await ask("SELECT random() r, md5(range::VARCHAR) m FROM range(8_000_000)", prefix=str(open_folder))
        assert caught.value.error_code in {"OUT_OF_MEMORY", "DISK_LIMIT_EXCEEDED"}
        assert names(open_folder) == []

    async def test_files_that_the_sql_writes_beside_its_inputs_count_too(
        self, connect: Connect, asking: Asking
    ) -> None:
        ask = asking(connect(disk_limit="1MB"))
        sql = (
            "SET VARIABLE f = (SELECT list_filter(current_setting('allowed_directories'), lambda d: d LIKE '%/temp/')[1]);"
            "COPY (SELECT random() FROM range(100_000_000_000)) TO (getvariable('f') || 'grows.csv')"
        )
        with pytest.raises(PermanentError) as caught:
            await ask(sql)
        assert caught.value.error_code == "DISK_LIMIT_EXCEEDED"

    @pytest.mark.parametrize(
        ("setting", "value"),
        [("threads", "2"), ("memory_limit", "190.7 MiB"), ("max_temp_directory_size", "190.7 MiB")],
    )
    async def test_the_limits_are_the_operators(self, ask: Ask, setting: str, value: Any) -> None:
        assert await ask(f"SELECT current_setting('{setting}')::VARCHAR") == {"result": value}


class _listener:  # noqa: N801 - reads as a function
    """A listener on loopback that notes who comes."""

    def __enter__(self) -> tuple[str, list[object]]:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._visitors: list[object] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        host, port = self._socket.getsockname()
        return f"{host}:{port}", self._visitors

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._socket.accept()
            except OSError:
                return
            self._visitors.append(address)
            connection.close()

    def __exit__(self, *_error: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
