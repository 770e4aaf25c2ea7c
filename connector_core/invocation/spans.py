"""Spans around plugin code, as an interface for tracing; no tracing library is imported here."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from connector_core.observing.call_records import Subject


class CodeSpan(Protocol):
    """The time that a piece of plugin code takes, from handing it over to its answer."""

    def enter(self) -> None:
        """Make this the current span of the calling context, so that spans of the code become its children."""

    def leave(self) -> None:
        """Leave the span, in the same context."""

    def end(self, error: BaseException | None) -> None:
        """End the span: the code has answered or failed, or its caller has gone."""


Trace = Callable[[Subject], CodeSpan]
"""Begins a span, as part of the current one, for code of which the subject says whose it is."""


@contextmanager
def ended(span: CodeSpan) -> Iterator[CodeSpan]:
    """End a span with the block."""
    try:
        yield span
    except BaseException as error:
        span.end(error)
        raise
    else:
        span.end(None)


async def run_within(span: CodeSpan, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run code, in this context, as part of a span."""
    span.enter()
    try:
        return await work()
    finally:
        span.leave()
