"""The sources of plugins that their author may change: where they lie, and which of them have changed."""

import asyncio
import importlib
import json
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from importlib_metadata import Distribution, MetadataPathFinder
from watchfiles import Change, DefaultFilter, PythonFilter, awatch

from connector_core.plugins import discover
from connector_core.settings import Settings, settings_file

_NO_SOURCES = {"site-packages", "dist-packages"}
_NO_PACKAGES = {"tests", "test", "docs"}


@dataclass(frozen=True)
class Sources:
    """Folders to watch.

    Args:
        trees: with all that is below them.
        folders: the files directly in them.
        settings: the settings file, be it there or not.
    """

    trees: frozenset[Path]
    folders: frozenset[Path]
    settings: Path

    @classmethod
    def of(cls, settings: Settings, config: Path | None) -> "Sources":
        """Find the sources of the plugins of a host with these settings; nothing is imported."""
        importlib.invalidate_caches()
        MetadataPathFinder.invalidate_caches()
        trees: set[Path] = set()
        folders: set[Path] = set()
        for value in (source.value for source in discover(settings).sources):
            _add(value.split(":")[0].split(".")[0], trees, folders)
        for root in _editable_roots(Distribution.discover()):
            trees.update([root / "src"] if (root / "src").is_dir() else _packages(root))
            folders.add(root)
        for folder in [Path.cwd()] if settings.modules else []:
            folders.add(folder)  # a module that is not there (yet) may come
        file = (settings_file(config) or Path("connector-host.toml")).absolute()
        folders = {folder.resolve() for folder in [*folders, file.parent] if folder.is_dir()}
        whole = {tree.resolve() for tree in trees}
        outer = {tree for tree in whole if not any(parent in whole for parent in tree.parents)}
        return cls(frozenset(outer), frozenset(folders), file.parent.resolve() / file.name)


def _add(module: str, trees: set[Path], folders: set[Path]) -> None:
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if spec.submodule_search_locations is not None:
        trees.update(Path(place) for place in spec.submodule_search_locations if _is_the_authors(Path(place)))
    elif spec.origin is not None and spec.has_location and _is_the_authors(Path(spec.origin)):
        folder = Path(spec.origin).parent
        folders.add(folder)
        trees.update(_packages(folder))


def _packages(folder: Path) -> Iterator[Path]:
    """Yield the packages that lie in a folder, and with them what modules there may import."""
    return (init.parent for init in folder.glob("*/__init__.py") if init.parent.name not in _NO_PACKAGES)


def _is_the_authors(path: Path) -> bool:
    standard = Path(sysconfig.get_path("stdlib"))
    return path.exists() and not _NO_SOURCES.intersection(path.parts) and not path.is_relative_to(standard)


def _editable_roots(found: Iterable[Distribution]) -> Iterator[Path]:
    for one in found:
        try:
            origin = json.loads(one.read_text("direct_url.json") or "{}")
        except ValueError:  # a damaged distribution
            continue
        if origin.get("dir_info", {}).get("editable"):
            yield Path(url2pathname(urlparse(origin["url"]).path))


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
    def settings(self) -> Path | None:
        """The settings file, be it there or not."""
        return None if self._sources is None else self._sources.settings

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
