"""The course of installing and uninstalling: one change at a time, interruptible, with a message on how it ended."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import typer

from connector_core.cli.packages.check import Look, command
from connector_core.cli.packages.progress import Progress
from connector_core.cli.packages.undo import NotPutBackError, locked
from connector_core.processes import Interrupted, interruptible

Keep = Annotated[
    bool, typer.Option("--keep", help="Leave the environment as it has become, even if plugins fail or clash in it.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Print what the installer prints, and tracebacks of what fails.")
]

RESTART = "Restart running hosts to apply this change."
_LAST_LINES = 30


@dataclass(frozen=True)
class Manner:
    """The options of a change.

    Args:
        progress: says what is being done.
        keep: leave the environment as it has become, whatever the plugins say.
        verbose: show the whole of what goes wrong.
        options: what a host would be started with, for the check.
    """

    progress: Progress
    keep: bool = False
    verbose: bool = False
    options: Sequence[str] = ()

    @classmethod
    def of(cls, keep: bool, verbose: bool, given: Mapping[str, Any]) -> Self:
        """Return what a command line comes to; `given` is what the command got for its settings."""
        return cls(Progress(is_verbose=verbose), keep, verbose, list(_retyped(given)))

    def say_undoing(self) -> None:
        """Say that the environment is put back."""
        self.progress.say("putting the environment back ...")

    def hint(self, parts: Sequence[str], problems: Sequence[str]) -> str:
        """Return what to type to see more, and to have it all the same."""
        more = "" if self.verbose else f"for the traceback: {command(parts[0], '--verbose', *parts[1:])}\n"
        are = "it" if len(problems) == 1 else "them"
        return f"{more}to have it in spite of {are}: {command(parts[0], '--keep', *parts[1:])}"


class Doubts(Exception):  # noqa: N818 - not an error: what the plugins say of a change
    """The change does harm."""

    def __init__(self, problems: Sequence[str], look: Look, hint: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        self.look = look
        self.hint = hint


def changing(manner: Manner, change: Callable[[], int]) -> int:
    """Change the environment and return the exit code: 1 for what was undone, 130 after Ctrl-C.

    Raises:
        SetupError: it cannot be done.
    """
    say = manner.progress.say
    try:
        with interruptible(), locked(lambda: say("waiting for another change of this environment to end ...")):
            return change()
    except NotPutBackError as error:
        say(f"connector-host: {error}", "bold red")
        return 1
    except Interrupted as interrupted:
        say("interrupted; the environment is as it was", "bold")
        return interrupted.exit_code
    except Doubts as doubts:
        _explain(doubts, manner)
        return 1


def _explain(doubts: Doubts, manner: Manner) -> None:
    if manner.verbose:
        for plugin in doubts.look.plugins.values():
            if plugin.traceback:
                print(f"--- {plugin.name}: traceback ---\n{plugin.traceback.rstrip()}\n", file=sys.stderr)
    if doubts.look.trouble:
        last = doubts.look.output.strip().splitlines()[-_LAST_LINES:]
        print("\n".join(f"    {line}" for line in last), file=sys.stderr)
    for problem in doubts.problems:
        manner.progress.say(problem, "bold red")
    manner.progress.say(doubts.hint)
    manner.progress.say("Nothing was changed: the environment is as it was.", "bold")


def _retyped(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options of settings as they are typed, for a host of another process."""
    for name in ("modules", "prefer"):
        for value in given[name] or ():
            yield from (f"--{name}", value)
    if given["config"]:
        yield from ("--config", str(given["config"]))
