"""Numbers, times and foreign texts as people read them on the page."""

import re
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from connector_core.description import PluginIdentity
from connector_core.hostlog.redaction import HIDDEN

NOTHING = "\N{EN DASH}"
_LONG = 600
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_LINES, _CHARACTERS = 3, 300
_UNPRINTABLE = re.compile(r"[^\S ]+|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]+")

# What the log's own rules leave, as there it does not stand so.
_INPUT_VALUE = re.compile(r"(?P<kept>input_value=)(?:'[^']*'|\"[^\"]*\"|[^,\]]+)")  # pydantic quotes what it refuses
_BEARER = re.compile(r"(?i)(?P<kept>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}")

Scrub = Callable[[str], str]
"""Takes secrets out of a text."""


def duration(seconds: float | None) -> str:
    """Return how long a call took, in milliseconds, so that figures below each other compare; a very long one as a span."""
    if seconds is None:
        return NOTHING
    milliseconds = seconds * 1000
    if 0 < milliseconds < 0.05:
        return "<0.1 ms"
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:,.0f} ms" if seconds < _LONG else span(seconds)


def span(seconds: float) -> str:
    """Return a long time by its two largest units."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s" if whole < 10 * _MINUTE else f"{whole // _MINUTE} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def rate(per_second: float) -> tuple[str, str]:
    """Return a rate as a number and its unit, which is one for all rates."""
    per_minute = per_second * _MINUTE
    return (f"{per_minute:.1f}" if 0 < per_minute < 10 else f"{per_minute:,.0f}"), "/min"


def share(part: int, whole: int) -> str:
    """Return a share in percent; a small one is not nothing, and nearly all is not all."""
    if not whole:
        return NOTHING
    percent = 100 * part / whole
    if part and percent < 0.1:
        return "<0.1 %"
    if part < whole and percent > 99.9:
        return ">99.9 %"
    return f"{percent:.1f} %" if 0 < percent < 10 else f"{percent:.0f} %"


def size(number: float) -> str:
    """Return a number of bytes."""
    return f"{number / 1e6:.0f} MB" if number < 1e9 else f"{number / 1e9:.2f} GB"


def clock(seconds: float) -> str:
    """Return the time of the day, in UTC as in logs."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def moment(seconds: float) -> str:
    """Return date and time, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def foreign(text: str, scrub: Scrub) -> list[str]:
    """Return the first lines of what a plugin's code said, without secrets and what would not print."""
    text = scrub(text)
    for secret in (_INPUT_VALUE, _BEARER):
        text = secret.sub(rf"\g<kept>{HIDDEN}", text)
    lines = [_UNPRINTABLE.sub(" ", line).rstrip() for line in text.splitlines() if line.strip()]
    shown = [line if len(line) <= _CHARACTERS else f"{line[:_CHARACTERS]} ..." for line in lines[:_LINES]]
    return [*shown, "..."] if len(lines) > _LINES else shown


def first_line(text: str, scrub: Scrub) -> str:
    """Return the first of these lines."""
    return next(iter(foreign(text, scrub)), "no reason given")


def doctor_command(plugin: PluginIdentity) -> str:
    """Return the command that shows a plugin's traceback."""
    name = shlex.quote(_UNPRINTABLE.sub(" ", plugin.name))
    return f"connector-host doctor {name}" + (f" --modules {name}" if plugin.distribution is None else "")


def ends(text: str, tail: int = 24) -> Sequence[str]:
    """Return the head of a text, which may be cut where there is little room, and its tail, which tells it from others."""
    return (text, "") if len(text) <= tail * 2 else (text[:-tail], text[-tail:])
