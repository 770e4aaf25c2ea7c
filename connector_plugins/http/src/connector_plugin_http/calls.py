"""The connectors of single calls: `http_call`, and `webhook` as flytekit has it."""

import datetime as dt
import re
import string
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import (
    BackendUnavailableError,
    ConnectorError,
    InvalidInputError,
    PermissionDeniedError,
    Phase,
    Resource,
    SyncConnectorBase,
)
from connector_plugin_http.client import NotSentError, Request
from connector_plugin_http.config import Endpoint, HttpConfig
from connector_plugin_http.custom import custom_of
from connector_plugin_http.endpoints import Endpoints
from connector_plugin_http.failures import failure_of
from connector_plugin_http.picking import Answer
from connector_plugin_http.rendering import render_body, render_path, render_text, to_json

CALL_KEYS = ("endpoint", "method", "path", "query", "headers", "body", "values")
WEBHOOK_KEYS = ("url", "method", "headers", "data", "show_data", "show_url", "timeout_sec")
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"})

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NEVER_THE_CALLERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade"}
    | {"proxy-authorization", "proxy-connection", "expect", "accept-encoding", "idempotency-key"}
)
_UNREPEATABLE = frozenset({"POST", "PATCH"})


class _Calls(SyncConnectorBase):
    """The common part of both kinds of calls: sending, and the outcome."""

    def __init__(self, config: HttpConfig, endpoints: Endpoints | None = None) -> None:
        self._config = config
        self._endpoints = endpoints or Endpoints(config)

    async def close(self) -> None:
        """Close all connections."""
        await self._endpoints.close()

    async def _send(self, name: str, request: Request, key: str | None) -> Answer | Resource:
        """Send the request; a `Resource` is what an answer that is not a success comes to.

        Raises:
            ConnectorError: it can be sent again, or will never do.
        """
        if key:
            request = msgspec.structs.replace(request, headers={**request.headers, "Idempotency-Key": key})
        is_repeatable = request.method not in _UNREPEATABLE
        try:
            answer = await self._endpoints.client(name).send(request)
        except NotSentError:
            raise
        except BackendUnavailableError as error:
            if is_repeatable:
                raise
            return _uncertain(error)
        if 200 <= answer.status < 300:
            return answer
        failure = failure_of(f"{request.method} at endpoint {name}", answer)
        if failure.retryable and answer.status not in {429, 503} and not is_repeatable:
            return _uncertain(failure)
        raise failure


class HttpCallConnector(_Calls):
    """Serves `http_call`: one request to an endpoint, its answer in the outputs `status_code`, `text` and `json`.

    Args:
        config: the operator's section `[plugins.http]`.
        endpoints: the endpoints' clients; made from `config` unless given.
    """

    name = "HTTP calls"
    task_type_name = "http_call"

    async def do(self, task_template: TaskTemplate, inputs: Mapping[str, Any], idempotency_key: str | None) -> Resource:
        """Send the request and answer with what came back."""
        custom = custom_of(task_template, CALL_KEYS)
        name, endpoint = self._endpoints.named(custom.get("endpoint"))
        values = {key: to_json(key, value) for key, value in {**_table(custom, "values"), **inputs}.items()}
        request = Request(
            _method(custom.get("method") or "GET"),
            path=render_path(_path(custom.get("path") or ""), values),
            query=_texts(_table(custom, "query"), values),
            headers=checked_headers(_texts(_table(custom, "headers"), values), name, endpoint),
            body=render_body(custom["body"], values) if custom.get("body") is not None else None,
        )
        _check_allowed(request, name, endpoint)
        answer = await self._send(name, request, idempotency_key)
        if isinstance(answer, Resource):
            return answer
        declared = task_template.interface.outputs.variables if task_template.HasField("interface") else None
        return Resource(Phase.SUCCEEDED, outputs=_outputs_of(answer, declared), message=f"HTTP {answer.status}")


class WebhookConnector(_Calls):
    """Serves `webhook`, as flytekit's WebhookTask writes it; the host in its URL chooses the endpoint.

    Args:
        config: the operator's section `[plugins.http]`.
        endpoints: the endpoints' clients; made from `config` unless given.
    """

    name = "HTTP webhooks"
    task_type_name = "webhook"

    async def do(self, task_template: TaskTemplate, inputs: Mapping[str, Any], idempotency_key: str | None) -> Resource:
        """Send the request and answer with `info`, the status and the text that came back."""
        custom = custom_of(task_template, WEBHOOK_KEYS)
        url = format_url(str(custom.get("url") or ""), inputs)
        name, endpoint = self._inline(url)
        method = _method(custom.get("method") or "POST")
        data = format_values(custom.get("data") or {}, inputs)
        headers = format_values(_table(custom, "headers"), inputs)
        # As flytekit does: the data of a GET is its query, that of anything else its body.
        is_query = method in {"GET", "HEAD"}
        request = Request(
            method,
            target=self._endpoints.client(name).own_target(url, "the URL is"),
            query={key: str(value) for key, value in data.items()} if is_query and isinstance(data, dict) else {},
            headers=checked_headers({key: str(value) for key, value in headers.items()}, name, endpoint),
            body=None if is_query else data,
            timeout=_seconds(custom.get("timeout_sec")),
        )
        answer = await self._send(name, request, idempotency_key)
        if isinstance(answer, Resource):
            return answer
        info: dict[str, Any] = {"status_code": answer.status, "response_data": answer.text}
        if custom.get("show_data"):
            info["input_data"] = data
        if custom.get("show_url"):
            info["url"] = url
        return Resource(Phase.SUCCEEDED, outputs={"info": info}, message="Webhook was successfully invoked!")

    def _inline(self, url: str) -> tuple[str, Endpoint]:
        try:
            host = (urlsplit(url).hostname or "").lower()
        except ValueError:
            host = ""
        if not host:
            raise InvalidInputError(f"{url[:200]!r} is not a URL with a host")
        name = next((name for known, name in self._config.inline.items() if known.lower() == host), None)
        if name is None:
            raise PermissionDeniedError(
                f"calls to {host} are not allowed here; the operator allows them by an endpoint whose `url` is there, and "
                f'the line `"{host}" = "ENDPOINT"` in [plugins.http.inline]',
                error_code="HostNotAllowed",
            )
        return name, self._config.endpoints[name]


def checked_headers(headers: Mapping[str, str], name: str, endpoint: Endpoint) -> dict[str, str]:
    """Return a caller's headers.

    Raises:
        InvalidInputError: one is malformed, or one that the endpoint or the client sets.
    """
    for header, value in headers.items():
        if not _HEADER.fullmatch(header):
            raise InvalidInputError(f"{header[:80]!r} is not the name of a header")
        if not value.isascii() or not value.isprintable():
            raise InvalidInputError(f"header {header!r} has characters that a header cannot have")
        if header.lower() in _NEVER_THE_CALLERS or header.lower() in endpoint.has_credentials:
            raise InvalidInputError(f"header {header!r} is not for tasks to set; it comes from endpoint {name!r}")
    return dict(headers)


def format_values(value: Any, inputs: Mapping[str, Any]) -> Any:
    """Fill `{inputs.NAME}` into all texts of a value, as flytekit does for a webhook's parameters.

    Raises:
        InvalidInputError: there is no such input.
    """
    if isinstance(value, str):
        return _format(value, inputs, lambda text, _: text)
    if isinstance(value, dict):
        return {key: format_values(item, inputs) for key, item in value.items()}
    if isinstance(value, list):
        return [format_values(item, inputs) for item in value]
    return value


def format_url(url: str, inputs: Mapping[str, Any]) -> str:
    """Fill `{inputs.NAME}` into a URL: an input that is not the URL's beginning is data in it, and cannot change its form.

    Raises:
        InvalidInputError: there is no such input.
    """
    return _format(url, inputs, lambda text, place: text if place == 0 else quote(text, safe="/:@"))


def _format(template: str, inputs: Mapping[str, Any], place_in: Any) -> str:
    parts: list[str] = []
    try:
        for literal, name, _spec, _conversion in string.Formatter().parse(template):
            parts.append(literal)
            if name is not None:
                parts.append(place_in(_input(name, inputs), sum(map(len, parts))))
    except ValueError as error:
        raise InvalidInputError(f"{template[:200]!r} is not a format: {error}") from None
    return "".join(parts)


def _input(name: str, inputs: Mapping[str, Any]) -> str:
    key = name.removeprefix("inputs.")
    if key == name or key not in inputs:
        known = ", ".join(f"inputs.{known}" for known in sorted(inputs)) or "none"
        raise InvalidInputError(f"{{{name}}} is not an input; there are: {known}")
    value = inputs[key]
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    return str(to_json(key, value))


def _uncertain(error: ConnectorError) -> Resource:
    """Tell of a request that must not be sent twice and may have had its effect: the task's own retries decide."""
    return Resource(
        Phase.RETRYABLE_FAILED,
        message=f"{error}; it may have had its effect, so only the task's own retries send it again",
        error_code=error.error_code or "Uncertain",
    )


def _check_allowed(request: Request, name: str, endpoint: Endpoint) -> None:
    for pattern in endpoint.calls:
        method, path = pattern.split(" ", 1)
        if method in {"*", request.method} and fnmatchcase(request.path, path):
            return
    allowed = ", ".join(endpoint.calls) or "none"
    raise PermissionDeniedError(
        f"{request.method} {request.path or '/'} is not a call that tasks may make at endpoint {name!r}; they may: {allowed}. "
        f'The operator decides, by `calls = ["{request.method} {request.path or "/"}"]` in [plugins.http.endpoints.{name}]',
        error_code="CallNotAllowed",
    )


def _outputs_of(answer: Answer, declared: Any) -> dict[str, Any]:
    outputs: dict[str, Any] = {"status_code": answer.status, "text": answer.text}
    if declared is None or "json" in declared:
        try:
            outputs["json"] = answer.json
        except ConnectorError as error:
            if declared is not None:
                raise InvalidInputError(f"output 'json' is declared, but {error}") from None
    names = outputs if declared is None else declared
    return {name: value for name, value in outputs.items() if name in names and value is not None}


def _method(method: object) -> str:
    text = str(method).upper()
    if text not in METHODS:
        raise InvalidInputError(f"method is {method!r}; methods are {', '.join(sorted(METHODS))}")
    return text


def _path(path: object) -> str:
    if not isinstance(path, str) or (path and not path.startswith("/")) or "?" in path or "#" in path:
        raise InvalidInputError(f"path is {path!r}; it begins with a slash, and a query is said by `query`")
    return path


def _table(custom: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = custom.get(key) or {}
    if not isinstance(table, dict):
        raise InvalidInputError(f"custom.{key} is not a table but {str(table)[:80]!r}")
    return table


def _texts(table: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: render_text(str(value), values) for name, value in table.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
