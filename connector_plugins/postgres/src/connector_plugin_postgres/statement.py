"""A statement and its parameters: `$name` in callers' SQL becomes a bound parameter, never a piece of text."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import InvalidInputError
from connector_core.literals import Directory, File

MAX_STATEMENT_BYTES = 1024 * 1024
MAX_PARAMETERS = 32767

# Each ends or leaves the transaction that the guarantee rests on, or speaks a part of the protocol that is not spoken here.
_REFUSED = frozenset(
    {
        *("ABORT", "BEGIN", "COMMIT", "END", "PREPARE", "RELEASE", "ROLLBACK", "SAVEPOINT", "START"),
        *("COPY", "DEALLOCATE", "DISCARD", "EXECUTE", "LISTEN", "NOTIFY", "RESET", "SET", "UNLISTEN"),
    }
)
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*)
    | (?P<open>/\*)
    | [eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | \$(?P<name>[^\W\d]\w*)
    | \$(?P<number>\d+)
    | (?P<word>[^\W\d][\w$]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with `$1`, `$2` and so on, and the names of the inputs that are bound to them."""

    sql: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "Statement":
        """Read SQL with `$name` for parameters.

        Raises:
            InvalidInputError: it is empty, too long, not text for PostgreSQL, or of a kind that is refused.
        """
        if "\0" in text:
            raise InvalidInputError("the statement has a NUL in it, which PostgreSQL's text cannot have")
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise InvalidInputError("the statement is not text that UTF-8 can encode") from None
        if size > MAX_STATEMENT_BYTES:
            raise InvalidInputError(f"the statement has {size} bytes; at most {MAX_STATEMENT_BYTES} are taken")
        sql, names, first = _numbered(text)
        if not first:
            raise InvalidInputError('the task has no statement: give it as `sql.statement` or custom["query"]')
        if first in _REFUSED:
            raise InvalidInputError(
                f"a statement that begins with {first} is refused: the connector keeps the transaction and the session"
            )
        return cls(sql, names)

    def bind(self, parameters: Sequence[Any], inputs: Mapping[str, Any]) -> list[Any]:
        """Return the arguments for a prepared statement's parameters.

        Raises:
            InvalidInputError: an input is missing, or cannot be a parameter.
        """
        missing = [name for name in self.names if name not in inputs]
        if missing:
            known = ", ".join(inputs) or "none"
            raise InvalidInputError(f"the statement names ${missing[0]}, and there is no such input; inputs: {known}")
        return [_argument(name, kind, inputs[name]) for name, kind in zip(self.names, parameters, strict=True)]

    def explain(self, message: str) -> str:
        """Return a message about `$1` and the like with the names that these have in the caller's SQL."""
        numbers = ", ".join(f"${number} is ${name}" for number, name in enumerate(self.names, 1))
        return f"{message} ({numbers})" if re.search(r"\$\d", message) and numbers else message


def text_of(template: TaskTemplate, custom: Mapping[str, Any]) -> str:
    """Return the SQL of a task: `sql.statement`, or `custom["query"]`."""
    query = custom.get("query", "")
    if not isinstance(query, str):
        raise InvalidInputError("custom.query is not a text")
    return template.sql.statement or query


def _numbered(text: str) -> tuple[str, tuple[str, ...], str]:
    """Return the SQL with numbers, the names by number, and the first word in capitals."""
    numbers: dict[str, int] = {}
    pieces: list[str] = []
    first = ""
    position = 0
    while found := _TOKEN.search(text, position):
        pieces.append(text[position : found.start()])
        end = found.end()
        if found["open"]:
            end = _comment_end(text, end)
        if found["dollar"]:
            end = _quote_end(text, found["dollar"], end)
        if found["number"]:
            raise InvalidInputError(f"the statement has ${found['number']}; write parameters as $NAME of an input")
        if name := found["name"]:
            pieces.append(f"${numbers.setdefault(name, len(numbers) + 1)}")
        else:
            pieces.append(text[found.start() : end])
        if not first and not found["comment"] and not found["open"]:
            first = (found["word"] or found[0]).upper()
        position = end
    pieces.append(text[position:])
    if len(numbers) > MAX_PARAMETERS:
        raise InvalidInputError(f"the statement has {len(numbers)} parameters; PostgreSQL takes {MAX_PARAMETERS}")
    return "".join(pieces), tuple(numbers), first


def _comment_end(text: str, position: int) -> int:
    """Return where a comment ends; in PostgreSQL they nest."""
    depth = 1
    while depth and (edge := _COMMENT_EDGE.search(text, position)):
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return len(text) if depth else position


def _quote_end(text: str, tag: str, position: int) -> int:
    closed = text.find(tag, position)
    if closed < 0:
        raise InvalidInputError(f"the statement has a quote {tag} that is not closed")
    return closed + len(tag)


def _argument(name: str, kind: Any, value: Any) -> Any:
    if isinstance(value, File | Directory):
        value = value.uri
    _refuse_nul(name, value)
    if kind.name in {"json", "jsonb"} and value is not None and not isinstance(value, str):
        try:
            return json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"input {name!r} cannot be written as JSON: {error}") from None
    return value


def _refuse_nul(name: str, value: Any) -> None:
    if isinstance(value, str) and "\0" in value:
        raise InvalidInputError(f"input {name!r} has a NUL in it, which PostgreSQL's text cannot have")
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for item in value:
            _refuse_nul(name, item)
