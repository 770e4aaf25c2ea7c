"""Lines as programs read them, in JSON, and as people read them at a terminal."""

import json
import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from connector_core.hostlog.entries import Entry
from connector_core.hostlog.redaction import Scrubber, cut

PluginOf = Callable[[str], str]
"""Returns the name of the plugin that a logger belongs to; empty, where it is not a plugin's."""
Render = Callable[[Entry], str]

CALLS = "connector_core.calls"
_OWN = "connector_core"

_NOT_ON_A_TERMINAL = frozenset({"connector", "task_type", "trace_id", "span_id"})
_IN_A_CALLS_MESSAGE = _NOT_ON_A_TERMINAL | {"operation", "status", "reference"}
_LEVEL_WIDTH = 8
_SOURCE_WIDTH = 14

_RESET, _DIM, _BOLD, _CYAN, _GREEN, _YELLOW, _RED = (f"\x1b[{code}m" for code in (0, 2, 1, 36, 32, 33, 31))
_LEVELS = {"debug": _DIM, "info": _GREEN, "warning": _YELLOW, "error": _RED, "critical": _BOLD + _RED}

_to_json = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def json_lines(scrubber: Scrubber, plugin_of: PluginOf) -> Render:
    """Return what renders a line as one JSON object.

    Args:
        scrubber: takes secrets out.
        plugin_of: names the plugin of a logger, for lines that are about no call.
    """

    def render(entry: Entry) -> str:
        line: dict[str, Any] = {
            "timestamp": entry.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": _level(entry),
            "logger": entry.logger,
            "event": entry.event,
            **_subject(entry, plugin_of),
        }
        line |= {f"{name}_" if name in line else str(name): value for name, value in entry.fields.items()}
        if behind := _behind(entry):
            line["exception"] = behind
        return _to_json(scrubber.scrub(line))

    return render


def coloured_lines(scrubber: Scrubber, plugin_of: PluginOf, *, colours: bool) -> Render:
    """Return what renders a line for a terminal, with what belongs to it indented below; as `json_lines` otherwise."""

    def styled(style: str, text: str) -> str:
        return f"{style}{text}{_RESET}" if colours and style and text else text

    def render(entry: Entry) -> str:
        source, fields = _source_and_fields(entry, plugin_of)
        first, *further = scrubber.scrub(entry.event.rstrip()).split("\n")
        level = _level(entry)
        columns = (
            styled(_DIM, entry.time.astimezone().strftime("%H:%M:%S")),
            styled(_LEVELS.get(level, ""), f"{level:<{_LEVEL_WIDTH}}"),
            styled(_CYAN, f"{scrubber.scrub(source):<{_SOURCE_WIDTH}}"),
            first,
            *(styled(_DIM, f"{name}={_shown(value)}") for name, value in scrubber.scrub(fields).items()),
        )
        below = further + scrubber.scrub(_behind(entry)).splitlines()
        return "".join([" ".join(columns).rstrip(), *(f"\n    {styled(_DIM, text)}" for text in below)])

    return render


def _source_and_fields(entry: Entry, plugin_of: PluginOf) -> tuple[str, Mapping[str, Any]]:
    """Return who logged, and what is shown beside the message."""
    about = _subject(entry, plugin_of)
    fields = {str(name): value for name, value in (about | dict(entry.fields)).items()}
    source = fields.pop("plugin", "") or ("host" if entry.logger.startswith(_OWN) else entry.logger)
    hidden = _IN_A_CALLS_MESSAGE if entry.logger == CALLS else _NOT_ON_A_TERMINAL
    fields = {name: value for name, value in fields.items() if name not in hidden}
    if (took := fields.pop("milliseconds", None)) is not None:
        fields = {"took": f"{took:,.1f} ms"} | fields
    return str(source), fields


def _level(entry: Entry) -> str:
    return logging.getLevelName(entry.level).lower()


def _subject(entry: Entry, plugin_of: PluginOf) -> dict[str, Any]:
    """Return what a line is about, as far as it does not say that itself."""
    known = entry.subject._asdict() if entry.subject is not None else {"plugin": plugin_of(entry.logger)}
    return {name: value for name, value in known.items() if value and name not in entry.fields}


def _behind(entry: Entry) -> str:
    """Return the traceback and the stack that belong to a line; printing an author's exception may do anything."""
    parts = [entry.stack] if entry.stack else []
    if (error := entry.exc_info) is not None:
        try:
            parts.insert(0, "".join(traceback.format_exception(error)).rstrip())
        except BaseException as trouble:  # noqa: BLE001 - the log's thread must outlive it
            parts.insert(0, f"{type(error).__name__} (its traceback cannot be printed: {type(trouble).__name__})")
    return cut("\n".join(parts))


def _shown(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else repr(value)
