"""The request of a task: its SQL, its database and its set-up, read from a task template."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import MessageToDict

from connector_core.errors import InvalidInputError
from connector_core.tables import Before, Mistake, Table, TableError, near, read


def _boolean(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - the reader of tables knows it
    return value


class _Custom(Table, frozen=True):
    query: str | None = None
    setup: str | list[str] = ""
    database: str | None = None
    read_only: Annotated[bool, Before(_boolean)] = True


@dataclass(frozen=True, slots=True)
class Request:
    """A query.

    Attributes:
        query: one or more SQL statements; the result is that of the last one.
        setup: statements that run before the query.
        database: a DuckDB file's path, or `None` for an empty database in memory.
        read_only: whether the database file is opened for reading only.
    """

    query: str
    setup: tuple[str, ...] = ()
    database: str | None = None
    read_only: bool = True


def read_request(template: TaskTemplate) -> Request:
    """Read the query out of `sql.statement` or `custom`.

    Raises:
        InvalidInputError: there is no query, or two that differ, or `custom` has a key that does not exist.
    """
    custom = _read_custom(MessageToDict(template.custom))
    statement = template.sql.statement if template.HasField("sql") else ""
    if statement.strip() and custom.query and statement != custom.query:
        raise InvalidInputError("the task has two queries that differ, sql.statement and custom['query']; give one")
    query = statement if statement.strip() else custom.query or ""
    if not query.strip():
        raise InvalidInputError("the task has no query: put SQL into sql.statement or custom['query']")
    setup = [custom.setup] if isinstance(custom.setup, str) else custom.setup
    return Request(query, tuple(one for one in setup if one.strip()), custom.database, custom.read_only)


def _read_custom(custom: Mapping[str, Any]) -> _Custom:
    try:
        return read(_Custom, custom)
    except TableError as error:
        raise InvalidInputError(_explain(error.mistakes[0])) from None


def _explain(first: Mistake) -> str:
    name = str(first.path[0])
    if not first.known:
        return f"custom[{name!r}]: {first.message}"
    return f"custom has an unknown key {name!r}{near(name, first.known)}; known are {', '.join(first.known)}"
