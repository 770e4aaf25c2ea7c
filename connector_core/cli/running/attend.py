"""A job from its creation to its end: polled as the engine does, shown, and deleted when the user wants no more of it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import grpc
from flyteidl.admin import agent_pb2

from connector_core.cli.running.client import CallError, Client
from connector_core.cli.running.interrupts import Interrupted, Interrupts
from connector_core.cli.running.job import Job
from connector_core.cli.running.logs import LAST_SECONDS, LogReader
from connector_core.cli.running.usage import usage_of
from connector_core.cli.running.view import View, is_over
from connector_core.resource import Phase

_FIRST_PAUSE = 0.1
_FAILED_GETS = 6
_FAILED_DELETES = 5
_SETTLE_SECONDS = 5.0
_FOR_GOOD = frozenset(
    {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class Attendance:
    """Looks after one job.

    Args:
        client: the host that it was created at.
        job: the job.
        view: where it is shown.
        interval: seconds between two looks at it, at the most.
    """

    def __init__(self, client: Client, job: Job, view: View, interval: float) -> None:
        self._client = client
        self._job = job
        self._view = view
        self._interval = interval

    async def until_end(self, interrupts: Interrupts, *, owns: bool) -> agent_pb2.Resource:
        """Return a job's last state.

        The first Ctrl-C asks the connector to delete the job, where it is ours to end (`owns`), and waits for that.

        Raises:
            Interrupted: the user did not want to wait any longer; the job may be running.
            CallError: the host does not say any more how the job is doing, or could not delete it.
        """
        async with self._followed():
            try:
                return await interrupts.before_first(self._poll())
            except Interrupted:
                if not owns:
                    raise
            self._view.say("asking the connector to delete the job; Ctrl-C again gives up waiting for it")
            self._view.doing("deleting", hint="Ctrl-C gives up waiting")
            return await interrupts.before_second(self.delete())

    async def delete(self) -> agent_pb2.Resource:
        """Ask for the job's end, and return its state a little later: some connectors delete in their own time.

        Raises:
            CallError: it could not be deleted.
        """
        for left in reversed(range(_FAILED_DELETES)):
            try:
                await self._client.delete(self._job)
                break
            except CallError as error:
                if not left or not error.is_passing:
                    raise
                self._view.say(f"{error}; asking again")
                await asyncio.sleep(self._interval)
        deadline = time.monotonic() + _SETTLE_SECONDS
        pause = _FIRST_PAUSE
        while not is_over(resource := await self._state_after_delete()) and time.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._interval)
        return resource

    async def _state_after_delete(self) -> agent_pb2.Resource:
        try:
            return await self._client.get(self._job)
        except CallError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
            return agent_pb2.Resource(phase=Phase.ABORTED.value, message="deleted; its connector has forgotten it")

    async def _poll(self) -> agent_pb2.Resource:
        pause, failures = _FIRST_PAUSE, 0
        while True:
            try:
                resource = await self._client.get(self._job)
            except CallError as error:
                failures += 1
                if error.code in _FOR_GOOD or failures == _FAILED_GETS:
                    raise
                self._view.say(f"{error}; asking again")
            else:
                failures = 0
                self._view.state(resource)
                if is_over(resource):
                    return resource
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._interval)

    @contextlib.asynccontextmanager
    async def _followed(self) -> AsyncIterator[None]:
        """Show the job's log and what it uses, until the block ends."""
        over = asyncio.Event()
        log = asyncio.create_task(self._follow_log(over))
        followers = [log]
        if self._view.wants_usage:
            followers.append(asyncio.create_task(self._follow_usage()))
        try:
            yield
            over.set()
            await asyncio.wait([log], timeout=LAST_SECONDS)
        finally:
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

    async def _follow_log(self, over: asyncio.Event) -> None:
        reader = LogReader(self._client, self._job, self._view.lines)
        try:
            await reader.follow(over, self._interval)
        except CallError as error:
            if error.code is not grpc.StatusCode.UNIMPLEMENTED:
                self._view.say(f"the log cannot be followed: {error}")

    async def _follow_usage(self) -> None:
        with contextlib.suppress(CallError):  # it is only nice to have, and most connectors do not
            while True:
                self._view.usage(usage_of(await self._client.metrics(self._job)))
                await asyncio.sleep(self._interval)
