"""Lines as people read them at a terminal, with colours; drawn by structlog, which takes as long to import as half a host."""

from collections.abc import Callable

from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter

from connector_core.hostlog.entries import Entry
from connector_core.hostlog.redaction import Scrubber
from connector_core.hostlog.rendering import PluginOf, behind, level, subject

CALLS = "connector_core.calls"
_OWN = "connector_core"

_NOT_ON_A_TERMINAL = frozenset({"connector", "task_type", "trace_id", "span_id"})
_IN_A_CALLS_MESSAGE = _NOT_ON_A_TERMINAL | {"operation", "status", "reference"}
_SOURCE_WIDTH = 14

_RESET, _DIM, _BOLD, _CYAN, _GREEN, _YELLOW, _RED = (f"\x1b[{code}m" for code in (0, 2, 1, 36, 32, 33, 31))
_LEVELS = {"debug": _DIM, "info": _GREEN, "warning": _YELLOW, "error": _RED, "critical": _BOLD + _RED}


def coloured_lines(scrubber: Scrubber, plugin_of: PluginOf, *, colours: bool) -> Callable[[Entry], str]:
    """Return what renders a line for a terminal, with what belongs to it indented below; as `json_lines` otherwise."""
    dim, cyan, reset = (_DIM, _CYAN, _RESET) if colours else ("", "", "")

    def column(style: str, width: int = 0) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(None, style, reset, value_repr=str, width=width)

    def coloured(key: str, value: object) -> str:  # noqa: ARG001 - structlog's signature
        return f"{_LEVELS.get(str(value), '') if colours else ''}{value:<8}{reset}"

    console = ConsoleRenderer(
        sort_keys=False,
        columns=[
            Column("timestamp", column(dim)),
            Column("level", coloured),
            Column("source", column(cyan, _SOURCE_WIDTH)),
            Column("event", column("")),
            Column("", KeyValueColumnFormatter(dim, dim, reset, value_repr=_shown)),
        ],
    )

    def render(entry: Entry) -> str:
        about = subject(entry, plugin_of)
        fields = {str(name): value for name, value in (about | dict(entry.fields)).items()}
        source = fields.pop("plugin", "") or ("host" if entry.logger.startswith(_OWN) else entry.logger)
        hidden = _IN_A_CALLS_MESSAGE if entry.logger == CALLS else _NOT_ON_A_TERMINAL
        fields = {name: value for name, value in fields.items() if name not in hidden}
        if (took := fields.pop("milliseconds", None)) is not None:
            fields = {"took": f"{took:,.1f} ms"} | fields
        first, *further = scrubber.scrub(entry.event.rstrip()).split("\n")
        line = {
            "timestamp": entry.time.astimezone().strftime("%H:%M:%S"),
            "level": level(entry),
            "source": source,
            "event": first,
            **{
                name: value
                for name, value in scrubber.scrub(fields).items()
                if name not in {"event", "level", "source"}
            },
        }
        below = further + scrubber.scrub(behind(entry)).splitlines()
        return "".join([console(None, "", line).rstrip(), *(f"\n    {dim}{text}{reset}" for text in below)])

    return render


def _shown(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else repr(value)
