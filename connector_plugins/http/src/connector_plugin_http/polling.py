"""Asking about many jobs with few requests, where the backend can list them."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence

from connector_core import ConnectorError, Resource
from connector_plugin_http.jobs import HttpMeta, Jobs, item_answer
from connector_plugin_http.picking import Answer, pick, pick_json

_AT_ONCE = 20


class Poller:
    """Asks about jobs of many kinds at once.

    Args:
        fresh: seconds for which a list that was asked for answers further jobs: a host asks about 500 at a time.
    """

    def __init__(self, fresh: float) -> None:
        self._fresh = fresh
        self._lists: dict[tuple[str, str, str], tuple[float, dict[str, Answer]]] = {}
        self._locks: defaultdict[tuple[str, str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get_many(self, asked: Sequence[tuple[Jobs, HttpMeta]]) -> list[Resource | Exception]:
        """Return each job's state or error, in order."""
        groups: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
        for place, (jobs, meta) in enumerate(asked):
            groups[(meta.endpoint, meta.recipe, jobs.scope(meta))].append(place)
        answers: dict[int, Resource | Exception] = {}
        limit = asyncio.Semaphore(_AT_ONCE)

        async def ask(place: int) -> None:
            jobs, meta = asked[place]
            async with limit:
                answers[place] = await _outcome(jobs, meta)

        async def ask_group(key: tuple[str, str, str], places: list[int]) -> None:
            jobs, meta = asked[places[0]]
            listed: dict[str, Answer] = {}
            # A page costs what a single job does, so lists are for several.
            if jobs.listing is not None and len(places) > 1:
                try:
                    listed = await self._listed(key, jobs, meta, {str(asked[place][1].id) for place in places})
                except ConnectorError as error:
                    answers.update((place, error) for place in places)
                    return
            left = []
            for place in places:
                item = listed.get(str(asked[place][1].id))
                if item is None:
                    left.append(place)
                else:
                    answers[place] = _read(*asked[place], item)
            await asyncio.gather(*(ask(place) for place in left))

        await asyncio.gather(*(ask_group(key, places) for key, places in groups.items()))
        return [answers[place] for place in range(len(asked))]

    async def _listed(
        self, key: tuple[str, str, str], jobs: Jobs, meta: HttpMeta, wanted: set[str]
    ) -> dict[str, Answer]:
        async with self._locks[key]:
            asked_at, found = self._lists.get(key, (float("-inf"), {}))
            if time.monotonic() - asked_at > self._fresh or not wanted & set(found):
                found = await _all_pages(jobs, meta)
                self._lists[key] = (time.monotonic(), found)
            self._forget()
            return found

    def _forget(self) -> None:
        """Drop lists that answer nothing any more."""
        old = [key for key, (asked_at, _) in self._lists.items() if time.monotonic() - asked_at > self._fresh]
        for key in old:
            del self._lists[key]
            if not self._locks[key].locked():
                del self._locks[key]


async def _all_pages(jobs: Jobs, meta: HttpMeta) -> dict[str, Answer]:
    listing = jobs.listing
    assert listing is not None  # noqa: S101 - its caller has looked
    found: dict[str, Answer] = {}
    offset, token = 0, ""
    for _ in range(listing.max_pages):
        page = await jobs.page(meta, offset, token)
        items = pick(page, listing.items)
        items = items if isinstance(items, list) else []
        for item in items:
            found.setdefault(str(pick_json(item, listing.id)), item_answer(item))
        offset += len(items)
        token = str(pick(page, listing.next) or "") if listing.next else ""
        if not items or (not token if listing.next else len(items) < listing.page_size):
            break
    return found


async def _outcome(jobs: Jobs, meta: HttpMeta) -> Resource | Exception:
    try:
        return await jobs.get(meta)
    except ConnectorError as error:
        return error


def _read(jobs: Jobs, meta: HttpMeta, item: Answer) -> Resource | Exception:
    try:
        return jobs.read(item, meta)
    except ConnectorError as error:
        return error
