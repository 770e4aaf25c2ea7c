"""Lines as they are written: JSON for programs, colours for people."""

import logging
import traceback
from collections.abc import Callable
from typing import Any

from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter
from structlog.processors import JSONRenderer

from connector_core.hostlog.entries import Entry
from connector_core.hostlog.redaction import Scrubber, cut

CALLS = "connector_core.calls"
_OWN = "connector_core"

_NOT_ON_A_TERMINAL = frozenset({"connector", "task_type", "trace_id", "span_id"})
_IN_A_CALLS_MESSAGE = _NOT_ON_A_TERMINAL | {"operation", "status", "reference"}
_SOURCE_WIDTH = 14

_RESET, _DIM, _BOLD, _CYAN, _GREEN, _YELLOW, _RED = (f"\x1b[{code}m" for code in (0, 2, 1, 36, 32, 33, 31))
_LEVELS = {"debug": _DIM, "info": _GREEN, "warning": _YELLOW, "error": _RED, "critical": _BOLD + _RED}

PluginOf = Callable[[str], str]


def json_lines(scrubber: Scrubber, plugin_of: PluginOf) -> Callable[[Entry], str]:
    """Return what renders a line as one JSON object.

    Args:
        scrubber: takes secrets out.
        plugin_of: says whose logger it is, for lines that are about no call.
    """
    dump = JSONRenderer(ensure_ascii=False, default=repr)

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
        return str(dump(None, "", scrubber.scrub(line)))

    return render


def coloured_lines(scrubber: Scrubber, plugin_of: PluginOf, *, colours: bool) -> Callable[[Entry], str]:
    """Return what renders a line for a terminal, with what belongs to it indented below; as `json_lines` otherwise."""
    dim, cyan, reset = (_DIM, _CYAN, _RESET) if colours else ("", "", "")

    def column(style: str, width: int = 0) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(None, style, reset, value_repr=str, width=width)

    def level(key: str, value: object) -> str:  # noqa: ARG001 - structlog's signature
        return f"{_LEVELS.get(str(value), '') if colours else ''}{value:<8}{reset}"

    console = ConsoleRenderer(
        sort_keys=False,
        columns=[
            Column("timestamp", column(dim)),
            Column("level", level),
            Column("source", column(cyan, _SOURCE_WIDTH)),
            Column("event", column("")),
            Column("", KeyValueColumnFormatter(dim, dim, reset, value_repr=_shown)),
        ],
    )

    def render(entry: Entry) -> str:
        subject = _subject(entry, plugin_of)
        fields = {str(name): value for name, value in (subject | dict(entry.fields)).items()}
        source = fields.pop("plugin", "") or ("host" if entry.logger.startswith(_OWN) else entry.logger)
        hidden = _IN_A_CALLS_MESSAGE if entry.logger == CALLS else _NOT_ON_A_TERMINAL
        fields = {name: value for name, value in fields.items() if name not in hidden}
        if (took := fields.pop("milliseconds", None)) is not None:
            fields = {"took": f"{took:,.1f} ms"} | fields
        first, *further = scrubber.scrub(entry.event.rstrip()).split("\n")
        line = {
            "timestamp": entry.time.astimezone().strftime("%H:%M:%S"),
            "level": _level(entry),
            "source": source,
            "event": first,
            **{
                name: value
                for name, value in scrubber.scrub(fields).items()
                if name not in {"event", "level", "source"}
            },
        }
        below = further + scrubber.scrub(_behind(entry)).splitlines()
        return "".join([console(None, "", line).rstrip(), *(f"\n    {dim}{text}{reset}" for text in below)])

    return render


def _shown(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else repr(value)


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
