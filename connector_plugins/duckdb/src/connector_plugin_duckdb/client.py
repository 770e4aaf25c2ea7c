"""DuckDB, and the box that callers' SQL is kept in; the only module that imports it, and only in a query process."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

import duckdb

from connector_plugin_duckdb.results import Kept, RowsResult, TableResult
from connector_plugin_duckdb.values import NESTED, Column, SqlType, fetched_type, quoted, text
from connector_plugin_duckdb.wire import Box, Database, RefusalError


class Interruption:
    """A request to end a query early: asked for by the thread that listens to the host, obeyed by the one with DuckDB."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interrupt: Callable[[], None] | None = None
        self.is_asked_for = False

    def ask(self) -> None:
        """Interrupt what DuckDB is busy with; to be repeated, since it forgets one that comes between two statements."""
        with self._lock:
            self.is_asked_for = True
            if self._interrupt is not None:
                self._interrupt()

    def check(self) -> None:
        """Raise a refusal if the query has to end."""
        if self.is_asked_for:
            raise RefusalError("interrupted", "the query was interrupted")

    @contextmanager
    def reaching(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Within this context a request also calls `interrupt`."""
        with self._lock:
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._lock:  # from here on nobody touches the connection that is now closed
                self._interrupt = None


def connect(threads: int) -> duckdb.DuckDBPyConnection:
    """Open an empty database in memory with its threads, and nothing closed off yet.

    This is two thirds of what a small query takes, so it is done before there is a query.
    """
    connection = duckdb.connect(":memory:")
    connection.execute(f"SET threads = {threads}")
    connection.execute("SELECT count(*) FROM range(10000)").fetchall()
    return connection


@contextmanager
def open_session(
    connection: duckdb.DuckDBPyConnection, box: Box, stop: Interruption, database: Database | None
) -> Iterator["Session"]:
    """Close the box around a new connection, with a database file in it where there is one; close the connection after.

    Raises:
        RefusalError: for whatever DuckDB raises, here and within the context.
    """
    try:
        with _translated(stop), stop.reaching(connection.interrupt):
            _limit(connection, box)
            if database is not None:
                _attach(connection, database)
            _lock(connection)
            yield Session(connection, stop)
    finally:
        connection.close()


def _limit(connection: duckdb.DuckDBPyConnection, box: Box) -> None:
    settings: Mapping[str, str] = {
        "memory_limit": text(f"{box.memory}B"),
        "threads": str(box.threads),
        "temp_directory": text(box.temp),
        # Not as an option of connect(), where DuckDB 2.0 takes this one but does not keep to it.
        "max_temp_directory_size": text(f"{box.disk}B"),
        "home_directory": text(box.home),
        "allowed_directories": _list(box.directories),
        "allowed_paths": _list(box.files),
        "TimeZone": "'UTC'",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "allow_extension_repositories": "'forbidden'",
        "allow_persistent_secrets": "false",
        "python_enable_replacements": "false",  # else `FROM x` finds variables of the host's own code
    }
    for name, value in settings.items():
        connection.execute(f"SET {name} = {value}")


def _attach(connection: duckdb.DuckDBPyConnection, database: Database) -> None:
    name = quoted(database.name)
    options = "TYPE duckdb, READ_ONLY" if database.read_only else "TYPE duckdb"
    connection.execute(f"ATTACH {text(database.path)} AS {name} ({options})")
    connection.execute(f"USE {name}")


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


class Session:
    """One caller's connection, in its box."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, stop: Interruption) -> None:
        self._connection = connection
        self._stop = stop

    def offer(self, name: str, function: str, paths: Sequence[str]) -> None:
        """Make a view of files, read by one of DuckDB's table functions."""
        self._stop.check()
        self._connection.execute(f"CREATE TEMP VIEW {quoted(name)} AS FROM {function}({_list(paths)})")

    def run(self, sql: str, inputs: Mapping[str, Any]) -> None:
        """Run statements without looking at their results."""
        for statement in self._statements(sql):
            self._execute(statement.query, _parameters(statement, inputs))
            self._connection.complete()

    def query(self, sql: str, inputs: Mapping[str, Any], most_rows: int) -> Kept | None:
        """Run statements and return the result of the last one, or `None` where it has none.

        The result is kept in a temporary table, so that the query runs once whatever becomes of its result, and within
        the limits of the box. What cannot be put into one (`CALL`, `EXPLAIN`) may have `most_rows`.
        """
        *before, last = self._statements(sql)
        for statement in before:
            self._execute(statement.query, _parameters(statement, inputs))
            self._connection.complete()
        parameters = _parameters(last, inputs)
        table = f"result_{token_hex(8)}"
        create = self._creating(table, self._without_semicolon(last.query))
        self._execute(create or last.query, parameters)
        if create is None:
            return self._read_rows(most_rows)
        self._connection.complete()
        return TableResult(self, table)

    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one of our own statements and return its rows."""
        self._execute(sql, {})
        return self._connection.fetchall()

    def columns(self, sql: str) -> tuple[Column, ...]:
        """Run one of our own statements and return its columns."""
        self._execute(sql, {})
        columns = self._described()
        self._connection.complete()
        return columns

    def _execute(self, sql: str, parameters: Mapping[str, Any]) -> None:
        self._stop.check()
        self._connection.execute(sql, parameters or None)

    def _statements(self, sql: str) -> list[duckdb.Statement]:
        found = self._connection.extract_statements(sql)
        if not found:
            raise RefusalError("invalid", "there is no statement in the SQL, only comments or blanks")
        return found

    def _creating(self, table: str, query: str) -> str | None:
        """Return the statement that keeps a query's result in a table; `None` where the grammar has none."""
        head = f"CREATE TEMP TABLE {quoted(table)} AS"
        named = quoted(f"from_{table}")
        for create in (f"{head} (\n{query}\n)", f"{head} (WITH {named} AS (\n{query}\n) FROM {named})"):
            try:
                self._connection.extract_statements(create)
            except duckdb.ParserException:
                continue
            return create
        return None

    def _without_semicolon(self, query: str) -> str:
        data = query.encode()  # the tokens' positions count bytes
        end = len(data)
        for start, kind in reversed(duckdb.tokenize(query)):
            if kind != duckdb.token_type.comment:
                if data[start : start + 1] != b";":
                    break
                end = start
        return data[:end].decode()

    def _described(self) -> tuple[Column, ...]:
        return tuple(Column(name, _sql_type(kind)) for name, kind, *_rest in self._connection.description or ())

    def _read_rows(self, most: int) -> RowsResult | None:
        columns = self._described()
        rows = self._connection.fetchmany(most + 1)
        if not rows:
            return None
        if len(rows) > most:
            raise RefusalError(
                "invalid", f"the last statement gives more than {most} rows and is none that SELECT can be around"
            )
        for column in columns:
            if fetched_type(column.type) != column.type.text:
                raise RefusalError(
                    "invalid",
                    f"column {column.name!r} is {column.type.text}, which such a statement cannot return; SELECT it",
                )
        return RowsResult(columns, rows)


def _sql_type(kind: Any) -> SqlType:
    children: tuple[tuple[str, SqlType], ...] = ()
    if kind.id in NESTED:
        children = tuple((name, _sql_type(child)) for name, child in kind.children if not isinstance(child, int))
    return SqlType(kind.id, str(kind), children)


def _list(paths: Sequence[str]) -> str:
    return f"[{', '.join(text(path) for path in paths)}]"


def _parameters(statement: duckdb.Statement, inputs: Mapping[str, Any]) -> dict[str, Any]:
    folded = {name.casefold(): value for name, value in inputs.items()}  # as SQL's names are
    found: dict[str, Any] = {}
    for name in statement.named_parameters:
        if name not in inputs and name.casefold() not in folded:
            known = ", ".join(f"${one}" for one in sorted(inputs)) or "none"
            raise RefusalError(
                "invalid", f"the SQL has a parameter ${name}, but the task has no such input; it has {known}"
            )
        found[name] = inputs[name] if name in inputs else folded[name.casefold()]
    return found


@contextmanager
def _translated(stop: Interruption) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        stop.check()  # an interrupt is not the query's own failure
        raise _translate(error) from error


def _translate(error: duckdb.Error) -> RefusalError:
    message = str(error)
    if isinstance(error, duckdb.PermissionException) or "the configuration has been locked" in message:
        return RefusalError("denied", f"DuckDB refused what callers may not do here: {message}")
    if isinstance(error, duckdb.OutOfMemoryException) or "not enough memory" in message:
        return out_of_memory(message)
    if isinstance(error, duckdb.ResourceInUseException) or "Could not set lock on file" in message:
        return RefusalError("unavailable", f"another query holds the database file: {message}")
    if isinstance(error, duckdb.InternalException | duckdb.FatalException):
        return RefusalError("transient", f"DuckDB failed within itself: {message}")
    if isinstance(error, duckdb.IOException) and not _is_callers(message):
        return RefusalError("unavailable", f"DuckDB cannot read or write a file: {message}")
    return RefusalError("invalid", message)


def out_of_memory(message: str) -> RefusalError:
    """Return the failure of a query that took more memory, or more disk, than it may."""
    return RefusalError(
        "permanent", f"the query needs more memory or disk than [plugins.duckdb] gives it: {message}", "OUT_OF_MEMORY"
    )


def _is_callers(message: str) -> bool:
    return any(part in message for part in ("No files found", "does not exist", "not a valid DuckDB database"))
