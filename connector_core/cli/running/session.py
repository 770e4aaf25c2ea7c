"""A command on a host, from loading the plugins to the exit code, and Ctrl-C: once for a good end, twice for one at once."""

import asyncio
import contextlib
import gc
import io
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO, TypeVar

import msgspec

from connector_core.cli import exit_at_once
from connector_core.cli.running.display import PlainView, View
from connector_core.cli.running.host import Host
from connector_core.cli.running.host_client import Client, check_endpoint
from connector_core.cli.running.overheard import overheard
from connector_core.errors import ConnectorError, SetupError
from connector_core.settings import Settings
from connector_core.task import TaskCategory

T = TypeVar("T")


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The user wants no more of it."""


class Interrupts:
    """Counts SIGINT and SIGTERM while it is `listening`."""

    def __init__(self) -> None:
        self._first, self._second = asyncio.Event(), asyncio.Event()
        self._last = signal.SIGINT

    @property
    def is_interrupted(self) -> bool:
        """True if a signal has come."""
        return self._first.is_set()

    @property
    def exit_code(self) -> int:
        """The exit code that a shell expects of a program that such a signal ended."""
        return 128 + self._last

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals of the running loop until the block ends."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.add, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def add(self, number: signal.Signals) -> None:
        """Count one."""
        self._last = number
        (self._second if self._first.is_set() else self._first).set()

    async def before_first(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` does, unless a Ctrl-C comes before that and cancels it.

        Raises:
            Interrupted: it came before.
        """
        return await _before(self._first, work)

    async def before_second(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` does, unless a second Ctrl-C comes before that and cancels it.

        Raises:
            Interrupted: it came before.
        """
        return await _before(self._second, work)


async def _before(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    if event.is_set():
        work.close()
        raise Interrupted
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Interrupted
        return working.result()
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Manner:
    """The options that the commands share.

    Attributes:
        endpoint: the host; `None` where nothing was said of it.
        settings: reads the settings of a host in this process.
        as_json: print JSON.
        verbose: print the log of a host in this process.
        interval: seconds between two looks at a job.
    """

    endpoint: str | None
    settings: Callable[[], Settings]
    as_json: bool = False
    verbose: bool = False
    interval: float = 1.0


@dataclass(frozen=True, slots=True)
class Session:
    """The things that a command works with: stdout (`out`) is for its results, the view for everything else."""

    manner: Manner
    endpoint: str
    client: Client
    view: View
    interrupts: Interrupts
    out: TextIO


Work = Callable[[Session], Awaitable[int]]


def carry_out(
    work: Work,
    manner: Manner,
    category: TaskCategory,
    *,
    endpoint: str = "",
    live_hint: str = "",
    places: Sequence[str] = (),
) -> int:
    """Do a command's work on a host and return the exit code.

    Args:
        work: the command.
        manner: how it goes about it.
        category: the task type that it is about.
        endpoint: the host, where `manner` says nothing of it; empty for one in this process.
        live_hint: what Ctrl-C does, for commands that are looked on at; others show plain lines.
        places: the URIs that the task may use on a host in this process.

    Raises:
        SetupError: the host cannot be put together.
    """
    gc.enable()
    endpoint = manner.endpoint or endpoint
    host = Host(check_endpoint(endpoint)) if endpoint else Host(settings=manner.settings(), places=places)
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")  # outputs and logs have characters that not every locale has
    code = 1
    try:
        # What plugins print must not get among the outputs.
        with (
            contextlib.redirect_stdout(sys.stderr),
            _log(manner, host.settings),
            _view(manner, str(category), live_hint) as view,
            overheard(view if host.settings is not None and not manner.verbose else None),
        ):
            host.load()
            code = _run(_on_host(work, host, category, view, out, manner), host)
    except KeyboardInterrupt:  # while plugins were loaded
        code = 130
    except BrokenPipeError:  # the reader has closed its end, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    except SetupError:
        raise
    except ConnectorError as error:
        print(f"connector-host: {error}", file=sys.stderr)
    if host.hangs:
        exit_at_once(code)
    return code


def _run(work: Coroutine[Any, Any, int], host: Host) -> int:
    """Run the loop, and close it, unless what hangs would hang that too."""
    runner = asyncio.Runner()
    try:
        return runner.run(work)
    finally:
        if not host.hangs:
            runner.close()


async def _on_host(work: Work, host: Host, category: TaskCategory, view: View, out: TextIO, manner: Manner) -> int:
    interrupts = Interrupts()
    stack = contextlib.AsyncExitStack()
    with interrupts.listening():
        try:
            client = await interrupts.before_first(stack.enter_async_context(host.open(category)))
            return await work(Session(manner, host.endpoint, client, view, interrupts, out))
        except Interrupted:
            return interrupts.exit_code
        finally:
            with contextlib.suppress(Interrupted):
                await interrupts.before_second(stack.aclose())


def _view(manner: Manner, title: str, hint: str) -> View:
    is_able = os.environ.get("TERM") not in {None, "dumb", "unknown"} and sys.stderr.encoding.lower().startswith("utf")
    if hint and not manner.verbose and sys.stderr.isatty() and is_able:
        from connector_core.cli.running.live import LiveView

        return LiveView(sys.stderr, title, hint)
    return PlainView(sys.stderr)


@contextlib.contextmanager
def _log(manner: Manner, settings: Settings | None) -> Iterator[None]:
    """Keep the log of the host and its plugins to itself, unless it is asked for: what matters of it is answered."""
    if not manner.verbose or settings is None:
        logging.basicConfig(handlers=[logging.NullHandler()])
        yield
        return
    from connector_core.cli.logs import open_log

    own = {"gateway": "metadata"}  # as the host in this process has it
    if settings.log_format == "auto":
        own["log_format"] = "console"  # it is for people, on a terminal or not
    with open_log(msgspec.structs.replace(settings, **own), settings.secrets.source()):
        yield
