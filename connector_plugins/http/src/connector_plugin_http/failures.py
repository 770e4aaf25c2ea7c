"""Failures of backends' answers: whose fault each is, and whether trying again can help."""

import email.utils
import time
from collections.abc import Callable

from connector_core import (
    BackendUnavailableError,
    ConnectorError,
    InvalidInputError,
    JobNotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    TransientError,
)
from connector_plugin_http.picking import Answer, pick_json

LONGEST_PAUSE = 300.0
_LONGEST_REASON = 500
_REASONS = (
    "message",
    "error.message",
    "error_description",
    "detail",
    "title",
    "error",
    "status.user_message",
    "errors[0].message",
)
_PASSING = frozenset({408, 425, 500, 502, 503, 504})


def failure_of(what: str, answer: Answer, *, is_of_job: bool = False) -> ConnectorError:
    """Return the error that an answer stands for.

    Args:
        what: the request, for the message.
        answer: its answer, which is not a success.
        is_of_job: it was about a job that has been started: nothing that an operator can mend makes that fail.
    """
    message = f"{what}: HTTP {answer.status}{reason_of(answer)}"
    code = f"HTTP{answer.status}"
    pause = retry_after(answer)
    if answer.status == 429 or (answer.status == 503 and pause is not None):
        return RateLimitedError(message, retry_after=pause, error_code=code)
    if answer.status in _PASSING:
        return BackendUnavailableError(message, error_code=code)
    if answer.status in {401, 403, 407}:
        kind: type[ConnectorError] = TransientError if is_of_job else PermissionDeniedError
        return kind(message, error_code=code)
    if is_of_job:
        return (JobNotFoundError if answer.status in {404, 410} else TransientError)(message, error_code=code)
    return InvalidInputError(message, error_code=code)


def reason_of(answer: Answer) -> str:
    """Return the backend's own words, in one line after a colon; nothing where it has none."""
    try:
        body = answer.json
    except BackendUnavailableError:
        body = None
    found = next((text for path in _REASONS if isinstance(text := pick_json(body, path), str) and text.strip()), "")
    text = " ".join((found or answer.text).split())
    if not text:
        return ""
    return f": {text[:_LONGEST_REASON]}{'...' if len(text) > _LONGEST_REASON else ''}"


def retry_after(answer: Answer, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds after which the backend wants to be asked again; None where it does not say."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isdecimal() and text.isascii():
        return min(float(text[:9]), LONGEST_PAUSE)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return min(max(at.timestamp() - now(), 0.0), LONGEST_PAUSE)
