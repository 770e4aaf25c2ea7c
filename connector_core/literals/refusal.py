"""Refusals of conversions: a reason, which gathers the value's position on its way out."""

import reprlib

from connector_core.errors import LiteralError, OffloadedLiteralError

MAX_DEPTH = 100
"""The deepest nesting of literals and data inside them: far from Python's own recursion limit on any stack."""

MAX_MESSAGE_DEPTH = 28
"""The deepest nesting of literals written here: a map takes three messages a level; protobuf's parsers stop at 100."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


class Refusal(Exception):  # noqa: N818 - it never leaves this package: `to_error` gives what callers see
    """A value cannot be converted."""

    def __init__(self, reason: str, *, offloaded_to: str | None = None) -> None:
        super().__init__(reason)
        self._reason = reason
        self._offloaded_to = offloaded_to
        self._steps: list[str] = []

    def within(self, step: object) -> "Refusal":
        """Note that the value stands at this index or key of the one around it."""
        self._steps.append(f"[{shown(step)}]")
        return self

    def to_error(self, subject: str = "") -> LiteralError:
        """Return the error for callers, naming the subject (such as "input 'x'") and the position inside of it."""
        position = "at " + "".join(reversed(self._steps)) if self._steps else ""
        where = " ".join(part for part in (subject, position) if part)
        message = f"{where}: {self._reason}" if where else self._reason
        if self._offloaded_to is not None:
            return OffloadedLiteralError(message, uri=self._offloaded_to)
        return LiteralError(message)


def check_depth(depth: int, limit: int) -> None:
    """Refuse a container that `limit` others or more are around."""
    if depth >= limit:
        raise Refusal(f"nested deeper than {limit} levels (or containing itself)")


def check_text(text: str) -> None:
    """Refuse what protobuf and msgpack cannot hold."""
    try:
        text.encode()
    except ValueError:
        raise Refusal("text with lone surrogates, which UTF-8 cannot encode") from None


def shown(value: object) -> str:
    """Return a short `repr`."""
    try:
        return _short.repr(value)
    except ValueError:  # an int of thousands of digits
        return f"<{type(value).__name__}>"
