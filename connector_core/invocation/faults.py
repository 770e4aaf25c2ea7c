"""Exceptions of plugin code, as `ConnectorError`s that name plugin and operation."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, TypeVar

from connector_core import errors
from connector_core.errors import (
    ConnectorError,
    DeadlineExceededError,
    Fault,
    InPoll,
    PluginCallError,
    RateLimitedError,
)
from connector_core.texts import main_thread_hint, writable

T = TypeVar("T")
Scrub = Callable[[str], str]
"""Takes secrets out of a text; it is called where plugin code runs, in whatever thread."""

_LONGEST_TEXT = 16 * 1024
_LONGEST_CHAIN = 10


def translate(error: BaseException, plugin: str, operation: str, scrub: Scrub) -> ConnectorError:
    """Return the `ConnectorError` for what plugin code raised, with the culprit's name on it, and no secret in its text.

    An author's exception is the author's code as well: printing it may raise, exit or take its time, and its attributes
    may hold anything. So this runs where plugin code runs, never raises, and leaves nothing of that to the code that answers.
    What it returns is never the author's own object, which other calls and other connectors may raise at the same time.
    """
    _try(lambda: _shorten(error, scrub), None)
    if isinstance(error, ConnectorError):
        translated = _try(lambda: _copy(error, scrub), None) or _sound_copy(error, scrub)
    elif isinstance(error, asyncio.CancelledError):
        translated = _caused(PluginCallError("the plugin cancelled its own call"), error, scrub)
    elif isinstance(error, SystemExit):
        code = _text(lambda: repr(error.code))
        translated = _caused(PluginCallError(f"the plugin called sys.exit({code})"), error, scrub)
    else:
        translated = _caused(PluginCallError(described(error)), error, scrub)
    translated.plugin = plugin
    translated.operation = operation
    return translated


def described(error: BaseException) -> str:
    """Return an exception's type and text, whatever printing it does, and the reason where only the main thread could."""
    text = f"{type(error).__name__}: {_text(lambda: str(error))}"
    hint = main_thread_hint(text)
    return f"{text}; {hint}" if hint else text


def too_late(plugin: str, operation: str) -> DeadlineExceededError:
    """Return the error for a call that did not finish in time."""
    return DeadlineExceededError("did not finish before its deadline", plugin=plugin, operation=operation)


def _caused(error: ConnectorError, cause: BaseException, scrub: Scrub) -> ConnectorError:
    _is_scrubbed(error, scrub)
    error.__cause__ = cause
    return error


def _is_scrubbed(error: ConnectorError, scrub: Scrub) -> bool:
    """Take secrets out of what goes over the wire; return whether the error has let that happen."""
    message, code = scrub(error.message), error.error_code and scrub(error.error_code)
    if (message, code) != (error.message, error.error_code):
        error.message, error.error_code = message, code
    return (error.message, error.error_code) == (message, code)


def _shorten(error: BaseException, scrub: Scrub) -> None:
    """Cut the texts of an exception and of those behind it: backends answer whole pages, and all would be logged."""
    behind: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if behind is None:
            return
        if len(text := str(behind)) > _LONGEST_TEXT:
            behind.args = (_writable(scrub(text[: 2 * _LONGEST_TEXT])),)  # first, lest a cut leave half a secret
            if isinstance(behind, ConnectorError):
                behind.message = behind.args[0]
        behind = behind.__cause__ or behind.__context__


def _copy(error: ConnectorError, scrub: Scrub) -> ConnectorError | None:
    """Copy an author's error as it is; return `None` where what the host reads of it is not what it should be."""
    cls: type[ConnectorError] = type(error)
    copy: ConnectorError = BaseException.__new__(cls)
    copy.args = error.args
    vars(copy).update(vars(error))
    if not (_is_sound(copy) and _is_scrubbed(copy, scrub)):
        return None
    copy.__cause__ = error.__cause__
    copy.__traceback__ = error.__traceback__
    error.__traceback__ = None  # else an error that is raised again and again keeps the frames of each time
    return copy


def _is_sound(error: ConnectorError) -> bool:
    """Return whether all that the host reads of an error is what it should be, and may be set."""
    error.plugin = error.operation = None
    message, code, delay = (
        _attribute(error, "message"),
        _attribute(error, "error_code"),
        _attribute(error, "retry_after"),
    )
    return (
        type(error).__str__ is ConnectorError.__str__
        and isinstance(message, str)
        and message == _writable(message)
        and (code is None or (isinstance(code, str) and code == _writable(code)))
        and isinstance(_attribute(error, "fault"), Fault)
        and isinstance(_attribute(error, "retryable"), bool)
        and isinstance(_attribute(error, "in_poll"), InPoll)
        and (not isinstance(error, RateLimitedError) or (hasattr(error, "retry_after") and _is_delay(delay)))
    )


def _sound_copy(error: ConnectorError, scrub: Scrub) -> ConnectorError:
    """Make an error of our own that says what the author's says, as far as it can be read."""
    own = next(cls for cls in type(error).__mro__ if cls.__module__ == errors.__name__)
    copy: ConnectorError = BaseException.__new__(own)
    name = type(error).__name__
    texts = (_try(lambda: _writable(error.message), ""), _try(lambda: _writable(str(error)), ""))
    copy.message = next(filter(None, texts), name)
    code = _try(lambda: error.error_code, None)
    copy.error_code = _text(lambda: str(code)) if code else name.removesuffix("Error")
    if isinstance(copy, RateLimitedError):
        delay = _try(lambda: float(_attribute(error, "retry_after")), None)
        copy.retry_after = delay if _is_delay(delay) else None
    return _caused(copy, error, scrub)


def _attribute(error: ConnectorError, name: str) -> Any:
    """Return what may be anything, whatever the class declares."""
    return getattr(error, name, None)


def _is_delay(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not math.isnan(value))


def _text(read: Callable[[], str]) -> str:
    return _try(lambda: _writable(read()), "(it cannot be printed)")


def _writable(text: str) -> str:
    """Return a text as it can be written, without the lone surrogates of file names that are not UTF-8, and not too long."""
    if len(text) > _LONGEST_TEXT:
        text = f"{text[: _LONGEST_TEXT - 3]}..."
    return writable(text)


def _try(read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except BaseException:  # noqa: BLE001 - it is the author's code
        return otherwise
