"""A run on a terminal: the job's log scrolls by, and below it stands how the job is doing."""

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self, TextIO

from flyteidl.admin import agent_pb2
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.style import Style
from rich.table import Table
from rich.text import Text

from connector_core.cli.drawing import CONTROLS, harmless
from connector_core.cli.running.display import elapsed, is_over, phase_name, with_message
from connector_core.resource import Phase

_STYLES = {
    Phase.SUCCEEDED.name: "bold green",
    Phase.FAILED.name: "bold red",
    Phase.RETRYABLE_FAILED.name: "bold red",
    Phase.ABORTED.name: "bold yellow",
    Phase.RUNNING.name: "bold cyan",
}
_OTHER_STYLE = "bold"
_MESSAGE_LINES = 4
_LINKS = 4


class LiveView:
    """Draws on a terminal until it is left; then only the log and the end remain."""

    wants_usage = True

    def __init__(self, out: TextIO, title: str, hint: str) -> None:
        self._console = Console(file=out, highlight=False)
        self._title = title
        self._hint = hint
        self._began = time.monotonic()
        self._doing = "starting"
        self._resource: agent_pb2.Resource | None = None
        self._usage: Sequence[str] = ()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(get_renderable=self._picture, console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print it above the picture."""
        self._console.print(Text(harmless(text)), soft_wrap=True)

    def doing(self, text: str, hint: str = "") -> None:
        """Show it in the picture instead of the phase."""
        self._doing, self._hint = text, hint or self._hint
        self._live.refresh()

    def start_clock(self) -> None:
        """Count the time from now on."""
        self._began = time.monotonic()

    def state(self, resource: agent_pb2.Resource) -> None:
        """Show it in the picture."""
        self._resource = resource
        self._live.refresh()

    def usage(self, usage: Sequence[str]) -> None:
        """Show it in the picture."""
        self._usage = usage
        self._live.refresh()

    def lines(self, lines: Sequence[str]) -> None:
        """Print them above the picture, in the colours that they have."""
        for line in lines:
            self._console.print(Text.assemble(("│ ", "dim"), coloured(line)), soft_wrap=True)

    def ended(self, resource: agent_pb2.Resource) -> None:
        """Take the picture away and print how and when."""
        self._live.stop()
        for link in resource.log_links:
            self._console.print(_link(link.name, link.uri), soft_wrap=True)
        how = harmless(with_message(f" after {elapsed(self._seconds)}", resource))
        self._console.print(Text.assemble(_phase(resource), how), soft_wrap=True)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _picture(self) -> RenderableType:
        resource = self._resource
        head = Table.grid(padding=(0, 1))
        doing = Text(self._doing, style=_OTHER_STYLE) if self._doing or resource is None else _phase(resource)
        head.add_row(self._spinner, doing, Text(f"{self._title}  {elapsed(self._seconds)}", style="dim"))
        return Group(head, *self._details(resource))

    def _details(self, resource: agent_pb2.Resource | None) -> Iterator[RenderableType]:
        if resource is not None and not is_over(resource):
            for line in harmless(resource.message.strip()).splitlines()[:_MESSAGE_LINES]:
                yield Text(f"  {line}", no_wrap=True, overflow="ellipsis")
            for link in resource.log_links[:_LINKS]:
                yield Text("  ", no_wrap=True, overflow="ellipsis").append_text(_link(link.name, link.uri))
        if self._usage:
            yield Text(f"  {' · '.join(self._usage)}", no_wrap=True, overflow="ellipsis")
        yield Text(f"  {self._hint}", style="dim", no_wrap=True, overflow="ellipsis")


def _phase(resource: agent_pb2.Resource) -> Text:
    name = phase_name(resource)
    return Text(name, style=_STYLES.get(name, _OTHER_STYLE))


def _link(name: str, uri: str) -> Text:
    """Return a link that is also readable where terminals cannot follow it."""
    text = Text(f"{harmless(name)}: " if name else "", style="dim")
    return text.append(harmless(uri), style=Style(underline=True, link=harmless(uri).replace(";", "%3B"), dim=False))


def coloured(line: str) -> Text:
    """Return a log line with its colours, without anything else that would move the cursor, as a terminal leaves it."""
    last = line.rstrip("\r").rpartition("\r")[2]  # what a progress bar wrote last over itself
    return Text.from_ansi(CONTROLS.sub(lambda found: found["colour"] or "", last.expandtabs()))
