"""The process connector: a job is a command that runs on the host's machine and outlives the host."""

import asyncio
import math
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import (
    AsyncConnectorBase,
    JobNotFoundError,
    LogPage,
    Phase,
    Resource,
    ResourceMeta,
    TransientError,
)
from connector_plugin_process import wrapper
from connector_plugin_process.command import command_of
from connector_plugin_process.config import ProcessConfig
from connector_plugin_process.job import Ended, Job
from connector_plugin_process.logs import MAX_PAGE_LINES, Position, read_page, read_tail
from connector_plugin_process.store import JobStore

STDOUT_BYTES = 64 * 1024
"""The most bytes that the output `stdout` holds: the end of the command's output."""

_STDERR_BYTES, _STDERR_LINES = 2000, 10
_FOLLOW_SECONDS = 0.25
_KILL_SECONDS = 5.0
_ORPHAN_SECONDS = 0.1


@dataclass
class ProcessMeta(ResourceMeta):
    """A job: its name, its owner `<host name>/<store id>`, and its wrapper's process number and start time.

    The start time is in clock ticks since the machine's boot, as in `/proc/<pid>/stat`.
    """

    job_id: str
    host: str
    pid: int
    start_time: int


class ProcessConnector(AsyncConnectorBase[ProcessMeta]):
    """Serves `process`: a command in, the outputs `exit_code` and `stdout` (its end) out.

    Args:
        config: the operator's section `[plugins.process]`.
        store: where the jobs are; made from `config` unless given.
    """

    name = "Process"
    task_type_name = "process"

    def __init__(self, config: ProcessConfig, store: JobStore | None = None) -> None:
        self._config = config
        self._store = store or JobStore(config)

    def start(self) -> None:
        """Make sure that jobs can be kept, and forget old ones."""
        self._store.sweep()

    def create(
        self, task_template: TaskTemplate, inputs: Mapping[str, Any], output_prefix: str, idempotency_key: str | None
    ) -> ProcessMeta:
        """Start the command, or find the one that was started for the same attempt of the same task."""
        command = command_of(task_template, inputs, output_prefix, self._config)
        job = self._store.create(idempotency_key, command)
        return ProcessMeta(job.job_id, job.started.owner, job.started.pid, job.started.start_time)

    def get(self, resource_meta: ProcessMeta) -> Resource:
        """Say how the job is doing, from what its wrapper recorded."""
        job = self._find(resource_meta)
        process = job.process()
        if process is not None:
            state = "is being stopped" if job.is_stop_asked() else "runs"
            return Resource(Phase.RUNNING, message=f"{state} on host {job.started.owner}, below process {process.pid}")
        ended = job.ended()  # looked up last: a wrapper that is gone has recorded what it will ever record
        if ended is not None:
            return _end_of(job, ended)
        if job.is_stop_asked():
            return Resource(Phase.ABORTED, message="stopped")
        job.kill_orphans()  # before the engine tries again and both run
        return Resource(
            Phase.FAILED, message=f"how the command ended is not known: {job.why_lost()}", error_code="Lost"
        )

    async def delete(self, resource_meta: ProcessMeta) -> None:
        """Stop every process of the job, first politely, and return when none is left."""
        try:
            job = await asyncio.to_thread(self._find, resource_meta)
        except JobNotFoundError:
            return
        if not await asyncio.to_thread(job.is_running) and await asyncio.to_thread(job.ended) is not None:
            return
        await asyncio.to_thread(job.ask_to_stop)
        # The wrapper does it all, and goes on with it when this call is cut off by its deadline.
        if not await _is_over_within(job, self._config.grace_seconds + _KILL_SECONDS):
            raise TransientError(f"job {job.job_id} is being stopped, but some of its processes have not ended yet")
        await _kill_orphans(job)

    async def get_logs(self, resource_meta: ProcessMeta, lines: int = 0, token: str = "") -> AsyncIterator[LogPage]:
        """Yield one page of at most `lines` lines after `token`; or, without `lines`, all of them until the job ends."""
        job = await asyncio.to_thread(self._find, resource_meta)
        token = str(Position.parse(token))
        while True:
            page = await asyncio.to_thread(read_page, job, token, lines or MAX_PAGE_LINES)
            if page.lines or lines or not page.token:
                yield page
            if lines or not page.token:
                return
            if page.token == token:
                await asyncio.sleep(_FOLLOW_SECONDS)
            token = page.token

    def get_metrics(self, resource_meta: ProcessMeta, queries: Sequence[str] = ()) -> list[ExecutionMetricResult]:
        """Measure what the job's processes use now; a job that is over uses nothing, so there is nothing to tell."""
        from connector_plugin_process.usage import usage_of  # psutil is for those who ask

        return usage_of(self._find(resource_meta), queries)

    def _find(self, meta: ProcessMeta) -> Job:
        return self._store.find(meta.job_id, meta.host, meta.pid, meta.start_time)


def _end_of(job: Job, ended: Ended) -> Resource:
    if ended.reason == wrapper.STOPPED and job.is_stop_asked():
        return Resource(Phase.ABORTED, message="stopped")
    if ended.reason == wrapper.EXITED and ended.exit_code == 0:
        return Resource(Phase.SUCCEEDED, outputs={"exit_code": 0, "stdout": read_tail(job.stdout, STDOUT_BYTES)})
    told = read_tail(job.stderr, _STDERR_BYTES).splitlines()[-_STDERR_LINES:]
    stderr = "\n".join(["; its last words on stderr:", *told]) if told else ""
    code, message = _failure(ended)
    return Resource(Phase.FAILED, message=message + stderr, error_code=code)


def _failure(ended: Ended) -> tuple[str, str]:
    """Return an error code and what happened, in words."""
    if ended.reason == wrapper.NOT_STARTED:
        return "NotStarted", f"the command could not be started: {ended.error}"
    if ended.reason == wrapper.TOO_MUCH_OUTPUT:
        return "TooMuchOutput", "stopped, because it wrote more to stdout and stderr than `max_log_bytes` allows"
    if ended.reason == wrapper.TOO_MUCH_DISK:
        return "TooMuchDisk", "killed, because its folder took more of the disk than `max_job_bytes` allows"
    if ended.reason == wrapper.OUTPUT_LOST:
        return "OutputLost", f"stopped, because its output could not be written: {ended.error}"
    if ended.reason == wrapper.STOPPED:
        return "Stopped", "stopped by a signal to its wrapper that did not come from this host"
    if ended.signal is not None:
        return "Killed", f"the command was killed by {_signal_name(ended.signal)}"
    return "NonZeroExit", f"the command ended with exit code {ended.exit_code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time ones have no names
        return f"signal {number}"


async def _is_over_within(job: Job, seconds: float) -> bool:
    """Wait for the job's end; a wrapper that is stopped again and again by its own job is killed when time is up."""
    for _ in range(math.ceil(seconds)):
        if await _wait_for_end(job, min(seconds, 1.0)):
            return True
        await asyncio.to_thread(job.resume_wrapper)
        seconds -= 1.0
    return await asyncio.to_thread(job.kill_stopped_wrapper) and await _wait_for_end(job, _KILL_SECONDS)


async def _wait_for_end(job: Job, seconds: float) -> bool:
    """Wait until the job's wrapper has gone; its handle becomes readable then, so that nobody has to look again and again."""
    process = await asyncio.to_thread(job.process)
    if process is None:
        return True
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if job.process() is None:  # so the handle may be that of another process
            return True
        return await _is_readable(handle, seconds)
    finally:
        os.close(handle)


async def _is_readable(handle: int, seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(handle, readable.set)
    try:
        async with asyncio.timeout(seconds):
            await readable.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
    return True


async def _kill_orphans(job: Job) -> None:
    deadline = asyncio.get_running_loop().time() + _KILL_SECONDS
    while await asyncio.to_thread(job.kill_orphans):
        if asyncio.get_running_loop().time() > deadline:
            raise TransientError(f"processes that job {job.job_id} left behind have not ended yet")
        await asyncio.sleep(_ORPHAN_SECONDS)
