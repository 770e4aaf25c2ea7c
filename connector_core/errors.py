"""Errors: each says whose fault it is and whether a retry can help; nothing here is about gRPC.

Connector authors raise the errors below `PermanentError` and `TransientError`. A failure is permanent only when it says
so: whatever else a plugin raises counts as transient, since a backend's hiccup can surface as any exception.
"""

from enum import StrEnum
from http import HTTPStatus
from typing import ClassVar


class Fault(StrEnum):
    """The party at fault for a failure."""

    CALLER = "caller"
    PLUGIN = "plugin"
    BACKEND = "backend"
    HOST = "host"


class InPoll(StrEnum):
    """The answer to a GetTask that fails: the engine counts failed polls, and gives a job up after six."""

    RIDDEN_OUT = "ridden out"
    """The last known phase is answered, while the error budget lasts."""
    FAILS_JOB = "fails the job"
    """The job is answered as FAILED: the error says that it has failed, or can never end."""
    ANSWERED = "answered"
    """The error itself is answered: it is about the request or the plugin, and says nothing of the job."""


class ConnectorError(Exception):
    """The root of everything that this package raises on purpose.

    `message` is shown to people; `error_code` is a short machine-readable code that reaches the workflow's author;
    `plugin` and `operation` name the culprit and are filled in by the host where the author does not.
    """

    fault: ClassVar[Fault] = Fault.BACKEND
    retryable: ClassVar[bool] = True
    in_poll: ClassVar[InPoll] = InPoll.RIDDEN_OUT

    # For subclasses of authors whose `__init__` does not call this one.
    message: str = ""
    error_code: str | None = None
    plugin: str | None = None
    operation: str | None = None

    def __init__(
        self,
        message: str = "",
        *,
        error_code: str | None = None,
        plugin: str | None = None,
        operation: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = str(message)  # authors also pass the exception that they caught
        self.error_code = error_code
        self.plugin = plugin
        self.operation = operation

    def __str__(self) -> str:
        return self.message


class PermanentError(ConnectorError):
    """Trying again cannot help: the job has failed, or can never be started."""

    retryable = False
    in_poll = InPoll.FAILS_JOB


class InvalidInputError(PermanentError):
    """The task's inputs, template or configuration cannot be used."""

    fault = Fault.CALLER


class PermissionDeniedError(PermanentError):
    """The external system does not allow this."""

    fault = Fault.CALLER


class RiskNotAllowedError(PermissionDeniedError):
    """Callers can misuse the connector, and the operator has not named it in the setting `allow_risks`."""

    in_poll = InPoll.RIDDEN_OUT  # the operator can change that while jobs run


class JobNotFoundError(PermanentError):
    """The external system does not know this job (any more)."""


class TransientError(ConnectorError):
    """Trying again later can help."""


class BackendUnavailableError(TransientError):
    """The external system cannot be reached or cannot answer now."""


class RateLimitedError(TransientError):
    """The external system asks for fewer calls; `retry_after` is in seconds, `None` where it did not say."""

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        error_code: str | None = None,
        plugin: str | None = None,
        operation: str | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, plugin=plugin, operation=operation)
        self.retry_after = retry_after


class InvalidRequestError(InvalidInputError):
    """A request is malformed: bytes that are not a message, a message that lacks what it needs."""

    in_poll = InPoll.ANSWERED


class InvalidResourceMetaError(InvalidRequestError):
    """A resource meta does not describe a job of this connector; `field` names what is wrong with it."""

    def __init__(self, message: str = "", *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class LiteralError(InvalidInputError):
    """A literal has no Python value here, or a Python value no literal."""


class OffloadedLiteralError(LiteralError):
    """A literal's value was stored elsewhere by the engine; `uri` says where."""

    def __init__(self, message: str = "", *, uri: str = "") -> None:
        super().__init__(message)
        self.uri = uri


class NotRegisteredError(PermanentError):
    """Nothing on this host serves what was asked for."""

    fault = Fault.CALLER


class UnsupportedOperationError(PermanentError):
    """The connector does not have this operation."""

    fault = Fault.CALLER
    in_poll = InPoll.ANSWERED


class PluginCallError(TransientError):
    """Plugin code raised something that is not a `ConnectorError` (it is the `__cause__`), or gave an illegal answer."""

    fault = Fault.PLUGIN


class IllegalAnswerError(PluginCallError):
    """Plugin code answered nothing, another type, a phase that does not exist: asking again would give it again."""

    retryable = False
    in_poll = InPoll.ANSWERED


class MemoryUnavailableError(TransientError):
    """The job memory cannot be reached."""

    fault = Fault.HOST


class ConnectorNotStartedError(BackendUnavailableError):
    """The connector's `start()` has not succeeded (yet)."""


class DeadlineExceededError(TransientError):
    """A call took longer than its caller or the host allows."""


class CapacityExceededError(TransientError):
    """A connector has as many calls in hand as it is allowed."""

    fault = Fault.HOST


class SecretNotFoundError(TransientError):
    """A secret is in none of the places where deployments mount them; the operator can mend that while tasks wait."""

    fault = Fault.HOST


class SetupError(ConnectorError):
    """The host cannot be put together as asked, or be kept up: raised before anything is served, or when that has ended."""

    fault = Fault.HOST
    retryable = False


class SettingsError(SetupError):
    """A setting is unknown or has an impossible value."""


class PluginLoadError(SetupError):
    """A plugin cannot be loaded or brings something that cannot be served."""

    fault = Fault.PLUGIN


class InvalidConnectorError(PluginLoadError):
    """A connector cannot be served as it is written."""


class ConflictError(SetupError):
    """Two plugins claim the same name or task category."""


class AddressInUseError(SetupError):
    """A port that the host should listen on is taken."""


class ServingEndedError(SetupError):
    """gRPC is no longer served, although nobody asked the host to stop."""


# Timeout, conflict, locked, too early, too many requests: another try may find the backend in another state.
_PASSING = frozenset({408, 409, 423, 425, 429})


def permanent_http_error(error: BaseException) -> PermanentError | None:
    """Return what an HTTP client's exception means where trying again cannot help; `None` for any other exception.

    httpx, requests, aiohttp, urllib and the SDKs built on them carry the answer's status, 400 to 499 of which say that the
    request is invalid as it is.
    """
    status = _http_status(error)
    if status is None or not 400 <= status <= 499 or status in _PASSING:
        return None
    kind = PermissionDeniedError if status in {401, 403} else InvalidInputError
    return kind(f"{type(error).__name__}: {error}", error_code=f"HTTP{status}")


def _http_status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    for holder, name in ((response, "status_code"), (response, "status"), (error, "status_code"), (error, "status")):
        status = getattr(holder, name, None)
        if isinstance(status, int):
            return status
    code = getattr(error, "code", None)
    return int(code) if isinstance(code, HTTPStatus) else None
