"""A job's stdout and stderr as lines, read piece by piece from where a token says."""

import re
from pathlib import Path

import msgspec

from connector_core import InvalidInputError, LogPage
from connector_plugin_process import files
from connector_plugin_process.job import Job

MAX_LINE_BYTES = 64 * 1024
MAX_PAGE_LINES = 10_000
MAX_STREAM_BYTES = 512 * 1024
"""The most bytes of each stream on a page, so that it stays well below what gRPC's clients receive (4 MiB)."""

_TOKEN = re.compile(r"(\d{1,18})-(\d{1,18})")


class Position(msgspec.Struct, frozen=True):
    """The bytes of stdout and of stderr that have been read; as a token `<stdout>-<stderr>`."""

    stdout: int = 0
    stderr: int = 0

    @classmethod
    def parse(cls, token: str) -> "Position":
        """Read a token; the empty one is the beginning.

        Raises:
            InvalidInputError: it is none that a page carried.
        """
        if not token:
            return cls()
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise InvalidInputError(
                f"{token!r} is not a token of a log page; use one that a page carried, or none to begin"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.stdout}-{self.stderr}"


class _Line(msgspec.Struct, frozen=True):
    text: str
    end: int


def read_page(job: Job, token: str, limit: int) -> LogPage:
    """Return at most `limit` lines that follow `token`: those of stdout, then those of stderr.

    Of a running job an unfinished last line is left for the next page. The page's token is empty when the job is over
    and everything has been read.
    """
    position = Position.parse(token)
    limit = min(limit, MAX_PAGE_LINES)
    is_final = not job.is_running()  # asked first, so that nothing can be written after we have looked
    out = _read_lines(job.stdout, position.stdout, limit, is_final)
    err = _read_lines(job.stderr, position.stderr, limit, is_final)
    # A flood on one stream does not keep the other waiting: each has half of the page to itself if it needs that.
    out_count = min(len(out), max(limit - len(err), (limit + 1) // 2))
    out, err = out[:out_count], err[: limit - out_count]
    after = Position(out[-1].end if out else position.stdout, err[-1].end if err else position.stderr)
    is_complete = is_final and after.stdout >= files.size_of(job.stdout) and after.stderr >= files.size_of(job.stderr)
    return LogPage([line.text for line in (*out, *err)], "" if is_complete else str(after))


def read_tail(file: Path, limit: int) -> str:
    """Return the last `limit` bytes of a file as text."""
    size = files.size_of(file)
    return _decode(_read(file, max(0, size - limit), limit), is_start_cut=size > limit)


def _read_lines(file: Path, offset: int, limit: int, is_final: bool) -> list[_Line]:
    data = _read(file, offset, MAX_STREAM_BYTES)
    is_last = is_final and len(data) < MAX_STREAM_BYTES
    lines: list[_Line] = []
    start = 0
    while start < len(data) and len(lines) < limit:
        newline = data.find(b"\n", start, start + MAX_LINE_BYTES + 1)
        if newline >= 0:
            text, following = data[start:newline].removesuffix(b"\r"), newline + 1
        elif len(data) - start > MAX_LINE_BYTES:
            following = _character_start(data, start + MAX_LINE_BYTES)
            text = data[start:following]
        elif is_last:
            text, following = data[start:], len(data)
        else:
            break
        lines.append(_Line(_decode(text), offset + following))
        start = following
    return lines


def _character_start(data: bytes, place: int) -> int:
    """Step back from the middle of a UTF-8 character, which has at most three bytes that continue it."""
    for back in range(4):
        if data[place - back] & 0xC0 != 0x80:
            return place - back
    return place


def _decode(data: bytes, *, is_start_cut: bool = False) -> str:
    """Bytes that are not UTF-8 are shown as `\\xNN`, so that nothing is lost."""
    if is_start_cut:
        continuing = next((place for place in range(min(4, len(data))) if data[place] & 0xC0 != 0x80), 0)
        data = data[continuing:]
    return data.decode(errors="backslashreplace")


def _read(file: Path, offset: int, size: int) -> bytes:
    return files.read_bytes(file, size, offset) or b""  # the command may have put something else there, or nothing
