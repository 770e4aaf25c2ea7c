"""Entry points of installed distributions, read so that a damaged distribution costs itself alone."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import PurePath
from typing import Any

import msgspec
from importlib_metadata import EntryPoint, distributions

from connector_core.errors import PluginLoadError

_METADATA_FILES = ("METADATA", "PKG-INFO")
_SUFFIXES = (".dist-info", ".egg-info")
_BYTE_ORDER_MARK = "\ufeff"
_REINSTALL = "reinstall the distribution, or delete the folder"


class BrokenDistribution(msgspec.Struct, frozen=True):
    """A damaged distribution on the path; what could be read of it is used all the same.

    Attributes:
        path: its metadata folder.
        reason: what is wrong with it, in a sentence.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; {_REINSTALL}"


class InstalledPoint(msgspec.Struct, frozen=True):
    """An entry point, and the distribution that it comes from.

    Attributes:
        name: what it is called.
        value: what it stands for, `MODULE[:ATTRIBUTE]`.
        distribution: the distribution's name.
        version: the distribution's version.
        problem: the reason why it must not be loaded, if there is one.
    """

    name: str
    value: str
    distribution: str
    version: str
    problem: str = ""

    @property
    def module(self) -> str:
        """The module to import.

        Raises:
            PluginLoadError: the value is not `MODULE[:ATTRIBUTE]`.
        """
        module = self.value.split(":")[0].split("[")[0].strip()
        if not all(part.isidentifier() for part in module.split(".")):
            raise PluginLoadError(
                f"entry point {self.name} = {self.value!r} of distribution {self.distribution} names no module; "
                "write MODULE or MODULE:ATTRIBUTE"
            )
        return module

    def load(self) -> Any:
        """Import what it stands for.

        Raises:
            PluginLoadError: it must not be loaded, or its value is not `MODULE[:ATTRIBUTE]`.
        """
        if self.problem:
            raise PluginLoadError(self.problem)
        return EntryPoint(self.name, self.value, self.module).load()


class InstalledPoints(msgspec.Struct, frozen=True):
    """The entry points of one group, by name, and the damaged distributions that were met on the way."""

    points: tuple[InstalledPoint, ...]
    broken: tuple[BrokenDistribution, ...]


def entry_points_of(group: str, path: Sequence[str] | None = None) -> InstalledPoints:
    """Find every entry point of a group without importing anything.

    Of distributions of one name in several folders of the path the first one counts, as it does for imports.

    Args:
        group: the group's name.
        path: folders to look in, instead of `sys.path`.
    """
    scan = _Scan(group)
    try:
        for found in distributions() if path is None else distributions(path=list(path)):
            scan.take(found)
    except Exception as error:  # noqa: BLE001 - finders on `sys.meta_path` may be anybody's
        scan.broken.append(BrokenDistribution("sys.meta_path", f"a finder failed with {_described(error)}"))
    points = list(scan.points(group))
    problems = [BrokenDistribution(one.path, ", ".join(one.flaws)) for one in scan.seen.values() if one.flaws]
    return InstalledPoints(
        tuple(sorted(points, key=lambda point: (point.name, point.value))), (*scan.broken, *problems)
    )


class _Scan:
    """Goes through the distributions of a path for one group.

    Attributes:
        broken: distributions that are left out.
        seen: the other distributions, by their folders.
    """

    def __init__(self, group: str) -> None:
        self.broken: list[BrokenDistribution] = []
        self.seen: dict[str, _Metadata] = {}
        self._section = f"[{group}]"
        self._by_name: dict[str, list[_Metadata]] = {}

    def take(self, distribution: Any) -> None:
        """Read one distribution, unless its folder has been read: a folder may stand on the path twice."""
        metadata = _Metadata(distribution)
        if metadata.path in self.seen:
            return
        self.seen[metadata.path] = metadata
        try:
            is_in_group = self._section in metadata.entry_points
            if metadata.is_leftover:
                if is_in_group:
                    reason = "pip left it behind when it was interrupted"
                    self.broken.append(BrokenDistribution(metadata.path, reason))
                return
            known = self._by_name.setdefault(metadata.key, [])
            if all(one.folder.parent == metadata.folder.parent for one in known):
                known.append(metadata)
            if is_in_group:
                _ = metadata.head
        except Exception as error:  # noqa: BLE001 - a finder's distribution may raise anything
            metadata.flaws.append(f"reading it failed with {_described(error)}")

    def points(self, group: str) -> Iterator[InstalledPoint]:
        """Yield the group's entry points."""
        for metadata in self._chosen():
            try:
                yield from metadata.points(group)
            except Exception as error:  # noqa: BLE001 - as above
                metadata.flaws.append(f"reading it failed with {_described(error)}")

    def _chosen(self) -> Iterator["_Metadata"]:
        """Yield one distribution of each name: of several in one folder, the newest that says what it is."""
        for same in self._by_name.values():
            if len(same) == 1:
                yield same[0]
            elif any(self._section in one.entry_points for one in same):
                yield _newest(same)


def _newest(same: "Sequence[_Metadata]") -> "_Metadata":
    folders = ", ".join(sorted(one.folder.name for one in same))
    for metadata in same:
        metadata.flaws.append(f"one of {len(same)} of this name in its folder ({folders})")
    return max(same, key=lambda one: (bool(one.name), _comparable(one.version)))


class _Metadata:
    """The entry points of one distribution, and the flaws found in it."""

    def __init__(self, distribution: Any) -> None:
        self._distribution = distribution
        self.flaws: list[str] = []
        self.path = str(getattr(distribution, "_path", distribution))
        self.folder = PurePath(self.path)

    @cached_property
    def _stem(self) -> tuple[str, str]:
        """Name and version as the folder's name has them; empty where it has none."""
        suffix = next(filter(self.folder.name.endswith, _SUFFIXES), None)
        if suffix is None:
            return "", ""
        name, _, rest = self.folder.name.removesuffix(suffix).partition("-")
        return name, rest.split("-")[0]

    @property
    def is_leftover(self) -> bool:
        """Return whether it is a folder that pip had moved out of the way."""
        return self._stem[0].startswith("~")

    @cached_property
    def key(self) -> str:
        """The identity of a distribution."""
        return re.sub(r"[-_.]+", "-", self._stem[0] or self.name or self.path).lower()

    @cached_property
    def entry_points(self) -> str:
        """The text of entry_points.txt."""
        text = self._text("entry_points.txt")
        self._check_lines(text)
        return text

    @cached_property
    def head(self) -> dict[str, str]:
        """The fields at the head of METADATA, by their names in lower case."""
        # importlib-metadata's parser of mails reads the README below as well, which takes milliseconds for a large one.
        text = next(filter(None, map(self._text, _METADATA_FILES)), "") or self._text("")
        fields: dict[str, str] = {}
        for line in text.split("\n"):
            if not line.strip():
                break
            name, colon, value = line.partition(":")
            if colon and not line[0].isspace():
                fields.setdefault(name.strip().lower(), value.strip())
        if not text:
            self._flaw("METADATA is missing or empty")
        elif not fields.get("name"):
            self._flaw("METADATA has no Name")
        return fields

    @property
    def name(self) -> str:
        """The name that METADATA gives; empty where there is none."""
        return self.head.get("name", "")

    @property
    def version(self) -> str:
        """The version that METADATA gives, else the folder's name."""
        return self.head.get("version") or self._stem[1] or "?"

    def points(self, group: str) -> Iterator[InstalledPoint]:
        """Yield the entry points of a group; one that stands twice is one, and a problem where its values differ."""
        lines = list(_section(self.entry_points, group))
        if not lines:
            return
        problem = "" if self.name else f"{self.path}: {', '.join(self.flaws)}; {_REINSTALL}"
        times = Counter(name for name, _value in lines)
        values = dict(reversed(lines))
        for name, value in values.items():
            several = list(dict.fromkeys(one for other, one in lines if other == name))
            if times[name] > 1:
                self._flaw(f"entry point {name} stands {times[name]} times in entry_points.txt")
            clash = f"entry point {name} stands for {' and for '.join(several)} in {self.path}; {_REINSTALL}"
            yield InstalledPoint(
                name, value, self.name or self._stem[0], self.version, problem or (clash if several[1:] else "")
            )

    def _text(self, file: str) -> str:
        try:
            text = self._distribution.read_text(file) or ""
        except UnicodeDecodeError as error:
            self._flaw(f"{file} is not UTF-8 (byte 0x{error.object[error.start]:02x})")
            text = bytes(error.object).decode(errors="replace")
        if text.startswith(_BYTE_ORDER_MARK):
            self._flaw(f"{file} begins with a byte order mark")
        return text.removeprefix(_BYTE_ORDER_MARK)

    def _check_lines(self, text: str) -> None:
        for line in map(str.strip, text.splitlines()):
            if line and "=" not in line and line[0] not in "#[":
                self._flaw(f"entry_points.txt has a line without '=': {line[:80]!r}")

    def _flaw(self, text: str) -> None:
        if text not in self.flaws:
            self.flaws.append(text)


def _section(text: str, group: str) -> Iterator[tuple[str, str]]:
    """Yield name and value of each entry point of a group."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == group and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _comparable(version: str) -> tuple[bool, Any]:
    from packaging.version import InvalidVersion, Version  # two versions in one folder are rare

    try:
        return True, Version(version)
    except InvalidVersion:
        return False, version


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
