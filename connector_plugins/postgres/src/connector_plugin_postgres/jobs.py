"""The jobs of one database: those that this host runs, and those that only the database knows of."""

import asyncio

from connector_core import TransientError
from connector_plugin_postgres import failures
from connector_plugin_postgres.config import Database
from connector_plugin_postgres.control import Alive, Control
from connector_plugin_postgres.job import Job, Request
from connector_plugin_postgres.ledger import Ending
from connector_plugin_postgres.logs import JobLog
from connector_plugin_postgres.manifest import Manifest

MOST_ENDED, MOST_BYTES = 200, 32 * 1024 * 1024
"""Jobs that are over and whose logs are kept, and the bytes of their logs and inline results."""

_LOOK_SECONDS = 0.1
_TERMINATE_SECONDS = 5.0


class Jobs:
    """Begins, finds and ends jobs.

    Args:
        name: what callers call the database.
        database: its settings.
    """

    def __init__(self, name: str, database: Database) -> None:
        self._name = name
        self._database = database
        self._control = Control(name, database)
        self._slots = asyncio.Semaphore(database.max_jobs)
        self._jobs: dict[str, Job] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End all statements of this host; what they did is undone."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._control.close()

    async def create(self, job_id: str, request: Request) -> None:
        """Begin a job, unless there is one of this name.

        Raises:
            ConnectorError: nothing of it was begun.
        """
        job = self._jobs.get(job_id)
        if job is None or job.was_refused:
            job = Job(job_id, request, self._name, self._database, self._control, self._slots)
            self._jobs[job_id] = job
            task = asyncio.get_running_loop().create_task(job.run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await job.accepted()
        self._forget()

    async def get(self, job_id: str, manifest: Manifest | None, *, transaction: bool) -> Ending | Alive | Job:
        """Return how a job ended, what runs it, or the job while it is this host's."""
        job = self._jobs.get(job_id)
        if job is not None and job.ending is not None:
            return job.ending
        if job is not None and job.is_here:
            return job
        # Asked before the row is: a job that has gone in between has left it.
        if (alive := await self._control.alive(job_id)) is not None:
            return alive
        ending = await self._control.find(job_id)
        if ending is None and manifest is not None:
            ending = await manifest.read()
        if ending is None:
            found = failures.lost(read_only=self._database.read_only, transaction=transaction)
            ending = await self._control.settle(job_id, found)
        return ending

    async def delete(self, job_id: str) -> None:
        """Cancel a job; return when nothing of it runs.

        Raises:
            TransientError: it does not end.
        """
        job = self._jobs.get(job_id)
        if job is not None:
            if job.ending is not None:
                return
            job.stop()
        if await self._control.cancel(job_id) and not await self._is_gone(job_id, self._database.cancel_grace):
            await self._control.terminate(job_id)
            if not await self._is_gone(job_id, _TERMINATE_SECONDS):
                raise TransientError(f"the backend of job {job_id} on connection {self._name!r} has not ended yet")
        # One that waits at a host, this one or another, finds the row when its turn comes.
        ending = await self._control.settle(job_id, failures.ABORTED)
        if job is not None and job.ending is None:
            job.end(ending)

    def log_of(self, job_id: str) -> JobLog | None:
        """Return a job's log, if this host has it."""
        job = self._jobs.get(job_id)
        return None if job is None else job.log

    async def _is_gone(self, job_id: str, patience: float) -> bool:
        deadline = asyncio.get_running_loop().time() + patience
        while (alive := await self._control.alive(job_id)) is not None and alive.pid:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
            # The first one is lost where it comes between two statements of the job's.
            await self._control.cancel(job_id)
        return True

    def _forget(self) -> None:
        """Keep the newest of the jobs that are over, as many as there is room for."""
        number, weight = 0, 0
        for key, job in reversed(list(self._jobs.items())):
            if job.is_here:
                continue
            number, weight = number + 1, weight + job.weight
            if number > MOST_ENDED or weight > MOST_BYTES:
                del self._jobs[key]
