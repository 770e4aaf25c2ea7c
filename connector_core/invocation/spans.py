"""What a trace has around plugin code, for whoever traces; nothing here knows how."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from connector_core.observing.call_records import Subject


class CodeSpan(Protocol):
    """The time that a piece of plugin code takes, from handing it over to its answer."""

    def enter(self) -> None:
        """Be the current span in the context that this is called in, so that spans of the code become parts of this one."""

    def leave(self) -> None:
        """Be so no longer, in the same context."""

    def end(self, error: BaseException | None) -> None:
        """The code has answered or failed, or nobody waits for it any more."""


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
