"""Connectors that are registered for one test."""

import importlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from connector_plugin_flyte.quiet import undisturbed
from tests.support.distributions import SitePackages
from tests.support.flyte_sdk import GROUP

with undisturbed(), warnings.catch_warnings(action="ignore"):  # before anything else here imports the SDK
    from connector_plugin_flyte.connector import BridgedConnector
    from connector_plugin_flyte.loading import Arrivals, registered

Bridge = Callable[..., list[BridgedConnector]]


@pytest.fixture
def sdk_registry() -> Iterator[None]:
    """Leave the SDK's registry, which is one for the process, as it was."""
    with registered():
        yield


@pytest.fixture
def bridge_flyte(site: SitePackages, sdk_registry: None) -> Bridge:
    """Bring the connectors of modules with this code; they are in the SDK's own registry until the test ends."""

    def bridge(*codes: str) -> list[BridgedConnector]:
        modules = [site.add(f"flyte-{position}", code, group=GROUP) for position, code in enumerate(codes)]
        arrivals = Arrivals(modules)
        with warnings.catch_warnings(action="ignore"):  # the SDK's own modules have some
            return [connector for module in modules for connector in load(arrivals, module)]

    def load(arrivals: Arrivals, module: str) -> list[BridgedConnector]:
        with registered():
            return arrivals.load(module, partial(importlib.import_module, module))

    return bridge
