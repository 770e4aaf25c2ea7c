"""A query in its process, and its result there, as a job of the host sees them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from connector_core.errors import ConnectorError, InvalidInputError, TransientError
from connector_plugin_duckdb.process import QueryProcess
from connector_plugin_duckdb.stop import Stop
from connector_plugin_duckdb.values import Column, read
from connector_plugin_duckdb.wire import Answer, Described, Done, Fetch, Number, Query, Request, Rows, Size, Write, pack

T = TypeVar("T")


class Session:
    """Asks a process; why a query was stopped counts for more than how its process ended.

    Args:
        process: the process, which nobody else asks meanwhile.
        stop: the request to stop the query.
        most_bytes: the largest answer that is taken.
    """

    def __init__(self, process: QueryProcess, stop: Stop, most_bytes: int) -> None:
        self._process = process
        self._stop = stop
        self._most = most_bytes

    def query(self, query: Query) -> "Result | None":
        """Run a query and return the result of its last statement, or `None` where it has none.

        Raises:
            ConnectorError: with whose fault it is.
        """
        answer = self.ask(query)
        return Result(self, answer) if isinstance(answer, Described) else None

    def ask(self, request: Request) -> Answer:
        """Send a request and return the answer.

        Raises:
            ConnectorError: with whose fault it is.
        """
        self._stop.check()
        try:
            return self._process.ask(request, self._most)
        except ConnectorError:
            self._stop.check()
            raise


class Result:
    """The result of a query's last statement."""

    def __init__(self, session: Session, described: Described) -> None:
        self._session = session
        self.columns: Sequence[Column] = described.columns
        self.rows = described.rows

    def size(self) -> int:
        """Return about how many bytes the values that can be long take as text."""
        return _expected(self._session.ask(Size()), Number).value

    def fetch(self) -> list[tuple[Any, ...]]:
        """Return all rows with Python values."""
        rows = _expected(self._session.ask(Fetch()), Rows).rows
        return [tuple(map(_read, self.columns, row)) for row in rows]

    def write_parquet(self, path: Path) -> None:
        """Write all rows to a file."""
        _expected(self._session.ask(Write(str(path))), Done)


def parameters(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs as they travel to the process.

    Raises:
        InvalidInputError: SQL has no value for one.
    """
    packed = {}
    for name, value in inputs.items():
        try:
            packed[name] = pack(value)
        except TypeError as error:
            raise InvalidInputError(f"input {name!r} is {error}, which SQL has no value for") from None
    return packed


def _expected(answer: Answer, kind: type[T]) -> T:
    if not isinstance(answer, kind):
        raise TransientError(f"the process of the query answered {type(answer).__name__} where {kind.__name__} was due")
    return answer


def _read(column: Column, value: Any) -> Any:
    try:
        return read(column.type, value)
    except ValueError as error:
        raise InvalidInputError(f"column {column.name!r}: {error}") from None
