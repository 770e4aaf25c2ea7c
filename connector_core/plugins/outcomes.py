"""What became of every plugin that was found: values."""

from collections.abc import Callable
from dataclasses import dataclass

from connector_core.registry import PluginIdentity, RegisteredConnector


@dataclass(frozen=True, slots=True)
class FoundPlugin:
    """A plugin that was found, whatever became of it."""

    identity: PluginIdentity


@dataclass(frozen=True, slots=True)
class LoadedPlugin(FoundPlugin):
    """A plugin that loaded, with the connectors that it brings (there may be none)."""

    connectors: tuple[RegisteredConnector, ...]
    seconds: float
    summary: str = ""


@dataclass(frozen=True, slots=True)
class FailedPlugin(FoundPlugin):
    """A plugin that did not load: the reason in a sentence, and the traceback for those who mend it."""

    reason: str
    traceback: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SkippedPlugin(FoundPlugin):
    """A plugin that the settings keep out."""

    reason: str


@dataclass(frozen=True, slots=True)
class PluginLoadResult:
    """What became of every plugin that was found."""

    loaded: tuple[LoadedPlugin, ...] = ()
    failed: tuple[FailedPlugin, ...] = ()
    skipped: tuple[SkippedPlugin, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def by_state(self) -> dict[str, tuple[FoundPlugin, ...]]:
        """All plugins, by what became of them."""
        return {"loaded": self.loaded, "failed": self.failed, "skipped": self.skipped}

    def select(self, is_wanted: Callable[[PluginIdentity], bool]) -> "PluginLoadResult":
        """Return what became of some of the plugins."""
        return PluginLoadResult(
            tuple(one for one in self.loaded if is_wanted(one.identity)),
            tuple(one for one in self.failed if is_wanted(one.identity)),
            tuple(one for one in self.skipped if is_wanted(one.identity)),
            self.warnings,
        )
