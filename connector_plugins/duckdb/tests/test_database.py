"""Database files."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import duckdb
import pytest

from connector_core import BackendUnavailableError, InvalidInputError, PermissionDeniedError

Ask = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


@pytest.fixture
def database(open_folder: Path) -> Path:
    path = open_folder / "base.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS n")
    return path


def moved(file: Path, name: str) -> Path:
    return file.rename(file.with_name(name))


async def test_tables_of_the_file_are_there_by_name(ask_open: Ask, database: Path) -> None:
    assert await ask_open("SELECT n FROM t", custom={"database": str(database)}) == {"result": 1}


async def test_the_file_is_read_only_unless_asked_otherwise(ask_open: Ask, database: Path) -> None:
    with pytest.raises(InvalidInputError, match="read-only"):
        await ask_open("INSERT INTO t VALUES (2)", custom={"database": str(database)})


async def test_what_is_written_stays(ask_open: Ask, database: Path) -> None:
    custom = {"database": str(database), "read_only": False}
    assert await ask_open("INSERT INTO t VALUES (2) RETURNING n", custom=custom) == {"result": 2}
    assert await ask_open("SELECT sum(n) FROM t", custom={"database": str(database)}) == {"result": 3}


async def test_a_transaction_may_be_around_the_query(ask_open: Ask, database: Path) -> None:
    custom = {"database": str(database), "read_only": False, "setup": ["BEGIN", "INSERT INTO t VALUES (2)"]}
    assert await ask_open("SELECT count(*) FROM t", custom=custom) == {"result": 2}
    assert await ask_open("SELECT count(*) FROM t", custom={"database": str(database)}) == {"result": 1}


async def test_a_new_file_is_made_for_a_query_that_writes(ask_open: Ask, open_folder: Path) -> None:
    custom = {"database": f"{open_folder}/new.duckdb", "read_only": False}
    await ask_open("CREATE TABLE t AS SELECT 7 AS n", custom=custom)
    assert await ask_open("SELECT n FROM t", custom={"database": f"{open_folder}/new.duckdb"}) == {"result": 7}


async def test_a_missing_file_is_an_error(ask_open: Ask, open_folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="no database file"):
        await ask_open("SELECT 1", custom={"database": f"{open_folder}/none.duckdb"})


async def test_a_file_that_is_no_database_is_an_error(ask_open: Ask, open_folder: Path) -> None:
    (open_folder / "no.duckdb").write_text("no database " * 1000)
    with pytest.raises(InvalidInputError, match="not a valid DuckDB database"):
        await ask_open("SELECT 1", custom={"database": f"{open_folder}/no.duckdb"})


async def test_a_file_that_another_query_writes_is_unavailable(ask_open: Ask, database: Path) -> None:
    with (
        duckdb.connect(str(database)),
        pytest.raises(BackendUnavailableError, match="another query holds the database file"),
    ):
        await ask_open("SELECT 1", custom={"database": str(database)})


@pytest.mark.parametrize("path", ["{open}/../base.duckdb", "{open}/link.duckdb", "/etc/base.duckdb", "base.duckdb"])
async def test_a_file_outside_of_the_allowed_directories_is_refused(
    ask_open: Ask, open_folder: Path, path: str
) -> None:
    with duckdb.connect(str(open_folder.parent / "base.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1")
    (open_folder / "link.duckdb").symlink_to(open_folder.parent / "base.duckdb")
    with pytest.raises(PermissionDeniedError):
        await ask_open("FROM t", custom={"database": path.format(open=open_folder)})


async def test_a_view_in_the_file_reaches_no_further_than_the_query(
    ask_open: Ask, open_folder: Path, secret_file: Path
) -> None:
    with duckdb.connect(str(open_folder / "base.duckdb")) as connection:
        connection.execute(f"CREATE VIEW evil AS FROM read_text('{secret_file}')")
    with pytest.raises(PermissionDeniedError):
        await ask_open("FROM evil", custom={"database": f"{open_folder}/base.duckdb"})


@pytest.mark.parametrize("name", ["memory", "temp", "TEMP", "system", "main", "pg_catalog", "information_schema"])
async def test_a_file_with_a_name_that_duckdb_keeps_for_itself_is_refused(
    ask_open: Ask, database: Path, name: str
) -> None:
    renamed = moved(database, f"{name}.duckdb")
    with pytest.raises(InvalidInputError, match=f"'{name}', which DuckDB keeps for itself; rename the file"):
        await ask_open("SELECT n FROM t", custom={"database": str(renamed)})


async def test_a_file_without_a_name_before_the_dot_is_refused(ask_open: Ask, database: Path) -> None:
    renamed = moved(database, ".duckdb")
    with pytest.raises(InvalidInputError, match="begins with a dot; rename the file"):
        await ask_open("SELECT n FROM t", custom={"database": str(renamed)})


@pytest.mark.parametrize("name", ["select", "a b", "memory2"])
async def test_other_names_are_taken_as_they_are(ask_open: Ask, database: Path, name: str) -> None:
    renamed = moved(database, f"{name}.duckdb")
    assert await ask_open(f'SELECT n FROM "{name}".t', custom={"database": str(renamed)}) == {"result": 1}
