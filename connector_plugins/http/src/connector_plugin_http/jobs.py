"""One kind of job at one endpoint: what its recipe says, sent and understood."""

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from connector_core import (
    BackendUnavailableError,
    InvalidInputError,
    JobNotFoundError,
    LogLink,
    PermissionDeniedError,
    Phase,
    Resource,
    ResourceMeta,
    TransientError,
)
from connector_core.errors import UnsupportedOperationError
from connector_plugin_http.client import Client, NotSentError, Request
from connector_plugin_http.failures import failure_of
from connector_plugin_http.picking import Answer, first_of, identifier, pick, pick_json
from connector_plugin_http.recipes import Call, Listing, Logs, Recipe
from connector_plugin_http.rendering import MissingValueError, names_in, render_body, render_path, render_text

RESERVED = frozenset({"key", "id", "offset", "token"})
"""Names of values that recipes fill in themselves."""

REPEAT_PAUSES = (0.2, 1.0)
"""Seconds before a create whose answer was lost is repeated."""

_LONGEST_WORD = 200

log = logging.getLogger(__name__)


class ListingRefusedError(Exception):
    """The backend refuses to list jobs, so they are asked about one by one."""


@dataclass
class HttpMeta(ResourceMeta):
    """A job: the endpoint's and the recipe's names, the backend's id, and the values that its requests need."""

    endpoint: str
    recipe: str
    id: str | int
    values: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] | None = None


class Jobs:
    """The jobs of one recipe at one endpoint."""

    def __init__(self, client: Client, name: str, recipe: Recipe) -> None:
        self._client = client
        self._name = name
        self._recipe = recipe
        later = [recipe.status, recipe.cancel, recipe.logs, recipe.listing]
        self._kept = set().union(*(_names(call) for call in later if call is not None)) - RESERVED

    @property
    def listing(self) -> Listing | None:
        """The number of jobs in one status request, where the backend allows several."""
        return self._recipe.listing

    async def create(self, values: Mapping[str, Any], outputs: list[str] | None, key: str | None) -> HttpMeta:
        """Start a job, or find the one that was started for this key.

        Raises:
            ConnectorError: it was not started, or whether it was is not known: then a repeat with the same key finds it.
        """
        found = await self._started({**values, "key": key or uuid.uuid4().hex})
        kept = {name: values[name] for name in sorted(self._kept & set(values))}
        return HttpMeta(self._client.name, self._name, found, kept, outputs)

    async def _started(self, values: Mapping[str, Any]) -> str | int:
        """Find or start the job, and do so again with the same key where the answer was lost.

        An engine would try again with the next attempt's key, and the job that was started would run on unknown.
        """
        pauses = iter(REPEAT_PAUSES)
        while True:
            try:
                found = await self._find(values)
                return await self._start(values) if found is None else found
            except NotSentError:
                raise
            except BackendUnavailableError:
                pause = next(pauses, None)
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    async def _find(self, values: Mapping[str, Any]) -> str | int | None:
        find = self._recipe.find
        if find is None:
            return None
        answer = await self._ask(find, values, is_of_job=False)
        items = pick(answer, find.items)
        for item in items if isinstance(items, list) else []:
            if values["key"] in str(pick_json(item, find.match) or "").split():
                return identifier(pick_json(item, find.id))
        return None

    async def _start(self, values: Mapping[str, Any]) -> str | int:
        create = self._recipe.create
        request = request_of(create, values)
        # `Idempotency-Key` costs nothing where it is not known, and makes a repeat harmless where it is.
        headers = {"Idempotency-Key": values["key"], **request.headers}
        answer = await self._client.send(msgspec.structs.replace(request, headers=headers))
        if answer.status in create.exists:
            return self._known_id(values) if create.known_id else self._id_in(answer)
        if not 200 <= answer.status < 300:
            raise failure_of(f"create at endpoint {self._client.name}", answer)
        return self._id_in(answer)

    def _known_id(self, values: Mapping[str, Any]) -> str | int:
        return identifier(render_text(self._recipe.create.known_id, values))

    def _id_in(self, answer: Answer) -> str | int:
        paths = self._recipe.create.id
        if "@location" in paths and answer.headers.get("location"):
            answer = msgspec.structs.replace(answer, location=self._client.target_of(answer))
        found = first_of(answer, paths)
        if found is None:
            raise BackendUnavailableError(
                f"create at endpoint {self._client.name}: answer {answer.status} has no id at {' or '.join(paths)}"
            )
        return identifier(found)

    async def get(self, meta: HttpMeta) -> Resource:
        """Ask for a job's state.

        Raises:
            JobNotFoundError: the backend does not know it.
            TransientError: its state cannot be told now.
        """
        answer = await self._ask(self._recipe.status, values_of(meta))
        if self._recipe.item:
            item = pick(answer, self._recipe.item)
            if item is None:
                raise BackendUnavailableError(
                    f"endpoint {meta.endpoint}: the answer has nothing at {self._recipe.item}"
                )
            answer = msgspec.structs.replace(answer, body=msgspec.json.encode(item))
        return self.read(answer, meta)

    def read(self, answer: Answer, meta: HttpMeta) -> Resource:
        """Return the state that an answer, or an item of a list, is about.

        Raises:
            BackendUnavailableError: it has none.
        """
        recipe = self._recipe
        word = first_of(answer, recipe.state)
        if word is None or isinstance(word, dict | list):
            raise BackendUnavailableError(
                f"endpoint {meta.endpoint}: answer {answer.status} has no state at {' or '.join(recipe.state)}"
            )
        phase = recipe.phase_of(word)
        shown = str(word)[:_LONGEST_WORD]
        reason = first_of(answer, recipe.message) if recipe.message and answer.status not in {204, 304} else None
        message = f"{shown}: {str(reason)[:2000]}" if isinstance(reason, str) else shown
        if phase is None:
            phase = Phase[recipe.unknown]
            message = f"state {shown!r} is not known to recipe {meta.recipe!r} and is taken for {phase.name}"
        link = pick(answer, recipe.link) if recipe.link else None
        return Resource(
            phase,
            outputs=self._outputs(answer, meta) if phase is Phase.SUCCEEDED else None,
            message=message,
            log_links=[LogLink(meta.endpoint, link)] if isinstance(link, str) and link.startswith("http") else (),
            error_code=shown if phase in {Phase.FAILED, Phase.RETRYABLE_FAILED} else None,
        )

    def _outputs(self, answer: Answer, meta: HttpMeta) -> dict[str, Any] | None:
        names = meta.outputs if meta.outputs is not None else list(self._recipe.outputs)
        found = {name: pick(answer, self._recipe.outputs[name]) for name in names if name in self._recipe.outputs}
        return {name: value for name, value in found.items() if value is not None} or None

    def check_outputs(self, names: Sequence[str]) -> None:
        """Refuse outputs that the recipe does not bring.

        Raises:
            InvalidInputError: naming those that it does.
        """
        if unknown := sorted(set(names) - set(self._recipe.outputs)):
            known = ", ".join(self._recipe.outputs) or "none"
            raise InvalidInputError(f"recipe {self._name!r} has no outputs {', '.join(unknown)}; it has: {known}")

    async def cancel(self, meta: HttpMeta) -> None:
        """Have a job cancelled; one that is over or gone already is none to cancel.

        Raises:
            TransientError: whether it will be cancelled is not known.
        """
        cancel = self._recipe.cancel
        if cancel is None:
            log.warning("job cannot be cancelled: recipe %r has no `cancel`; job %s runs on", self._name, meta.id)
            return
        answer = await self._send_about_job(request_of(cancel, values_of(meta)))
        if not 200 <= answer.status < 300 and answer.status not in cancel.over:
            raise failure_of(f"cancel at endpoint {meta.endpoint}", answer, is_of_job=True)

    async def log_text(self, meta: HttpMeta) -> str:
        """Return a job's log as it is now.

        Raises:
            UnsupportedOperationError: the recipe has none, or needs a value that the task did not give.
        """
        logs = self._recipe.logs
        if logs is None:
            raise UnsupportedOperationError(f"recipe {self._name!r} of endpoint {meta.endpoint} has no logs")
        try:
            answer = await self._ask(logs, values_of(meta))
        except MissingValueError as error:
            raise UnsupportedOperationError(f"the log of a job of recipe {self._name!r} needs it: {error}") from None
        except JobNotFoundError:  # where a log appears only when there is something in it
            return ""
        return _as_text(answer, logs)

    async def page(self, meta: HttpMeta, offset: int, token: str) -> Answer:
        """Ask for a page of the list of jobs.

        Raises:
            ListingRefusedError: the backend does not list them; what it says of the list it does not say of a job.
            TransientError: it does not do so now.
        """
        assert self._recipe.listing is not None  # noqa: S101 - its callers have looked
        request = request_of(self._recipe.listing, {**meta.values, "offset": offset, "token": token or None})
        answer = await self._send_about_job(request)
        if 200 <= answer.status < 300:
            return answer
        failure = failure_of(f"list at endpoint {meta.endpoint}", answer)
        if failure.retryable:
            raise failure
        raise ListingRefusedError(failure.message)

    def scope(self, meta: HttpMeta) -> str:
        """Return what tells lists of jobs apart: the values that asking for one needs."""
        names = _names(self._recipe.listing) - RESERVED if self._recipe.listing else set()
        return repr(sorted((name, meta.values.get(name)) for name in names))

    async def _ask(self, call: Call, values: Mapping[str, Any], *, is_of_job: bool = True) -> Answer:
        request = request_of(call, values)
        answer = await (self._send_about_job(request) if is_of_job else self._client.send(request))
        if not 200 <= answer.status < 300:
            raise failure_of(f"{request.method} at endpoint {self._client.name}", answer, is_of_job=is_of_job)
        return answer

    async def _send_about_job(self, request: Request) -> Answer:
        """Send a request about a job that has been started: DNS or a redirect gone astray does not make it fail."""
        try:
            return await self._client.send(request)
        except PermissionDeniedError as error:
            raise TransientError(error.message, error_code=error.error_code) from None


def values_of(meta: HttpMeta) -> dict[str, Any]:
    """Return what a job's requests are filled in with."""
    return {**meta.values, "id": meta.id}


def request_of(call: Call, values: Mapping[str, Any]) -> Request:
    """Fill in a request.

    Raises:
        InvalidInputError: a value is missing or cannot stand where it has to.
    """
    query = {name: render_text(text, values) for name, text in call.query.items()}
    headers = {name: render_text(text, values) for name, text in call.headers.items()}
    path = render_path(call.path, values)
    is_whole = call.path.startswith("{+")
    return Request(
        call.method,
        path="" if is_whole else path,
        target=path if is_whole else "",
        query={name: text for name, text in query.items() if text is not None},
        headers={name: text for name, text in headers.items() if text is not None},
        body=render_body(call.body, values) if call.body is not None else None,
    )


def item_answer(item: Any) -> Answer:
    """Return an item of a list as the answer that asking for it alone would have given."""
    return Answer(200, {}, msgspec.json.encode(item))


def _names(call: Call) -> set[str]:
    return names_in([call.path, call.query, call.headers, call.body])


def _as_text(answer: Answer, logs: Logs) -> str:
    found = pick(answer, logs.text)
    if isinstance(found, list):
        return "\n".join(str(part) for part in found if part is not None)
    return "" if found is None else str(found)
