"""Asking about many jobs with few requests, where the backend can list them."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Sequence

from connector_core import ConnectorError, Resource
from connector_plugin_http.jobs import HttpMeta, Jobs, ListingRefusedError, item_answer
from connector_plugin_http.picking import Answer, pick, pick_json

_AT_ONCE = 20
_MOST_REFUSED = 1000

log = logging.getLogger(__name__)


class Poller:
    """Asks about jobs of many kinds at once.

    Args:
        fresh: seconds for which a list that was asked for answers further jobs: a host asks about 500 at a time.
    """

    def __init__(self, fresh: float) -> None:
        self._fresh = fresh
        self._lists: dict[tuple[str, str, str], _List] = {}
        self._locks: defaultdict[tuple[str, str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._refused: set[tuple[str, str, str]] = set()

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
            known = self._lists.get(key)
            if known is None or time.monotonic() - known.asked_at > self._fresh:
                known = self._lists[key] = _List(time.monotonic())
            try:
                await known.read_on(jobs, meta, wanted)
            except ListingRefusedError as error:
                if key not in self._refused:
                    log.warning("jobs cannot be listed; asking about each: %s", error)
                self._refused.add(key)
                return {}
            finally:
                self._forget()
            return known.found

    def _forget(self) -> None:
        """Drop lists that answer nothing any more."""
        old = [key for key, known in self._lists.items() if time.monotonic() - known.asked_at > self._fresh]
        for key in old:
            del self._lists[key]
            self._locks.pop(key, None)  # the values that tell lists apart are callers', so there is no end of them
        if len(self._refused) > _MOST_REFUSED:
            self._refused.clear()


class _List:
    """A list of jobs as far as it has been read, which began at `asked_at`."""

    def __init__(self, asked_at: float) -> None:
        self.asked_at = asked_at
        self.found: dict[str, Answer] = {}
        self._offset = 0
        self._token = ""
        self._pages = 0
        self._is_complete = False

    async def read_on(self, jobs: Jobs, meta: HttpMeta, wanted: set[str]) -> None:
        """Read pages until all jobs are found, the list ends, or asking about each costs no more.

        Raises:
            ListingRefusedError: the backend lists none.
            ConnectorError: it does not do so now.
        """
        listing = jobs.listing
        assert listing is not None  # noqa: S101 - its caller has looked
        end = min(listing.max_pages, self._pages + len(wanted))
        while not self._is_complete and self._pages < end and wanted - self.found.keys():
            page = await jobs.page(meta, self._offset, self._token)
            items = pick(page, listing.items)
            items = items if isinstance(items, list) else []
            for item in items:
                self.found.setdefault(str(pick_json(item, listing.id)), item_answer(item))
            self._pages += 1
            self._offset += len(items)
            self._token = str(pick(page, listing.next) or "") if listing.next else ""
            has_more = bool(self._token) if listing.next else len(items) >= listing.page_size
            self._is_complete = not items or not has_more


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
