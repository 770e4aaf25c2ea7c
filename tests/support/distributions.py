"""Fake installed distributions: a module and its metadata in a folder on the path."""

import itertools
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from connector_core.plugins import Discovered, PluginSource, installed_plugins

GOOD = """
    from connector_core import AsyncConnectorBase, Phase, Resource, ResourceMeta, hookimpl

    class Job(AsyncConnectorBase[ResourceMeta]):
        def __init__(self, task_type):
            self.name = f"{__name__} {task_type}"
            self.task_type_name = task_type

        def create(self): return ResourceMeta()
        def get(self): return Resource(Phase.SUCCEEDED)
        def delete(self): pass
"""

_unique = itertools.count()


@dataclass(frozen=True)
class SitePackages:
    """A folder that takes fake distributions."""

    folder: Path

    def add(
        self,
        name: str,
        code: str,
        *,
        entry_point: str | None = None,
        distribution: str | None = None,
        version: str = "1.0",
        group: str = "connector_core.plugins",
    ) -> str:
        """Install a plugin and return its module, which `{module}` in `entry_point` stands for."""
        module = f"fake_{name.replace('-', '_')}_{next(_unique)}"
        (self.folder / f"{module}.py").write_text(textwrap.dedent(code))
        distribution = distribution or f"connector-plugin-{name}"
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        value = (entry_point or "{module}").format(module=module)
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        return module

    def good(self, name: str, *task_types: str, **more: str) -> None:
        """Install a plugin that brings a connector for each task type."""
        connectors = ", ".join(f"Job({task_type!r})" for task_type in task_types or (name,))
        hook = f"\n    @hookimpl\n    def register_connectors():\n        return [{connectors}]\n"
        self.add(name, GOOD + hook, **more)

    def sources(self) -> list[PluginSource]:
        """What discovery finds here."""
        return installed_plugins([str(self.folder)])

    def found(self) -> Discovered:
        """What a host would load of it."""
        return Discovered(tuple(self.sources()))


MakeSitePackages = Callable[[], SitePackages]
