"""A job's log from where it was left, read again and again, so that no line is missed and none shown twice."""

import asyncio
from collections.abc import Callable, Sequence

import grpc

from connector_core.cli.running.client import CallError, Client
from connector_core.cli.running.job import Job

PAGE_LINES = 10_000
LAST_SECONDS = 10.0
"""How long what is left of a log may take when its job is over."""


class LogReader:
    """Reads a job's log on.

    Connectors differ: some answer a page and the token of the next one, some all lines each time, some follow the job
    until it ends. So what came since the last token is counted, and left out when it comes again.
    """

    def __init__(self, client: Client, job: Job, show: Callable[[Sequence[str]], None]) -> None:
        self._client = client
        self._job = job
        self._show = show
        self._token = ""
        self._shown = 0

    async def read(self) -> bool:
        """Show what is new; return whether anything was.

        Raises:
            CallError: the log cannot be read.
        """
        seen, has_news = 0, False
        asked_with = self._token
        async for piece in self._client.logs(self._job, asked_with, PAGE_LINES):
            if piece.token and piece.token != self._token:
                self._token, self._shown = piece.token, 0
            new = piece.lines
            if self._token == asked_with:  # else they stand before what the new token asks for, and will not come again
                new = new[max(0, self._shown - seen) :]
                seen += len(piece.lines)
                self._shown = max(self._shown, seen)
            if new:
                has_news = True
                self._show(new)
        return has_news

    async def read_to_end(self) -> None:
        """Show all that there is now.

        Raises:
            CallError: the log cannot be read.
        """
        while await self.read():
            pass

    async def follow(self, over: asyncio.Event, interval: float) -> None:
        """Show what comes until the job is `over`, and then what is left.

        Raises:
            CallError: the connector has no logs, or they cannot be read for good.
        """
        while True:
            was_over = over.is_set()
            try:
                has_news = await self.read()
            except CallError as error:
                is_early = error.code is grpc.StatusCode.NOT_FOUND  # there may be none before the job really runs
                if was_over or not (error.is_passing or is_early):
                    raise
                has_news = False
            if was_over and not has_news:
                return
            if not has_news:
                await _wait(over, interval)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
