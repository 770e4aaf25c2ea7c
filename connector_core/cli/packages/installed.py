"""The distributions of this environment, each as exactly as its installer has written it down."""

import json
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from importlib_metadata import Distribution, MetadataPathFinder
from packaging.utils import NormalizedName, canonicalize_name

from connector_core.hookspecs import ENTRY_POINT_GROUP

CORE = canonicalize_name("connector-core")


def site_packages() -> list[Path]:
    """Return the folders that installers install into; usually one."""
    folders = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    return list({folder.resolve(): folder for folder in reversed(folders)}.values())  # lib64 may be a link to lib


def own_folders() -> list[Path]:
    """Return the folders that nobody but installers writes to; a system's folder of programs is everybody's."""
    is_shared = sys.prefix == sys.base_prefix
    return [*site_packages(), *([] if is_shared else [Path(sysconfig.get_path("scripts"))])]


@dataclass(frozen=True)
class Installed:
    """A distribution: its version, where it came from if not from an index, and its list of files."""

    name: str
    version: str
    origin: str
    record: str
    plugins: tuple[str, ...]

    @property
    def url(self) -> str | None:
        """The URL of the folder or file that it was installed from, if it was not an index."""
        url: str | None = json.loads(self.origin or "{}").get("url")
        return url

    @property
    def requirement(self) -> str:
        """The requirement that installs it again."""
        return f"{self.name}=={self.version}"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


Set = Mapping[NormalizedName, Installed]
"""Distributions by canonical name."""


def installed_now() -> Set:
    """Return what is installed."""
    return {canonicalize_name(one.name): _described(one) for one in found()}


def found() -> Iterator[Distribution]:
    """Yield the distributions as they are now, whatever was looked up before; one that is half gone is none any more."""
    MetadataPathFinder.invalidate_caches()
    seen = set()
    for one in Distribution.discover(path=[str(path) for path in site_packages()]):
        name = _name_of(one)
        if name is not None and name not in seen:
            seen.add(name)
            yield one


def files_of(distribution: Distribution) -> Iterator[Path]:
    """Yield the files of a distribution, scripts and data included; nothing outside of the environment."""
    inside = (Path(sys.prefix), *site_packages())
    for file in distribution.files or ():
        path = Path(os.path.normpath(str(file.locate())))
        if any(path.is_relative_to(folder) for folder in inside):
            yield path


def _name_of(one: Distribution) -> NormalizedName | None:
    try:
        return canonicalize_name(one.name) if one.name else None
    except Exception:  # noqa: BLE001 - damaged; how that shows, differs between versions of importlib-metadata
        return None


def _described(one: Distribution) -> Installed:
    try:
        plugins = tuple(point.name for point in one.entry_points.select(group=ENTRY_POINT_GROUP))
    except (ValueError, TypeError):  # not UTF-8, or a line without "=": `list` and `doctor` say so
        plugins = ()
    origin, record = one.read_text("direct_url.json") or "", one.read_text("RECORD") or ""
    return Installed(one.name, one.version, origin, record, plugins)


@dataclass(frozen=True)
class Changes:
    """The differences between two sets."""

    added: tuple[Installed, ...]
    removed: tuple[Installed, ...]
    replaced: tuple[tuple[Installed, Installed], ...]

    @classmethod
    def between(cls, before: Set, after: Set) -> "Changes":
        """Compare two sets."""
        return cls(
            added=tuple(after[name] for name in sorted(after.keys() - before.keys())),
            removed=tuple(before[name] for name in sorted(before.keys() - after.keys())),
            replaced=tuple(
                (before[name], after[name])
                for name in sorted(before.keys() & after.keys())
                if before[name] != after[name]
            ),
        )

    @property
    def names(self) -> set[NormalizedName]:
        """The canonical names of all that differs."""
        return {
            canonicalize_name(one.name) for one in (*self.added, *self.removed, *(new for _old, new in self.replaced))
        }

    def lines(self) -> Iterator[str]:
        """Say what differs, a line each."""
        yield from (f"+ {one}" for one in self.added)
        yield from (f"~ {old} -> {new.version}" for old, new in self.replaced)
        yield from (f"- {one}" for one in self.removed)
