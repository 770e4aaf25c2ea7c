"""A record of Python's `logging` as a line's fields, taken where it is logged."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from connector_core.hostlog.redaction import cut, without_secrets
from connector_core.observing.call_records import Subject, current_subject

_OF_ANY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OF_STRUCTLOG = frozenset({"_logger", "_name", "_record", "_from_structlog"})


class Entry(NamedTuple):
    """One line to be.

    Attributes:
        created: when, in seconds since the epoch.
        level: as `logging` numbers them.
        logger: the logger's name.
        event: the message.
        subject: what the code that logged was about.
        fields: what was logged beside the message; plain values, without those under names of secrets.
        exc_info: the error whose traceback belongs to the line.
        stack: the stack that was asked for.
    """

    created: float
    level: int
    logger: str
    event: str
    subject: Subject | None
    fields: Mapping[str, Any]
    exc_info: BaseException | None
    stack: str

    @property
    def weight(self) -> int:
        """Roughly the bytes that it takes while it waits."""
        return 400 + len(self.event) + 100 * len(self.fields)

    @property
    def time(self) -> datetime:
        """The time, in UTC."""
        return datetime.fromtimestamp(self.created, UTC)


def entry_of(record: logging.LogRecord, more: Mapping[str, str]) -> Entry:
    """Return what is to be written of a record, with more fields.

    What may change until then is copied, what takes long left for later.
    """
    fields = {name: value for name, value in vars(record).items() if name not in _OF_ANY_RECORD}
    error, stack = record.exc_info[1] if record.exc_info else None, record.stack_info or ""
    if isinstance(record.msg, Mapping) and "_logger" in fields:  # of structlog, which the stream leads here
        fields |= record.msg
        event, stack = _text(fields.pop("event", "")), _text(fields.pop("stack", stack))
        error = _error_of(fields.pop("exc_info", None)) or error
    else:
        event = _message(record)
    fields = {name: value for name, value in fields.items() if name not in _OF_STRUCTLOG}
    return Entry(
        created=record.created,
        level=record.levelno,
        logger=record.name,
        event=cut(event),
        subject=current_subject(),
        fields={**more, **without_secrets(fields)} if fields else more,
        exc_info=error,
        stack=stack,
    )


def _message(record: logging.LogRecord) -> str:
    if not record.args:
        return _text(record.msg)
    args = without_secrets(record.args, keeps_others=True)
    try:
        text: str = str(record.msg) % args
        return text
    except Exception as error:  # noqa: BLE001 - authors' arguments and their printing; the line must not get lost
        return f"{_text(record.msg)} (its arguments cannot be put in: {type(error).__name__})"


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - as above
        return f"(a {type(value).__name__} that cannot be printed: {type(error).__name__})"


def _error_of(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    return exc_info if isinstance(exc_info, BaseException) else None
