"""What became of every plugin that was found: values."""

from collections.abc import Callable

import msgspec

from connector_core.registry import PluginIdentity, RegisteredConnector


class FoundPlugin(msgspec.Struct, frozen=True):
    """A plugin that was found, whatever became of it."""

    identity: PluginIdentity


class LoadedPlugin(FoundPlugin, frozen=True):
    """A plugin that loaded, with the connectors that it brings (there may be none)."""

    connectors: tuple[RegisteredConnector, ...]
    seconds: float
    summary: str = ""


class FailedPlugin(FoundPlugin, frozen=True):
    """A plugin that did not load: the reason in a sentence, and the traceback for those who mend it."""

    reason: str
    traceback: str
    seconds: float


class SkippedPlugin(FoundPlugin, frozen=True):
    """A plugin that the settings keep out."""

    reason: str


class PluginLoadResult(msgspec.Struct, frozen=True):
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
