"""Fake flytekit plugins on the path, and the bridge as the host finds it."""

import itertools
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_core.plugins import PluginSource, installed_plugins
from connector_plugin_flytekit.containment import import_flytekit

import_flytekit()  # before the tests do, so that Ctrl-C stays pytest's

CONNECTOR = """
from dataclasses import dataclass
from typing import Any
from flytekit.extend.backend.base_connector import (
    AsyncConnectorBase, ConnectorRegistry, Resource, ResourceMeta, SyncConnectorBase
)
from flyteidl.core.execution_pb2 import TaskExecution

@dataclass
class JobMeta(ResourceMeta):
    job_id: str
    note: str = ""

class Jobs(AsyncConnectorBase):
    def __init__(self, task_type, version=0):
        super().__init__(task_type_name=task_type, task_type_version=version, metadata_type=JobMeta)

    def create(self, task_template, output_prefix, inputs=None, task_execution_metadata=None, **kwargs):
        return JobMeta("j-1")

    def get(self, resource_meta, **kwargs):
        return Resource(phase=TaskExecution.SUCCEEDED, message=resource_meta.job_id)

    def delete(self, resource_meta, **kwargs):
        pass
"""
"""What a plugin of flytekit's begins with here."""

_unique = itertools.count()


class Site:
    """A folder on the path that takes fake plugins of flytekit's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def module(self, name: str, code: str) -> str:
        """Write a module of a name that no other test has; return the name."""
        module = f"fake_{name.replace('-', '_')}_{next(_unique)}"
        (self.folder / f"{module}.py").write_text(CONNECTOR + textwrap.dedent(code))
        return module

    def plugin(self, name: str, code: str, *, distribution: str | None = None) -> str:
        """Install a plugin with an entry point of `flytekit.plugins`; return its module's name."""
        module = self.module(name, code)
        self.entry_point(name, module, distribution=distribution)
        return module

    def entry_point(self, name: str, value: str, *, distribution: str | None = None) -> None:
        """Install a distribution with an entry point of `flytekit.plugins` of any value."""
        distribution = distribution or f"flytekitplugins-{name}"
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[flytekit.plugins]\n{name} = {value}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield Site(folder)
    for name in [name for name in sys.modules if name.startswith("fake_")]:
        del sys.modules[name]


@pytest.fixture
def bridge() -> PluginSource:
    """The bridge, as it is installed."""
    return next(source for source in installed_plugins() if source.identity.name == "flytekit")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of connectors that both servers serve, on the path."""
    folder = Path(__file__).with_name("served")
    monkeypatch.syspath_prepend(str(folder))
    return folder
