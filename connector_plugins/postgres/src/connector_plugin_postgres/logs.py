"""A job's log: what its statement raised as notices and warnings, as far as it is kept, for readers that follow."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from connector_core import InvalidInputError, LogPage

MAX_LINES, MAX_BYTES = 10_000, 1024 * 1024

_LONGEST_TOKEN = 9


class JobLog:
    """Lines that are kept while their host keeps the job; those over the limits are counted and left out."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.size = 0
        self._left_out = 0
        self._is_closed = False
        self._changed = asyncio.Event()

    def hear(self, _connection: Any, message: Any) -> None:
        """Take a message of the server's: asyncpg's log listener."""
        severity = getattr(message, "severity", None) or "NOTICE"
        for line in (message.message or "").splitlines() or [""]:
            self._add(f"{severity}: {line}")

    def close(self) -> None:
        """Take note that nothing more comes."""
        if self._is_closed:
            return
        if self._left_out:
            self._lines.append(f"({self._left_out} further lines were left out)")
        self._is_closed = True
        self._wake()

    async def pages(self, lines: int, token: str) -> AsyncIterator[LogPage]:
        """Yield a page of at most `lines` lines after `token`; or, without `lines`, all of them until the job ends."""
        position = _position(token)
        while True:
            page = self._lines[position : position + (lines or MAX_LINES)]
            position += len(page)
            changed, is_complete = self._changed, self._is_closed and position >= len(self._lines)
            if page or lines or is_complete:
                yield LogPage(tuple(page), "" if is_complete else str(position))
            if lines or is_complete:
                return
            if position >= len(self._lines):
                await changed.wait()

    def _add(self, line: str) -> None:
        self.size += len(line)
        if len(self._lines) >= MAX_LINES or self.size > MAX_BYTES:
            self._left_out += 1
            return
        self._lines.append(line)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _position(token: str) -> int:
    if token and not (token.isascii() and token.isdigit() and len(token) <= _LONGEST_TOKEN):
        raise InvalidInputError(
            f"{token!r} is not a token of a log page; use one that a page carried, or none to begin"
        )
    return int(token or 0)
