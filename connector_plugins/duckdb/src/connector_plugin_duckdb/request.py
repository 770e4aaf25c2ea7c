"""What a task asks for: its SQL, its database and its set-up, read from a task template."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import MessageToDict
from pydantic import BaseModel, ConfigDict, ValidationError

from connector_core.errors import InvalidInputError


class _Custom(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    query: str | None = None
    setup: str | list[str] = ""
    database: str | None = None
    read_only: bool = True


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
        return _Custom.model_validate(custom)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        known = sorted(_Custom.model_fields)
        if first["type"] != "extra_forbidden":
            raise InvalidInputError(f"custom[{name!r}]: {first['msg']}") from None
        near = get_close_matches(name, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InvalidInputError(f"custom has an unknown key {name!r}{hint}; known are {', '.join(known)}") from None
