"""The fake backend itself: its operations, the test's hand on them, and the record of all jobs."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from connector_core.testing.backend.backend_jobs import BackendCall, FakeBackendError, Job, JobState
from connector_core.testing.backend.held_requests import Hold, Request, Trouble
from connector_core.testing.backend.http_face import listen

T = TypeVar("T")

OPERATIONS = ("start", "status", "cancel")
PATIENCE = 30.0
"""Seconds after which a test that waits for something gives up; none should get near."""


class FakeBackend:
    """An external system in memory: it starts, shows and cancels jobs, and keeps a record of every job it ever started.

    May be used from any thread and event loop; a host runs plugin code on loops of its own.

    Args:
        is_idempotent: a start with the key of an earlier job returns that job. Otherwise keys are noted, and each start is
            a new job.
        finishes_after: a job succeeds by itself after so many status calls; never, unless set.

    Attributes:
        jobs: every job, in the order in which they were started.
        calls: every call that was served, with the HTTP status of its answer.
    """

    def __init__(self, *, is_idempotent: bool = True, finishes_after: int | None = None) -> None:
        self.jobs: list[Job] = []
        self.calls: list[BackendCall] = []
        self._is_idempotent = is_idempotent
        self._finishes_after = finishes_after
        self._lock = threading.RLock()
        self._by_id: dict[str, Job] = {}
        self._by_key: dict[str, Job] = {}
        self._troubles: list[Trouble] = []
        self._holds: dict[str, Hold] = {}
        self._watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    async def start(self, spec: Mapping[str, Any] | None = None, key: str | None = None) -> Job:
        """Start a job, or return the one of this key.

        Raises:
            FakeBackendError: as the test planned it, here and in the other operations.
        """
        return await self._serve("start", key, partial(self._start, spec or {}, key))

    async def status(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            FakeBackendError: with status 404 for a job that is not known (any more), here and in `cancel`.
        """
        return await self._serve("status", job_id, partial(self._status, job_id))

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job; one that has ended stays as it is."""
        return await self._serve("cancel", job_id, partial(self._cancel, job_id))

    def live_jobs(self, prefix: str = "") -> list[Job]:
        """Return the jobs that have not ended; with a `prefix`, those of them that `jobs_under` returns."""
        return [job for job in self.jobs_under(prefix) if job.is_live]

    def jobs_of(self, key: str) -> list[Job]:
        """Return every job that was started with an idempotency key."""
        with self._lock:
            return [job for job in self.jobs if job.key == key]

    def jobs_under(self, prefix: str) -> list[Job]:
        """Return every job whose output prefix, in its spec, begins so: with `EngineTask.prefix`, those of one task."""
        with self._lock:
            return [job for job in self.jobs if str(job.spec.get("output_prefix", "")).startswith(prefix)]

    def count(self, operation: str) -> int:
        """Return how many calls of an operation were served."""
        with self._lock:
            return Counter(call.operation for call in self.calls)[operation]

    def finish(self, job: Job, outputs: Mapping[str, Any] | None = None) -> None:
        """Let a job succeed."""
        self._end(job, JobState.SUCCEEDED, outputs=outputs or {})

    def fail(self, job: Job, message: str = "it failed") -> None:
        """Let a job fail."""
        self._end(job, JobState.FAILED, message=message)

    def purge(self, job: Job) -> None:
        """Let the backend know nothing of a job any more, as after its retention time; a live one runs on."""
        with self._lock:
            job.is_known = False
            job.history.append("purged")
        self._changed()

    def refuse(self, operation: str, status: int = 503, *, times: int | None = 1) -> None:
        """Answer the next calls with an error and do nothing; `times=None` until `heal`."""
        self._plan(Trouble(_known(operation), status, "refused", has_effect=False, times=times))

    def lose_reply(self, operation: str, status: int = 504, *, times: int | None = 1) -> None:
        """Do what the next calls ask for, but answer with an error; `times=None` until `heal`."""
        self._plan(Trouble(_known(operation), status, "the reply was lost", has_effect=True, times=times))

    def hold(self, operation: str) -> Hold:
        """Keep calls, before they have any effect, until the test lets them go."""
        return self._hold(operation, takes_effect=False)

    def hold_reply(self, operation: str) -> Hold:
        """Keep the answers to calls, which take effect at once, until the test lets them go."""
        return self._hold(operation, takes_effect=True)

    def heal(self) -> None:
        """Forget all planned trouble and let go what is held."""
        with self._lock:
            self._troubles.clear()
            holds = list(self._holds.values())
        for hold in holds:
            hold.release()

    async def until(self, condition: Callable[[], T], patience: float | None = PATIENCE) -> T:
        """Wait until something is true of this backend, and return it.

        Raises:
            TimeoutError: it is not, for `patience` seconds.
        """
        watcher = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._watchers.add(watcher)
        try:
            async with asyncio.timeout(patience):
                while not (found := condition()):
                    await watcher[1].wait()
                    watcher[1].clear()
                return found
        finally:
            with self._lock:
                self._watchers.discard(watcher)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Serve other processes on a free port of the loopback address, whose `host:port` is yielded; see `face`."""
        async with listen({"start": self.start, "status": self.status, "cancel": self.cancel}) as address:
            yield address

    async def _serve(self, operation: str, subject: str | None, effect: Callable[[], Job]) -> Job:
        with self._lock:
            request = Request(operation, subject, effect, self._trouble(operation))
            hold = self._holds.get(operation)
            if hold is None or hold.takes_effect:
                self._effect(request)
            if hold is None:
                request.is_answered = True
            else:
                hold.requests.append(request)
        self._changed()
        if not request.is_answered:
            await self.until(lambda: request.is_answered, patience=None)
        return request.answer()

    def _effect(self, request: Request) -> None:
        if request.take_effect():
            self.calls.append(BackendCall(request.operation, request.subject, request.status))

    def _release(self, hold: Hold) -> None:
        with self._lock:
            if self._holds.get(hold.operation) is hold:
                del self._holds[hold.operation]
            for request in hold.requests:
                self._effect(request)
                request.is_answered = True
        self._changed()

    def _start(self, spec: Mapping[str, Any], key: str | None) -> Job:
        if self._is_idempotent and key is not None and (known := self._by_key.get(key)) and known.is_known:
            known.history.append("started again")
            return known
        job = Job(f"job-{len(self.jobs) + 1}", key, dict(spec))
        self.jobs.append(job)
        self._by_id[job.id] = job
        if key is not None:
            self._by_key[key] = job
        return job

    def _status(self, job_id: str) -> Job:
        job = self._find(job_id)
        job.looks += 1
        if job.is_live and self._finishes_after is not None and job.looks >= self._finishes_after:
            self.finish(job)
        return job

    def _cancel(self, job_id: str) -> Job:
        job = self._find(job_id)
        job.history.append("cancelled" if job.is_live else "cancelled again")
        if job.is_live:
            job.state = JobState.CANCELLED
        return job

    def _find(self, job_id: str) -> Job:
        job = self._by_id.get(job_id)
        if job is None or not job.is_known:
            raise FakeBackendError(404, f"there is no job {job_id!r}")
        return job

    def _end(self, job: Job, state: JobState, outputs: Mapping[str, Any] | None = None, message: str = "") -> None:
        with self._lock:
            if not job.is_live:
                raise ValueError(f"{job.id} has ended already: it is {job.state}")
            job.state, job.outputs, job.message = state, outputs or {}, message
            job.history.append(str(state))
        self._changed()

    def _plan(self, trouble: Trouble) -> None:
        with self._lock:
            self._troubles.append(trouble)

    def _trouble(self, operation: str) -> Trouble | None:
        found = next((trouble for trouble in self._troubles if trouble.operation == operation), None)
        if found is not None and found.times is not None:
            found.times -= 1
            if found.times == 0:
                self._troubles.remove(found)
        return found

    def _hold(self, operation: str, *, takes_effect: bool) -> Hold:
        with self._lock:
            if operation in self._holds:
                raise ValueError(f"calls of {operation!r} are held already")
            hold = self._holds[_known(operation)] = Hold(operation, takes_effect, self.until, self._release)
        return hold

    def _changed(self) -> None:
        with self._lock:
            watchers: Sequence[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = tuple(self._watchers)
        for loop, event in watchers:
            with contextlib.suppress(RuntimeError):  # a loop that was closed with a call waiting on it
                loop.call_soon_threadsafe(event.set)


def _known(operation: str) -> str:
    if operation not in OPERATIONS:
        raise ValueError(f"the backend has no operation {operation!r}; it has {', '.join(OPERATIONS)}")
    return operation
