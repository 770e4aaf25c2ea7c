"""The JSON of `connector-host list` and `doctor`: made from loaded plugins, and read again by installs."""

from collections.abc import Collection
from typing import Literal

import msgspec
from packaging.utils import canonicalize_name

from connector_core.plugins import (
    BrokenDistribution,
    FailedPlugin,
    FoundPlugin,
    LoadedPlugin,
    PluginLoadResult,
    SkippedPlugin,
)


class ListedConnector(msgspec.Struct, frozen=True):
    """A connector that a plugin brings."""

    name: str
    kind: str
    task_types: tuple[str, ...]


class ListedPlugin(msgspec.Struct, frozen=True, omit_defaults=True):
    """A plugin, whatever became of it.

    Attributes:
        reason: why it failed to load, or was skipped.
        note: what it says of itself where it brings no connector.
        location: the process of its own that it was loaded in, where that is not the host's.
    """

    name: str
    distribution: str | None
    version: str | None
    state: Literal["loaded", "failed", "skipped"]
    connectors: tuple[ListedConnector, ...]
    load_seconds: float | None = None
    reason: str = ""
    traceback: str | None = None
    note: str | None = None
    location: str = ""

    @classmethod
    def of(cls, plugin: FoundPlugin) -> "ListedPlugin":
        """Describe a plugin."""
        about = plugin.identity.name, plugin.identity.distribution, plugin.identity.version
        match plugin:
            case LoadedPlugin():
                connectors = tuple(
                    ListedConnector(one.name, one.side, tuple(map(str, one.categories))) for one in plugin.descriptions
                )
                note = None if connectors else plugin.summary
                return cls(
                    *about, "loaded", connectors, load_seconds=plugin.seconds, note=note, location=plugin.location
                )
            case FailedPlugin():
                why = {"reason": plugin.reason, "traceback": plugin.traceback}
                return cls(*about, "failed", (), load_seconds=plugin.seconds, location=plugin.location, **why)
            case SkippedPlugin():
                return cls(*about, "skipped", (), reason=plugin.reason)
        raise AssertionError(f"{type(plugin).__name__} is not listed")

    @property
    def task_types(self) -> set[str]:
        """All that it serves."""
        return {task_type for connector in self.connectors for task_type in connector.task_types}

    @property
    def first_line(self) -> str:
        """The reason why it failed, or was skipped, in a line."""
        return self.reason.splitlines()[0] if self.reason else "no reason given"

    def is_of(self, names: Collection[str]) -> bool:
        """Return whether it belongs to one of these distributions (canonical names)."""
        return self.distribution is not None and canonicalize_name(self.distribution) in names

    def __str__(self) -> str:
        return self.name if self.distribution is None else f"{self.name} ({self.distribution} {self.version})"


class Listing(msgspec.Struct, frozen=True, omit_defaults=True):
    """All plugins, and what is said beside them.

    Attributes:
        conflicts: plugins that clash, for `list`.
        start_error: what keeps a host from starting, for `list`; empty where nothing does.
        problems: all that is wrong, for `doctor`.
    """

    plugins: tuple[ListedPlugin, ...]
    warnings: tuple[str, ...]
    broken_distributions: tuple[BrokenDistribution, ...]
    risks: tuple[str, ...]
    conflicts: tuple[str, ...] | None = None
    start_error: str = ""
    problems: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        result: PluginLoadResult,
        risks: Collection[str],
        *,
        conflicts: Collection[str] | None = None,
        start_error: str = "",
        problems: Collection[str] | None = None,
    ) -> "Listing":
        """Describe what was loaded."""
        return cls(
            tuple(ListedPlugin.of(plugin) for group in result.by_state.values() for plugin in group),
            tuple(result.warnings),
            tuple(result.broken),
            tuple(risks),
            None if conflicts is None else tuple(conflicts),
            start_error,
            None if problems is None else tuple(problems),
        )

    def to_json(self) -> str:
        """Write it for programs."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    @classmethod
    def from_json(cls, text: str) -> "Listing":
        """Read what `to_json` has written.

        Raises:
            ValueError: it is something else.
        """
        return msgspec.json.decode(text, type=cls)
