"""A job's log lines, cut to what every client receives."""

from dataclasses import replace

from flyteidl.admin.agent_pb2 import LogLine

from connector_core.resource import LogPage
from connector_core.texts import cut_text

MAX_PAGE_BYTES = 1024 * 1024
"""Clients receive 4 MiB by default; less keeps a stream flowing."""

MAX_LINE_BYTES = 256 * 1024

_AROUND_A_LINE = 8  # what a line takes on the wire beside its text, and in the work of sending it


def cut_page(page: LogPage) -> list[LogPage]:
    """Cut a page into ones of at most `MAX_PAGE_BYTES`, and its lines to `MAX_LINE_BYTES`; the token goes with the first."""
    pages: list[LogPage] = []
    lines: list[str | LogLine] = []
    room = MAX_PAGE_BYTES
    for whole in page.lines:
        line, size = _cut_text(whole) if isinstance(whole, str) else _cut_structured(whole)
        size += _AROUND_A_LINE
        if size > room:
            pages.append(LogPage(tuple(lines)))
            lines, room = [], MAX_PAGE_BYTES
        lines.append(line)
        room -= size
    pages.append(LogPage(tuple(lines)))
    return [replace(pages[0], token=page.token), *pages[1:]]


def _cut_text(line: str) -> tuple[str, int]:
    """Return a line that fits, and its size in bytes; lone surrogates (bytes that are not text) are replaced."""
    if line.isascii() and len(line) <= MAX_LINE_BYTES:
        return line, len(line)
    encoded = line.encode(errors="replace")
    if len(encoded) > MAX_LINE_BYTES:
        encoded = cut_text(line, MAX_LINE_BYTES).encode()
    return encoded.decode(), len(encoded)


def _cut_structured(line: LogLine) -> tuple[LogLine, int]:
    if line.ByteSize() > MAX_LINE_BYTES:
        whole, line = line, LogLine()
        line.CopyFrom(whole)
        line.message, _size = _cut_text(whole.message)
    return line, line.ByteSize()
