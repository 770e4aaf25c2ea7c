"""Says when sources have changed."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from watchfiles import Change, DefaultFilter, PythonFilter, awatch

from connector_core.cli.reload.sources import Sources

_QUIET_MILLISECONDS = 50
"""An editor writes a file in several steps; nothing more for so long is the end of them."""


class Watcher:
    """Gathers changes in sources; `follow` says in which, and may be called again."""

    def __init__(self) -> None:
        self._sources: Sources | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._changed: set[Path] = set()
        self._news = asyncio.Event()

    async def follow(self, sources: Sources) -> None:
        """Watch these from now on."""
        if sources == self._sources:
            return
        former, self._sources = self._tasks, sources
        self._tasks = [
            asyncio.create_task(self._watch(sources.trees, sources.settings, is_deep=True)),
            asyncio.create_task(self._watch(sources.folders, sources.settings, is_deep=False)),
        ]
        await asyncio.sleep(0)  # they have begun, so that nothing is missed between the former ones and them
        await _cancelled(former)

    @property
    def news(self) -> bool:
        """Whether something has changed that was not taken yet."""
        return self._news.is_set()

    async def wait(self) -> None:
        """Return when there is news."""
        await self._news.wait()

    def taken(self) -> list[Path]:
        """Return what has changed since the last call."""
        changed, self._changed = sorted(self._changed), set()
        self._news.clear()
        return changed

    async def close(self) -> None:
        """Watch no more."""
        await _cancelled(self._tasks)

    async def _watch(self, places: Iterable[Path], settings: Path, *, is_deep: bool) -> None:
        paths = list(places)
        if not paths:
            return
        is_source, is_no_cache = PythonFilter(), DefaultFilter()

        def counts(change: Change, path: str) -> bool:
            is_new_folder = is_deep and change is Change.added and is_no_cache(change, path) and Path(path).is_dir()
            return Path(path) == settings or is_source(change, path) or is_new_folder

        watching = awatch(*paths, watch_filter=counts, step=_QUIET_MILLISECONDS, recursive=is_deep)
        async for changes in watching:
            if changed := {source for _change, path in changes for source in _sources_at(Path(path))}:
                self._changed.update(changed)
                self._news.set()


def _sources_at(path: Path) -> Iterable[Path]:
    """Return what has changed: of a new folder what is in it, which may be older than the watch on it."""
    return path.rglob("*.py") if path.is_dir() else [path]


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
