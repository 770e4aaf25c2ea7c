"""A plugin for the soak: its jobs run by the clock, and its code fails, blocks, hangs, is late and answers nonsense."""

import asyncio
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from connector_core import (
    AsyncConnectorBase,
    PermanentError,
    Phase,
    Resource,
    ResourceMeta,
    SyncConnectorBase,
    TransientError,
    hookimpl,
)
from connector_core.connector import ConnectorBase

_HANG_SECONDS = 3.0
_BLOCK_SECONDS = 0.1
_LATE_SECONDS = 0.5
_LONGEST_JOB_SECONDS = 40.0


@dataclass
class TimedMeta(ResourceMeta):
    """A job that ends by itself at a time of the wall clock."""

    ends_at: float
    is_good: bool = True


class _Faults:
    """Goes wrong in about one call of eight, in one of many ways."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._ways: Sequence[tuple[float, Callable[[], Any]]] = (
            (0.040, self._refuse),
            (0.005, self._fail),
            (0.005, lambda: sys.exit(1)),
            (0.005, lambda: self._fail_with(KeyboardInterrupt())),
            (0.005, lambda: self._fail_with(asyncio.CancelledError())),
            (0.002, lambda: self._fail_with(PermanentError("the job is lost", error_code="Lost"))),
            (0.010, lambda: None),
            (0.005, lambda: Resource(0)),  # type: ignore[arg-type]  # UNDEFINED
            (0.005, lambda: Resource(Phase.RUNNING, message="x" * 500_000)),
        )
        self._slow_ways = (0.005, 0.010, 0.030, 0.005)

    def new_job(self) -> TimedMeta:
        return TimedMeta(time.time() + self._random.uniform(0, _LONGEST_JOB_SECONDS), self._random.random() > 0.1)

    async def hold_up(self) -> None:
        """Take longer than it should, now and then."""
        blocks, hangs, is_late, is_stubborn = self._choose()
        if blocks:
            time.sleep(_BLOCK_SECONDS)  # noqa: ASYNC251 - the fault that is wanted
        elif hangs:
            await asyncio.get_running_loop().create_future()
        elif is_late:
            await asyncio.sleep(_LATE_SECONDS)
        elif is_stubborn:
            end = time.monotonic() + _HANG_SECONDS
            while time.monotonic() < end:
                try:
                    await asyncio.sleep(_LATE_SECONDS)
                except asyncio.CancelledError:
                    continue

    def hold_up_blocking(self) -> None:
        """Occupy the thread for longer than it should, now and then."""
        _blocks, hangs, is_late, is_stubborn = self._choose()
        if hangs or is_stubborn:
            threading.Event().wait(_HANG_SECONDS)
        elif is_late:
            time.sleep(_LATE_SECONDS)

    def answer(self, right: Any) -> Any:
        """Return the right answer, most of the time."""
        lot = self._random.random()
        for share, way in self._ways:
            lot -= share
            if lot < 0:
                return way()
        return right

    def _choose(self) -> list[bool]:
        return [self._random.random() < share for share in self._slow_ways]

    def _refuse(self) -> None:
        raise ConnectionError("the backend answers 503")

    def _fail(self) -> None:
        raise TransientError("the backend asks to come back later")

    def _fail_with(self, error: BaseException) -> None:
        raise error


def _resource(meta: TimedMeta) -> Resource:
    if time.time() < meta.ends_at:
        return Resource(Phase.RUNNING, message="at work")
    return Resource(Phase.SUCCEEDED, outputs={"x": 1}) if meta.is_good else Resource(Phase.FAILED, message="no luck")


class FaultyAsync(AsyncConnectorBase[TimedMeta]):
    """Async code throughout."""

    name = task_type_name = "soak_async"

    def __init__(self) -> None:
        self.faults = _Faults(1)

    async def create(self) -> TimedMeta:
        await self.faults.hold_up()
        meta: TimedMeta = self.faults.answer(self.faults.new_job())
        return meta

    async def get(self, resource_meta: TimedMeta) -> Resource:
        await self.faults.hold_up()
        answer: Resource = self.faults.answer(_resource(resource_meta))
        return answer

    async def delete(self, resource_meta: TimedMeta) -> None:
        await self.faults.hold_up()
        self.faults.answer(None)

    async def get_logs(self, resource_meta: TimedMeta) -> AsyncIterator[str]:
        for number in range(10):
            await self.faults.hold_up()
            yield self.faults.answer(f"line {number}")


class FaultyMany(FaultyAsync):
    """The same, polled many at a time."""

    name = task_type_name = "soak_many"

    def __init__(self) -> None:
        self.faults = _Faults(2)

    async def get_many(self, resource_metas: list[TimedMeta]) -> list[Resource]:
        await self.faults.hold_up()
        answer: list[Resource] = self.faults.answer([_resource(meta) for meta in resource_metas])
        return answer


class FaultyBlocking(AsyncConnectorBase[TimedMeta]):
    """Blocking code throughout."""

    name = task_type_name = "soak_blocking"
    min_poll_interval = 0.5

    def __init__(self) -> None:
        self.faults = _Faults(3)

    def create(self) -> TimedMeta:
        self.faults.hold_up_blocking()
        meta: TimedMeta = self.faults.answer(self.faults.new_job())
        return meta

    def get(self, resource_meta: TimedMeta) -> Resource:
        self.faults.hold_up_blocking()
        answer: Resource = self.faults.answer(_resource(resource_meta))
        return answer

    def delete(self, resource_meta: TimedMeta) -> None:
        self.faults.hold_up_blocking()
        self.faults.answer(None)

    def get_logs(self, resource_meta: TimedMeta) -> Iterator[str]:
        for number in range(10):
            self.faults.hold_up_blocking()
            yield self.faults.answer(f"line {number}")


class FaultySync(SyncConnectorBase):
    """A sync connector, called as such and as an async one."""

    name = task_type_name = "soak_sync"

    def __init__(self) -> None:
        self.faults = _Faults(4)

    async def do(self) -> Resource:
        await self.faults.hold_up()
        answer: Resource = self.faults.answer(Resource(Phase.SUCCEEDED, outputs={"x": 1}))
        return answer


@hookimpl
def register_connectors() -> list[ConnectorBase]:
    """Return all of them."""
    return [FaultyAsync(), FaultyMany(), FaultyBlocking(), FaultySync()]
