"""A location: its process, started again when it has died, and what calls wait for meanwhile."""

import asyncio
import logging
import random
import signal
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Protocol

from connector_core.description import ConnectorDescription
from connector_core.errors import BackendUnavailableError
from connector_core.invocation.places import CallLimits
from connector_core.locations.heads import HelloHead
from connector_core.locations.link import Link
from connector_core.locations.process import LocationError, LocationProcess
from connector_core.locations.process_place import ProcessPlace
from connector_core.secrets import SecretSource

_log = logging.getLogger(__name__)

BACKOFF = (1.0, 60.0)
"""Seconds before the first start after a death, and (doubled each time) at most before a later one."""

SECONDS_TO_FORGET = 60.0
"""A process that has lived for so long begins a new series of deaths."""

_SECONDS_BETWEEN_LOOKS = 0.1

_FOR_THE_ANSWER = 0.5
"""Seconds before a waiting call's deadline at which it is told why it waits, so that the answer arrives in time."""


class Restarted(Protocol):
    """Starts a location's connectors in a process that has taken a dead one's place."""

    def __call__(self, connectors: list[ConnectorDescription]) -> Awaitable[None]:
        """Run their `start()`; what fails is tried again by the callee."""


class Location:
    """A process of plugins, kept up while the host serves.

    Args:
        name: as the settings have it.
        new_process: starts a process; called in the main thread.
        ready_timeout: seconds in which a process has to be ready.
        process: the first one, which is ready.
        secrets: takes note of those that its plugins have got.
        memory_limit: bytes over which the process is ended; `None` for no limit.
    """

    def __init__(
        self,
        name: str,
        new_process: Callable[[], LocationProcess],
        ready_timeout: float,
        process: LocationProcess,
        secrets: SecretSource,
        memory_limit: int | None = None,
    ) -> None:
        self.name = name
        self._new_process = new_process
        self._ready_timeout = ready_timeout
        self._process = process
        self._secrets = secrets
        self._memory_limit = memory_limit
        self._memory_watch: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._is_linked = asyncio.Event()
        self._is_ready = asyncio.Event()
        self._reason = f"{self.title} is not served yet"
        self._next_start = 0.0
        self._connectors: dict[int, ConnectorDescription] = {}
        self._numbers = count(1)
        self._supervision: asyncio.Task[None] | None = None

    @property
    def title(self) -> str:
        """The location's name in messages."""
        return f"location {self.name!r}"

    @property
    def pid(self) -> int:
        """The number of its process, the last one if none runs."""
        return self._process.pid

    def place(self, description: ConnectorDescription, limits: CallLimits) -> ProcessPlace:
        """Return a new place for one of its connectors."""
        number = next(self._numbers)
        self._connectors[number] = description
        return ProcessPlace(self, number, description, limits)

    async def open(self, restarted: Restarted) -> None:
        """Take calls from now on, and start the process again whenever it dies."""
        await self._take(self._process)
        self._is_ready.set()
        self._supervision = asyncio.create_task(self._supervise(restarted))
        self._supervision.add_done_callback(_tell_failure)

    async def linked(self, end: float) -> Link:
        """Return the wire to the process, be its connectors started or not; wait for one until `end`.

        Raises:
            BackendUnavailableError: there is none in time.
        """
        return await self._wait(self._is_linked, end)

    async def ready(self, end: float) -> Link:
        """Return the wire to the process once its connectors are started; as `linked`."""
        return await self._wait(self._is_ready, end)

    async def close(self, timeout: float) -> None:
        """End the process: asked by SIGTERM, ended with its group when the time is up."""
        tasks = [task for task in (self._supervision, self._memory_watch) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._is_linked.clear()
        self._is_ready.clear()
        self._reason = f"{self.title} is stopping"
        if self._link is not None:
            self._link.is_stopping = True
        self._process.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(_exit_of(self._process)), timeout)
        except TimeoutError:
            _log.warning("%s did not end within %.1f s of SIGTERM, and was killed", self.title, timeout)
            self._process.kill()
            await _exit_of(self._process)

    def kill(self) -> None:
        """End the process at once, without a loop."""
        self._process.kill()

    async def _wait(self, event: asyncio.Event, end: float) -> Link:
        if not event.is_set():
            left = end - time.monotonic() - _FOR_THE_ANSWER
            if time.monotonic() + left < self._next_start:
                left = 0.0
            try:
                async with asyncio.timeout(max(0.0, min(left, 1e9))):
                    await event.wait()
            except TimeoutError:
                raise BackendUnavailableError(self._why_not_ready()) from None
        assert self._link is not None  # noqa: S101 - it is set before either event
        return self._link

    def _why_not_ready(self) -> str:
        left = self._next_start - time.monotonic()
        return (
            f"{self._reason}; it starts again in {left:.0f} s" if left > 0 else f"{self._reason}; it is being started"
        )

    async def _take(self, process: LocationProcess) -> None:
        self._process = process
        self._link = Link(process, self._secrets)
        await self._link.open()
        self._is_linked.set()
        if self._memory_limit is not None:
            self._memory_watch = asyncio.create_task(self._watch_memory(process, self._memory_limit))

    async def _watch_memory(self, process: LocationProcess, limit: int) -> None:
        """End a process that has more resident than it may; what it had in flight fails with the reason."""
        if process.resident is None and not process.exit.done():
            _log.warning("memory_limit of %s is not enforced: there is no /proc here", self.title)
            return
        while not process.exit.done():
            if (resident := process.resident or 0) > limit:
                process.kill(f"had {resident:,} bytes of memory, over its memory_limit of {limit:,}, and was ended")
                return
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)

    async def _supervise(self, restarted: Restarted) -> None:
        delay, longest = BACKOFF
        while True:
            await _exit_of(self._process)
            self._is_linked.clear()
            self._is_ready.clear()
            if self._process.lived > SECONDS_TO_FORGET:
                delay, _ = BACKOFF
            self._reason = self._process.reason()
            await self._start_after(delay)
            delay = min(delay * 2, longest)
            if self._is_linked.is_set():
                await self._start_connectors(restarted)

    async def _start_after(self, delay: float) -> None:
        """Start the process again after a pause; without success, its reason is the next one's."""
        pause = delay * random.uniform(0.5, 1)  # noqa: S311 - spreads load, keeps no secret
        self._next_start = time.monotonic() + pause
        _log.error(
            "location died and is started again: %s", self._reason, extra={"location": self.name, "seconds": pause}
        )
        await asyncio.sleep(pause)
        try:
            self._process = process = self._new_process()
            hello: HelloHead = await asyncio.to_thread(process.handshake, self._ready_timeout)
        except (LocationError, OSError) as error:
            _log.error("%s could not be started: %s", self.title, error)
            return
        except asyncio.CancelledError:
            self._process.kill()
            raise
        for failed in hello.failed:
            _log.error("plugin %s failed to load again in %s: %s", failed.identity.name, self.title, failed.reason)
        for secret in hello.secrets:
            self._secrets.note(secret)
        await self._take(process)

    async def _start_connectors(self, restarted: Restarted) -> None:
        """Run `start()` of all, then let calls through, unless the process has died meanwhile."""
        process, connectors = self._process, list(dict.fromkeys(self._connectors.values()))
        await restarted(connectors)
        if not process.exit.done():
            self._is_ready.set()
            _log.info("location serves again: %s", self.title, extra={"location": self.name, "pid": process.pid})


def _tell_failure(supervision: asyncio.Task[None]) -> None:
    if not supervision.cancelled() and (error := supervision.exception()) is not None:
        _log.critical("supervision of a location has failed: restart the host", exc_info=error)


def _exit_of(process: LocationProcess) -> "asyncio.Future[int]":
    return asyncio.wrap_future(process.exit)
