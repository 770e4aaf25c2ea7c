"""The mistakes in a table, each with its place."""

from collections.abc import Iterator
from typing import NamedTuple

from connector_core.texts import alike


class Mistake(NamedTuple):
    """A mistake in one value.

    Attributes:
        path: its key, after the keys and numbers of what it is in; none, where the table itself is wrong.
        message: what is wrong with it.
        known: the keys that there are, where this one is none of them.
    """

    path: tuple[str | int, ...]
    message: str
    known: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The path in one word."""
        return ".".join(map(str, self.path))


class TableError(ValueError):
    """The mistakes in what was written as a table.

    Attributes:
        mistakes: all of them.
    """

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__("; ".join(f"{one.where}: {one.message}" for one in mistakes))
        self.mistakes = mistakes

    def within(self, key: str | int) -> Iterator[Mistake]:
        """Return the mistakes as those of what has this one under a key."""
        return (Mistake((key, *one.path), one.message, one.known) for one in self.mistakes)


def near(name: str, known: tuple[str, ...]) -> str:
    """Say which key may have been meant; nothing, where none is like it."""
    found = alike(name, known)
    return f" (did you mean {found[0]!r}?)" if found else ""


def explain(mistake: Mistake) -> str:
    """Say what is wrong, and where."""
    if not mistake.known:
        return f"{mistake.where}: {mistake.message}" if mistake.path else mistake.message
    *tables, key = map(str, mistake.path)
    inside = f"{'.'.join(tables)}: " if tables else ""
    return f"{inside}unknown key {key!r}{near(key, mistake.known)}; known are {', '.join(mistake.known)}"


def wrong(message: str) -> TableError:
    """Return the error of a value that is wrong as a whole."""
    return TableError(Mistake((), message))
