"""The connector of jobs: a task names an endpoint and gives values, the operator's recipe says the rest."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import (
    AsyncConnectorBase,
    BackendUnavailableError,
    InvalidInputError,
    LogPage,
    Resource,
)
from connector_plugin_http.config import SECTION, Endpoint, HttpConfig
from connector_plugin_http.custom import custom_of
from connector_plugin_http.endpoints import Endpoints
from connector_plugin_http.jobs import RESERVED, HttpMeta, Jobs
from connector_plugin_http.polling import Poller
from connector_plugin_http.rendering import to_json

CUSTOM_KEYS = ("endpoint", "recipe", "values")

_MAX_PAGE_LINES = 10_000
_FOLLOW_SECONDS = 2.0
_TOKEN = re.compile(r"\d{1,15}")


class HttpJobConnector(AsyncConnectorBase[HttpMeta]):
    """Serves `http_job`.

    Args:
        config: the operator's section `[plugins.http]`.
        endpoints: the endpoints' clients; made from `config` unless given.
    """

    name = "HTTP jobs"
    task_type_name = "http_job"

    def __init__(self, config: HttpConfig, endpoints: Endpoints | None = None) -> None:
        self._config = config
        self._endpoints = endpoints or Endpoints(config)
        self._jobs: dict[tuple[str, str], Jobs] = {}
        self._poller = Poller(config.min_poll_interval / 2)
        self.min_poll_interval = config.min_poll_interval

    async def close(self) -> None:
        """Close all connections."""
        await self._endpoints.close()

    async def create(
        self, task_template: TaskTemplate, inputs: Mapping[str, Any], idempotency_key: str | None
    ) -> HttpMeta:
        """Start a job, or find the one that was started for the same attempt of the same task."""
        custom = custom_of(task_template, CUSTOM_KEYS)
        name, endpoint = self._endpoints.named(custom.get("endpoint"))
        recipe = _recipe_for(custom.get("recipe"), name, endpoint)
        jobs = self._jobs_of(name, recipe)
        outputs = list(task_template.interface.outputs.variables) if task_template.HasField("interface") else None
        jobs.check_outputs(outputs or ())
        return await jobs.create(_values(custom, inputs), outputs, idempotency_key)

    async def get(self, resource_meta: HttpMeta) -> Resource:
        """Ask how the job is doing."""
        return await self._jobs_for(resource_meta).get(resource_meta)

    async def get_many(self, resource_metas: Sequence[HttpMeta]) -> Sequence[Resource | Exception]:
        """Ask how many jobs are doing, with a list where the recipe has one."""
        answers: list[Resource | Exception | None] = []
        asked: list[tuple[Jobs, HttpMeta]] = []
        for meta in resource_metas:
            try:
                asked.append((self._jobs_for(meta), meta))
                answers.append(None)
            except BackendUnavailableError as error:
                answers.append(error)
        found = iter(await self._poller.get_many(asked))
        return [next(found) if answer is None else answer for answer in answers]

    async def delete(self, resource_meta: HttpMeta) -> None:
        """Have the job cancelled."""
        await self._jobs_for(resource_meta).cancel(resource_meta)

    async def get_logs(self, resource_meta: HttpMeta, lines: int = 0, token: str = "") -> AsyncIterator[LogPage]:
        """Yield one page of at most `lines` lines after `token`; or, without `lines`, all of them until the job ends."""
        jobs = self._jobs_for(resource_meta)
        position = _position(token)
        while True:
            is_over = (await jobs.get(resource_meta)).phase.is_terminal  # asked first, so that nothing comes after it
            text = await jobs.log_text(resource_meta)
            page, position = _page(text, position, lines or _MAX_PAGE_LINES, is_over=is_over)
            is_complete = is_over and position >= len(text)
            yield LogPage(page, "" if is_complete else str(position))
            if lines or is_complete:
                return
            if not page:
                await asyncio.sleep(_FOLLOW_SECONDS)

    def _jobs_for(self, meta: HttpMeta) -> Jobs:
        if meta.endpoint not in self._config.endpoints or self._config.recipe(meta.recipe) is None:
            raise BackendUnavailableError(
                f"job {meta.id} is of recipe {meta.recipe!r} at endpoint {meta.endpoint!r}, and this host does not have "
                f"both; put them back in {SECTION} until the job is over"
            )
        return self._jobs_of(meta.endpoint, meta.recipe)

    def _jobs_of(self, endpoint: str, recipe: str) -> Jobs:
        if (endpoint, recipe) not in self._jobs:
            found = self._config.recipe(recipe)
            assert found is not None  # noqa: S101 - settings were checked, and metas are above
            self._jobs[(endpoint, recipe)] = Jobs(self._endpoints.client(endpoint), recipe, found)
        return self._jobs[(endpoint, recipe)]


def _recipe_for(wanted: object, name: str, endpoint: Endpoint) -> str:
    known = endpoint.all_recipes()
    if not known:
        raise InvalidInputError(
            f'endpoint {name!r} has no jobs; the operator gives it some by `recipe = "NAME"` in '
            f"[plugins.http.endpoints.{name}]"
        )
    if wanted is None or wanted == "":
        return known[0]
    if wanted not in known:
        raise InvalidInputError(f"endpoint {name!r} has no recipe {wanted!r}; it has: {', '.join(known)}")
    return str(wanted)


def _values(custom: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    own = custom.get("values") or {}
    if not isinstance(own, dict):
        raise InvalidInputError(f"custom.values is not a table but {own!r}")
    values = {**own, **inputs}
    if taken := sorted(RESERVED & set(values)):
        raise InvalidInputError(f"values cannot be called {', '.join(taken)}: recipes fill these in themselves")
    return {name: to_json(name, value) for name, value in values.items()}


def _position(token: str) -> int:
    if token and not (_TOKEN.fullmatch(token) and token.isascii()):
        raise InvalidInputError(
            f"{token!r} is not a token of a log page; use one that a page carried, or none to begin"
        )
    return int(token or 0)


def _page(text: str, position: int, limit: int, *, is_over: bool) -> tuple[list[str], int]:
    """Cut lines out of a log from a position on; the last one of a running job has to be whole."""
    lines: list[str] = []
    while position < len(text) and len(lines) < limit:
        end = text.find("\n", position)
        if end < 0:
            if not is_over:
                break
            end = len(text)
        lines.append(text[position:end].removesuffix("\r"))
        position = min(end + 1, len(text))
    return lines, position
