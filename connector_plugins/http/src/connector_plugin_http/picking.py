"""Picking values out of an answer: `data.runs[0].id`, `steps[*].logs`, `@status`, `@header:NAME`, `@text`."""

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import msgspec

from connector_core import BackendUnavailableError

_STEP = re.compile(r"(?P<name>[^.\[\]]+)|\[(?P<index>\d+|\*)\]")
_LONGEST_ID = 1024


class Answer(msgspec.Struct, frozen=True, dict=True):
    """A reply: the status, the headers by lower-case name, the body, and the path and query that it came from."""

    status: int
    headers: dict[str, str]
    body: bytes
    target: str = ""
    location: str = ""

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are shown as `\\xNN`."""
        return self.body.decode(errors="backslashreplace")

    @cached_property  # several picks look into one answer
    def json(self) -> Any:
        """The body's JSON; None for an empty one.

        Raises:
            BackendUnavailableError: it is not JSON, as where a proxy or a log-in page answers in place of the API.
        """
        if not self.body.strip():
            return None
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            kind = self.headers.get("content-type", "no content type")
            raise BackendUnavailableError(
                f"answer {self.status} is not JSON but {kind[:80]!r}, beginning {self.text[:80]!r}"
            ) from None


def check_path(path: str) -> str:
    """Return a path to pick by.

    Raises:
        ValueError: it is not one.
    """
    if path.startswith("@"):
        if path in {"@status", "@text", "@body", "@location"} or path.startswith("@header:"):
            return path
        raise ValueError(f"{path!r} is unknown; known are @status, @text, @body, @location and @header:NAME")
    if not path or _STEP.sub("", path).strip("."):
        raise ValueError(f"{path!r} is not a path into an answer such as data.runs[0].id")
    return path


def pick(answer: Answer, path: str) -> Any:
    """Return what stands at a path of the answer; None where nothing does; a list for `[*]`."""
    if path == "@status":
        return answer.status
    if path == "@text":
        return answer.text
    if path == "@body":
        return answer.json
    if path == "@location":
        return answer.location or None
    if path.startswith("@header:"):
        return answer.headers.get(path.removeprefix("@header:").lower())
    return pick_json(answer.json, path)


def pick_json(value: Any, path: str) -> Any:
    """Return what stands at a path in JSON."""
    steps = list(_STEP.finditer(path))
    for place, step in enumerate(steps):
        if step["name"] is not None:
            value = value.get(step["name"]) if isinstance(value, dict) else None
        elif step["index"] == "*":
            rest = path[step.end() :].lstrip(".")
            items = value if isinstance(value, list) else []
            return [item if place == len(steps) - 1 else pick_json(item, rest) for item in items]
        else:
            index = int(step["index"])
            value = value[index] if isinstance(value, list) and index < len(value) else None
    return value


def first_of(answer: Answer, paths: Iterable[str]) -> Any:
    """Return the first of some picks that is there: not null, not an empty text."""
    for path in paths:
        found = pick(answer, path)
        if found is not None and found != "":
            return found
    return None


def identifier(value: Any) -> str | int:
    """Return a job's id as the backend gave it.

    Raises:
        BackendUnavailableError: it is not a text or whole number, or not one that a URL could carry.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BackendUnavailableError(f"answer has no id of a job but {str(value)[:80]!r}")
    text = str(value)
    if not text.strip() or len(text) > _LONGEST_ID or not text.isprintable():
        raise BackendUnavailableError(f"answer has an id of a job that cannot be used: {text[:80]!r}")
    return value
