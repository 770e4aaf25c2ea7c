"""The runtime that places of this process share: the serving loop's mailbox, plugins' loops, secrets, traces, counts."""

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable

from connector_core.description import ConnectorDescription
from connector_core.invocation.faults import Scrub
from connector_core.invocation.loops import LoopThread, Mailbox
from connector_core.invocation.pools import BlockingPool
from connector_core.invocation.spans import Trace
from connector_core.invocation.watch import LoopWatch
from connector_core.metrics import Metrics
from connector_core.observing.call_records import REQUEST
from connector_core.secrets import SecretSource, use_source
from connector_core.settings import BatchSettings

_log = logging.getLogger(__name__)


class LocalRuntime:
    """Runs plugin code in this process, for the loop that it was made on.

    Args:
        metrics: where calls that outlive their request are counted, and how late loops are.
        secrets: where `get_secret` looks in plugin code.
        new_loop: makes the plugins' loops.
        stall_threshold: seconds after which a loop that does not respond is reported.
        batch: how calls are gathered for `get_many`.
        trace: begins a span around a piece of plugin code, where there are traces.
        scrub: takes secrets out of the texts of errors, which go over the wire.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        secrets: SecretSource | None = None,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        stall_threshold: float = 1.0,
        batch: BatchSettings | None = None,
        trace: Trace | None = None,
        scrub: Scrub = str,
    ) -> None:
        self.metrics = metrics
        self.trace = trace
        self.scrub = scrub
        self.secrets = secrets or SecretSource()
        self.batch = batch or BatchSettings()
        self.serving_loop = asyncio.get_running_loop()
        self.home = Mailbox(self.serving_loop)
        self.base_context = contextvars.copy_context()
        self.base_context.run(use_source, self.secrets)
        self.base_context.run(REQUEST.set, None)
        self.abandoned = 0
        self._new_loop = new_loop
        self._loops: dict[str, LoopThread] = {}
        self._watch = LoopWatch(metrics.loop_lag, stall_threshold)
        self._watch.add("serving", self.serving_loop, threading.get_ident())

    def loop_of(self, plugin: str, pool: BlockingPool) -> LoopThread:
        """Return a plugin's loop; its first connector's `pool` takes what no call hands to `asyncio.to_thread`."""
        if (thread := self._loops.get(plugin)) is None or thread.loop.is_closed():
            thread = self._loops[plugin] = LoopThread(f"plugin {plugin}", self._new_loop, pool)
            self._watch.add(thread.name, thread.loop, thread.identity)
        return thread

    def count_abandoned(self, description: ConnectorDescription, change: int) -> None:
        """Count calls that run on although nobody waits for them any more."""
        self.abandoned += change
        reading = self.metrics.abandoned.labels(description.plugin.name, description.name)
        reading.inc() if change > 0 else reading.dec()

    def close(self, timeout: float) -> None:
        """End all loops, waiting up to `timeout` seconds; what hangs is left behind as daemon threads."""
        self._watch.close()
        end = time.monotonic() + timeout
        for thread in self._loops.values():
            thread.stop()
        for thread in self._loops.values():
            if not thread.join(max(0.0, end - time.monotonic())):
                _log.warning("event loop of %s is blocked by plugin code; its thread is left behind", thread.name)
