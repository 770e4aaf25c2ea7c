"""A job followed to its end: polled as the engine does, its log and usage shown, deleted when its user wants no more of it."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import grpc
from flyteidl.admin import agent_pb2
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from google.protobuf.json_format import MessageToDict

from connector_core.cli.running.display import View, is_over
from connector_core.cli.running.host_client import CallError, Client
from connector_core.cli.running.job import Job
from connector_core.cli.running.session import Interrupted, Interrupts
from connector_core.resource import Phase

_FIRST_PAUSE = 0.1
_FAILED_GETS = 6
_FAILED_DELETES = 5
_SETTLE_SECONDS = 5.0
_REFERENCE = re.compile(r"\b[0-9a-f]{12}\b")
"""A call's reference in the host's log, which differs for each call."""

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
        pause, failures, last_said = _FIRST_PAUSE, 0, ""
        while True:
            try:
                resource = await self._client.get(self._job)
            except CallError as error:
                failures += 1
                if self._is_for_good(error) or failures == _FAILED_GETS:
                    raise
                text = _REFERENCE.sub("", str(error))
                if text != last_said:
                    self._view.say(f"{error}; asking again")
                last_said = text
            else:
                failures, last_said = 0, ""
                self._view.state(resource)
                if is_over(resource):
                    return resource
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._interval)

    def _is_for_good(self, error: CallError) -> bool:
        """Return whether a retry is useless; the host in this process rides out what passes, so its INTERNAL is a bug."""
        return error.code in _FOR_GOOD or (self._client.is_own and error.code is grpc.StatusCode.INTERNAL)

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


PAGE_LINES = 10_000
LAST_SECONDS = 10.0
"""Seconds for the rest of a log when its job is over."""


class LogReader:
    """Reads a job's log on.

    Connectors differ: some answer a page and the token of the next one, some all lines each time, some follow the job
    until it ends. So what came since the last token is counted, and left out when it comes again.
    """

    def __init__(self, client: Client, job: Job, show: Callable[[Sequence[str]], None]) -> None:
        self._client = client
        self._job = job
        self._show = show
        self._token = ""
        self._shown = 0

    async def read(self) -> bool:
        """Show what is new; return whether anything was.

        Raises:
            CallError: the log cannot be read.
        """
        seen, has_news = 0, False
        asked_with = self._token
        async for piece in self._client.logs(self._job, asked_with, PAGE_LINES):
            if piece.token and piece.token != self._token:
                self._token, self._shown = piece.token, 0
            new = piece.lines
            if self._token == asked_with:  # else they stand before what the new token asks for, and will not come again
                new = new[max(0, self._shown - seen) :]
                seen += len(piece.lines)
                self._shown = max(self._shown, seen)
            if new:
                has_news = True
                self._show(new)
        return has_news

    async def read_to_end(self) -> None:
        """Show all that there is now.

        Raises:
            CallError: the log cannot be read.
        """
        while await self.read():
            pass

    async def follow(self, over: asyncio.Event, interval: float) -> None:
        """Show what comes until the job is `over`, and then what is left.

        Raises:
            CallError: the connector has no logs, or they cannot be read for good.
        """
        while True:
            was_over = over.is_set()
            try:
                has_news = await self.read()
            except CallError as error:
                is_early = error.code is grpc.StatusCode.NOT_FOUND  # there may be none before the job really runs
                if was_over or not (error.is_passing or is_early):
                    raise
                has_news = False
            if was_over and not has_news:
                return
            if not has_news:
                await _wait(over, interval)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


_PREFIX = "EXECUTION_METRIC_"
_CPU = "USED_CPU_AVG"
_MEMORY = "USED_MEMORY_BYTES_AVG"


def usage_of(results: Iterable[ExecutionMetricResult]) -> list[str]:
    """Return one text for each metric that has a value."""
    found = [(result.metric.removeprefix(_PREFIX), _last_value(result)) for result in results]
    return [_text(name, value) for name, value in found if value is not None]


def _last_value(result: ExecutionMetricResult) -> float | None:
    """Return the last sample of the first series, of data in the form of a Prometheus range query's result."""
    try:
        return float(MessageToDict(result.data)["result"][0]["values"][-1][1])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _text(name: str, value: float) -> str:
    if name == _CPU:
        return f"CPU {value:.2f} cores"
    if name == _MEMORY:
        return f"memory {_bytes(value)}"
    return f"{name.lower().replace('_', ' ')} {value:g}"


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
