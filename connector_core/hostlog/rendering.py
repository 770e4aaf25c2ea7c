"""Lines as programs read them, in JSON; and what lines of any form have."""

import json
import logging
import traceback
from collections.abc import Callable
from typing import Any

from connector_core.hostlog.entries import Entry
from connector_core.hostlog.redaction import Scrubber, cut

PluginOf = Callable[[str], str]

_to_json = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def json_lines(scrubber: Scrubber, plugin_of: PluginOf) -> Callable[[Entry], str]:
    """Return what renders a line as one JSON object.

    Args:
        scrubber: takes secrets out.
        plugin_of: says whose logger it is, for lines that are about no call.
    """

    def render(entry: Entry) -> str:
        line: dict[str, Any] = {
            "timestamp": entry.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level(entry),
            "logger": entry.logger,
            "event": entry.event,
            **subject(entry, plugin_of),
        }
        line |= {f"{name}_" if name in line else str(name): value for name, value in entry.fields.items()}
        if said := behind(entry):
            line["exception"] = said
        return _to_json(scrubber.scrub(line))

    return render


def level(entry: Entry) -> str:
    return logging.getLevelName(entry.level).lower()


def subject(entry: Entry, plugin_of: PluginOf) -> dict[str, Any]:
    """Return what a line is about, as far as it does not say that itself."""
    known = entry.subject._asdict() if entry.subject is not None else {"plugin": plugin_of(entry.logger)}
    return {name: value for name, value in known.items() if value and name not in entry.fields}


def behind(entry: Entry) -> str:
    """Return the traceback and the stack that belong to a line; printing an author's exception may do anything."""
    parts = [entry.stack] if entry.stack else []
    if (error := entry.exc_info) is not None:
        try:
            parts.insert(0, "".join(traceback.format_exception(error)).rstrip())
        except BaseException as trouble:  # noqa: BLE001 - the log's thread must outlive it
            parts.insert(0, f"{type(error).__name__} (its traceback cannot be printed: {type(trouble).__name__})")
    return cut("\n".join(parts))
