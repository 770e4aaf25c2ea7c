"""Metrics that plugins and their libraries register themselves, with prometheus_client's default registry.

Its own `process_*` and `python_*` are among them. To read them runs code of plugins (a collector, a gauge's function), so that
happens in a thread that nobody has to wait for, and what fails is left out.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

PATIENCE = 2.0
"""Seconds that a scrape waits for these metrics; Prometheus itself gives up after ten."""

_log = logging.getLogger(__name__)


class PluginMetrics:
    """Reads the default registry, in one thread at a time: one that hangs is not joined by others.

    Args:
        registry: read in place of the default one.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry
        self._reading: Future[list[Metric]] | None = None
        self._told: set[str] = set()

    async def families(self) -> list[Metric]:
        """Return all metrics that can be read within `PATIENCE` seconds; none, where one hangs."""
        reading = self._reading
        if reading is None or reading.done():
            reading = self._reading = Future()
            threading.Thread(target=self._read, args=(reading,), name="metrics of plugins", daemon=True).start()
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.shield(asyncio.wrap_future(reading))
        except TimeoutError:
            self._warn_once(
                "hangs",
                "metrics of plugins are left out: a collector in prometheus_client's default registry has not answered "
                f"within {PATIENCE:g} s; they are back when it has",
            )
            return []

    def _read(self, reading: Future[list[Metric]]) -> None:
        families: list[Metric] = []
        for collector in self._collectors():
            try:
                families += collector.collect()
            except BaseException:  # noqa: BLE001 - code of a plugin, which may raise anything
                name = f"{type(collector).__module__}.{type(collector).__qualname__}"
                self._warn_once(name, f"metrics of a plugin are left out: its collector {name} failed", exc_info=True)
        reading.set_result(families)

    def _collectors(self) -> list[Any]:
        from prometheus_client import REGISTRY

        registry = self._registry or REGISTRY
        # One by one, since what one raises ends a registry's own `collect`; not a public name, so it may be absent.
        return list(getattr(registry, "_collector_to_names", [registry]))

    def _warn_once(self, key: str, message: str, *, exc_info: bool = False) -> None:
        if key not in self._told:
            self._told.add(key)
            _log.warning("%s", message, exc_info=exc_info)


class Scrape:
    """The families that a scrape shows, as prometheus_client's writers take them.

    Args:
        own: the host's metrics.
        others: those of plugins; one that has the name of a host's own is left out, as flytekit's are.
        names: the series to show; all, where none is named.
    """

    def __init__(self, own: CollectorRegistry, others: Iterable[Metric], names: Collection[str]) -> None:
        self._own = own
        self._others = others
        self._names = frozenset(names)

    def collect(self) -> Iterator[Metric]:
        """Yield the families, the host's own first."""
        taken: set[str] = set()
        for family in self._own.collect():
            taken.add(family.name)
            yield from self._chosen(family)
        for family in self._others:
            if family.name not in taken:
                taken.add(family.name)
                yield from self._chosen(family)

    def _chosen(self, family: Metric) -> Iterator[Metric]:
        if not self._names:
            yield family
        elif samples := [sample for sample in family.samples if sample.name in self._names]:
            chosen = copy.copy(family)
            chosen.samples = samples
            yield chosen
