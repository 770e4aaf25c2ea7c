"""Where the sources of plugins lie that their author may change."""

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
        origin = json.loads(one.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            yield Path(url2pathname(urlparse(origin["url"]).path))
