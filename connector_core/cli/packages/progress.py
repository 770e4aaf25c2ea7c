"""Progress of a command: a spinner at a terminal, a line elsewhere. Apart, as checks and changes both report it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[[str], None]


class Progress:
    """Says on stderr what is being done.

    Args:
        is_verbose: print every line of the programs that are run, in place of a spinner.
    """

    def __init__(self, *, is_verbose: bool) -> None:
        from rich.console import Console  # when something is done: help does without

        self._console = Console(stderr=True, highlight=False)
        self._is_live = self._console.is_terminal and not is_verbose
        self._is_verbose = is_verbose

    @contextmanager
    def doing(self, what: str) -> Iterator[Say]:
        """Say that this is being done, until the block ends; what it gets takes the lines of the program that does it."""
        if self._is_live:
            from rich.markup import escape

            with self._console.status(escape(what)) as status:
                yield lambda line: status.update(f"{escape(what)} [dim]{escape(line[: self._room(what)])}[/dim]")
            return
        self.say(f"{what} ...")
        yield self.say if self._is_verbose else _say_nothing

    def say(self, text: str, style: str = "") -> None:
        """Print a line for people."""
        if self._console.is_terminal:
            self._console.print(text, style=style, markup=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def _room(self, what: str) -> int:
        return max(0, self._console.width - len(what) - 5)


def _say_nothing(_line: str) -> None:
    pass
