"""Views of a task while it runs; the plain one is a line for each change of phase."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self, TextIO

from flyteidl.admin import agent_pb2

from connector_core.resource import Phase


class View(Protocol):
    """A place that shows a run, from entering to leaving.

    Attributes:
        wants_usage: whether it shows CPU and memory.
    """

    wants_usage: bool

    def __enter__(self) -> Self:
        """Begin to show it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave what has to stay."""

    def say(self, text: str) -> None:
        """Show something that stays."""

    def doing(self, text: str, hint: str = "") -> None:
        """Show what is going on, until it is something else (with an empty text, how the job is), and what the user can do."""

    def start_clock(self) -> None:
        """Count the time from now on."""

    def state(self, resource: agent_pb2.Resource) -> None:
        """Show a job's state."""

    def usage(self, usage: Sequence[str]) -> None:
        """Show what a job uses of its machine."""

    def lines(self, lines: Sequence[str]) -> None:
        """Show lines of a job's log."""

    def ended(self, resource: agent_pb2.Resource) -> None:
        """Show how it ended."""


class PlainView:
    """Lines for pipes, files and terminals that cannot do more."""

    wants_usage = False

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._began = time.monotonic()
        self._phase: int | None = None
        self._links: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._out, flush=True)

    def doing(self, text: str, hint: str = "") -> None:
        """Nothing: only what happened is printed."""

    def start_clock(self) -> None:
        """Count the time from now on."""
        self._began = time.monotonic()

    def state(self, resource: agent_pb2.Resource) -> None:
        """Print a line if the phase is another one, and one for each new link."""
        for link in resource.log_links:
            if (link.name, link.uri) not in self._links:
                self._links.add((link.name, link.uri))
                self.say(f"see {link.name}: {link.uri}" if link.name else f"see {link.uri}")
        if resource.phase != self._phase and not is_over(resource):
            self._phase = resource.phase
            self.say(" ".join(with_message(phase_name(resource), resource).split()))

    def usage(self, usage: Sequence[str]) -> None:
        """Nothing: these are for looking on."""

    def lines(self, lines: Sequence[str]) -> None:
        """Print them, marked as not ours."""
        for line in lines:
            self.say(f"| {line}")

    def ended(self, resource: agent_pb2.Resource) -> None:
        """Print how and when."""
        self.say(ending(resource, time.monotonic() - self._began))


def phase_name(resource: agent_pb2.Resource) -> str:
    """Return a phase's name, also of one that is not known here."""
    try:
        return Phase(resource.phase).name
    except ValueError:
        return "UNDEFINED" if resource.phase == 0 else f"phase {resource.phase}"


def is_over(resource: agent_pb2.Resource) -> bool:
    """Say whether a job stays in its phase."""
    try:
        return Phase(resource.phase).is_terminal
    except ValueError:
        return False


def with_message(text: str, resource: agent_pb2.Resource) -> str:
    """Return a text with what the connector says."""
    message = resource.message.strip()
    code = f" ({resource.agent_error.code})" if resource.agent_error.code else ""
    return f"{text}{code}: {message}" if message else f"{text}{code}"


def ending(resource: agent_pb2.Resource, seconds: float) -> str:
    """Return how a task ended, and after how long."""
    return with_message(f"{phase_name(resource)} after {elapsed(seconds)}", resource)


def elapsed(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
